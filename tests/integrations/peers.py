"""The real packages, for the tests that compare with them: skipped where one is missing, failing
under `make integrations`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

REQUIRED = "PYEBM_REQUIRE_INTEGRATIONS" in os.environ

# What k-diffusion imports besides what its losses and samplers use: tools for images and their
# evaluation. Empty modules stand in for those that are missing, while it is imported.
_IMAGE_TOOLS = (
    "skimage",
    "jsonmerge",
    "torchvision",
    "torchvision.transforms",
    "cleanfid",
    "cleanfid.inception_torchscript",
    "clip",
)


class _StandIn(types.ModuleType):
    """Anything one asks of it is a class."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []  # a package, as far as import is concerned

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return object


@contextmanager
def _stand_ins() -> Iterator[None]:
    missing = [name for name in _IMAGE_TOOLS if importlib.util.find_spec(name.partition(".")[0]) is None]
    sys.modules.update({name: _StandIn(name) for name in missing})
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]


def package(name: str) -> types.ModuleType:
    """Import ``name``; skip the importing test module, saying what to run, where it is missing and
    not required."""
    if importlib.util.find_spec(name.partition(".")[0]) is None and not REQUIRED:
        pytest.skip(
            f"{name} is not installed; `make integrations` installs it and runs this", allow_module_level=True
        )
    if name == "k_diffusion":
        with _stand_ins():
            return importlib.import_module(name)
    return importlib.import_module(name)
