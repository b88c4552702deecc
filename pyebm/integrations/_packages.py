"""Other people's packages: the versions that the adapters were tested with, and the messages for a
package that is missing or of an untested version."""

from __future__ import annotations

import importlib
import importlib.util
import re
import warnings
from importlib.metadata import version
from types import ModuleType

# module: (distribution, first version tested, first version beyond, extra that installs it).
# pyproject.toml says the same.
TESTED = {
    "diffusers": ("diffusers", "0.35", "0.43", "integrations"),
    "torchebm": ("torchebm", "0.8.9", "0.9", "integrations"),
    "ebm": ("ebmkit", "0.16", "0.17", "integrations"),
    "k_diffusion": ("k-diffusion", "0.1.1", "0.2", "k-diffusion"),
}


def require(module: str) -> ModuleType:
    """Import the package that an adapter is made for.

    Raises ImportError if it is missing, naming the extra that installs it; warns of a version that
    was not tested.
    """
    distribution, first, beyond, extra = TESTED[module]
    if importlib.util.find_spec(module) is None:
        raise ImportError(
            f"this adapter needs {distribution}, which is not installed: pip install"
            f" 'pyebm-kernels[{extra}]', or {distribution}"
        )
    found = version(distribution)
    if not _numbers(first) <= _numbers(found) < _numbers(beyond):
        warnings.warn(
            f"pyebm's adapter was tested with {distribution} >= {first}, < {beyond}; found {found}",
            RuntimeWarning,
            stacklevel=3,
        )
    return importlib.import_module(module)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
