"""The packages whose own code stands beside ours. One that is missing is named in the report, with what would install it."""

from __future__ import annotations

import functools
import importlib
import warnings
from types import ModuleType

# Name in the report: (module to import, distribution on PyPI).
DISTRIBUTIONS = {
    "torchebm": ("torchebm", "torchebm"),
    "ebmkit": ("ebm", "ebmkit"),
    "k-diffusion": ("k_diffusion", "k-diffusion"),
    "diffusers": ("diffusers", "diffusers"),
}
HOW = "pip install 'pyebm-kernels[bench]'"


class Missing(Exception):
    """A rival that can't stand here, and why."""


@functools.cache
def _find(name: str) -> ModuleType | str:
    module, distribution = DISTRIBUTIONS[name]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # their deprecations are theirs
            return importlib.import_module(module)
    except ImportError as error:
        return f"{distribution} is not usable here ({error}); {HOW}"


def get(name: str, submodule: str = "") -> ModuleType:
    """The rival's module, or one inside it; raises Missing."""
    found = _find(name)
    if isinstance(found, str):
        raise Missing(found)
    if not submodule:
        return found
    try:
        return importlib.import_module(f"{found.__name__}.{submodule}")
    except ImportError as error:
        raise Missing(f"{DISTRIBUTIONS[name][1]} has no {submodule} that loads here ({error})") from error


def missing() -> dict[str, str]:
    """Every rival that is not here, and why."""
    return {name: found for name in DISTRIBUTIONS if isinstance(found := _find(name), str)}
