"""The copy of a chain's start."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from ._checks import PLAIN
from ._derivatives import checkable

_ALONE = 32768  # elements: torch copies fewer on the calling thread
_TOGETHER = 1 << 20  # more are copied faster by several threads, even if one of them is held up


def copy_of(x: Tensor) -> Tensor:
    """``x.clone()``, for an x that no derivative follows. Torch copies a tensor of middling size on
    all threads and waits for the last one, which takes milliseconds beside other work; here the
    calling thread does it alone."""
    if torch.compiler.is_compiling() or not _ALONE <= x.numel() <= _TOGETHER:
        return x.clone()
    if type(x) not in PLAIN or x.requires_grad or not x.is_contiguous() or not checkable(x):
        return x.clone()
    out = torch.empty_like(x)
    ctypes.memmove(out.data_ptr(), x.data_ptr(), x.nbytes)
    return out
