"""The packages whose own code stands beside ours. The report names each that is missing, and how
to install it."""

from __future__ import annotations

import functools
import importlib
import sys
import warnings
from types import ModuleType

# Name in the report: (module to import, distribution on PyPI).
DISTRIBUTIONS = {
    "torchebm": ("torchebm", "torchebm"),
    "ebmkit": ("ebm", "ebmkit"),
    "k-diffusion": ("k_diffusion", "k-diffusion"),
    "diffusers": ("diffusers", "diffusers"),
    "JAX": ("jax", "jax"),
    "blackjax": ("blackjax", "blackjax"),
}
# Packages without an adapter of ours: the table of docs/integrations-figures.md says why.
CONSIDERED = {
    "deepinv": ("deepinv.sampling", "deepinv"),
    "sbi": ("sbi.neural_nets.estimators", "sbi"),
    "flow_matching": ("flow_matching.path", "flow_matching"),
}
HOW = "pip install 'pyebm-kernels[bench]'"
HOW_K_DIFFUSION = (
    "pip install --no-deps k-diffusion dctorch, beside the bench extra: what it requires would bring numpy 1"
)
# k-diffusion and deepinv import these image tools at once, and their losses and samplers never use
# them: empty modules stand in for those that aren't installed.
UNUSED = {
    "k-diffusion": {"skimage", "jsonmerge", "torchvision", "cleanfid", "clip", "kornia", "wandb"},
    "deepinv": {"torchvision", "torchmetrics", "h5py", "natsort"},
}


class Missing(Exception):
    """A rival can't run here; the message says why."""


@functools.cache
def _find(name: str) -> ModuleType | str:
    module, distribution = (DISTRIBUTIONS | CONSIDERED)[name]
    how = f"pip install {distribution}" if name in CONSIDERED else HOW
    stand_ins: list[str] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # their deprecations are not ours to report
            return _import(module, UNUSED.get(name, set()), stand_ins)
    except Exception as error:  # a package that breaks during its import counts as missing too
        return (
            f"{distribution} is not usable here ({error});"
            f" {HOW_K_DIFFUSION if name == 'k-diffusion' else how}"
        )
    finally:
        for stand_in in stand_ins:
            del sys.modules[stand_in]


def _import(module: str, unused: set[str], stand_ins: list[str]) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        lacking = error.name or ""
        if lacking in stand_ins or lacking.partition(".")[0] not in unused:
            raise
    sys.modules[lacking] = _Empty(lacking)
    parent, _, child = lacking.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, sys.modules[lacking])
    stand_ins.append(lacking)
    return _import(module, unused, stand_ins)


class _Empty(ModuleType):
    """A package whose attributes are all empty classes."""

    __path__: list[str] = []  # noqa: RUF012 (a module's attribute)

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return object


def get(name: str, submodule: str = "") -> ModuleType:
    """Returns the rival's module, or a module inside it; raises Missing."""
    found = _find(name)
    if isinstance(found, str):
        raise Missing(found)
    if not submodule:
        return found
    try:
        return importlib.import_module(f"{found.__name__}.{submodule}")
    except ImportError as error:
        raise Missing(
            f"{(DISTRIBUTIONS | CONSIDERED)[name][1]} has no {submodule} that loads here ({error})"
        ) from error


def missing() -> dict[str, str]:
    """Every rival that can't run here, and why."""
    return {name: found for name in DISTRIBUTIONS if isinstance(found := _find(name), str)}
