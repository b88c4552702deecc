"""The facts that a bug report needs: versions, machine, backends."""

from __future__ import annotations

import platform

import torch

from . import _ops
from ._version import __version__


def show_versions() -> None:
    """Prints what a bug report needs: the versions, the machine, and each backend, with the reason
    where it is not available.

    Example:
        >>> import pyebm
        >>> pyebm.show_versions()  # doctest: +ELLIPSIS
        pyebm ..., torch ..., Python ...
    """
    print(
        f"pyebm {__version__}, torch {torch.__version__}, Python {platform.python_version()},"
        f" {platform.platform()}"
    )
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    print(f"CPU threads {torch.get_num_threads()}, CUDA device: {device}")
    backends = _ops.backends()
    for name, status in backends.items():
        print(f"  {name:10s} {'available' if status is True else f'not available: {status}'}")
    if backends["cpu"] is True:
        print(f"SIMD level of the CPU kernels: {_ops.simd()}")
