"""Imports the real packages for the tests that compare with them; a test is skipped where its
package is missing, but fails under `make integrations`."""

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

# k-diffusion imports these tools for images and their evaluation, which its losses and samplers
# don't use. Empty modules stand in for the missing ones during its import.
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
    """A module whose every attribute is a class."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []  # makes it a package, as far as import is concerned

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
    """Imports ``name``. Where it is missing and not required, skips the importing test module
    and says what to run."""
    if importlib.util.find_spec(name.partition(".")[0]) is None and not REQUIRED:
        pytest.skip(
            f"{name} is not installed; `make integrations` installs it and runs this", allow_module_level=True
        )
    if name == "k_diffusion":
        with _stand_ins():
            return importlib.import_module(name)
    return importlib.import_module(name)
