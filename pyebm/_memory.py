"""Memory for results: in large pages where there is much of it, and copies that wait for no other
thread."""

from __future__ import annotations

import ctypes
import functools
import mmap
from typing import Any

import torch
from torch import Tensor

from ._checks import PLAIN
from ._derivatives import checkable

_LARGE = 1 << 20  # elements: malloc may take so much memory from the system for each call anew
_PAGE = 1 << 21  # bytes of a large page
_ALONE = 1 << 15  # elements: torch copies fewer on the calling thread
_TOGETHER = 1 << 20  # more are copied faster by several threads, even if one of them is held up


def empty_like(x: Tensor) -> Tensor:
    """``torch.empty_like(x)`` for a kernel's result."""
    return in_large_pages(torch.empty_like(x))


def in_large_pages(out: Tensor) -> Tensor:
    """``out``, of whose memory nothing has been written. If it is large, the system is asked for
    large pages: at the first write it would else stop for every 4 KiB, which takes longer than the
    kernel (benchmarks/large_pages.py)."""
    if torch.compiler.is_compiling() or out.numel() < _LARGE or (advise := _advise()) is None:
        return out
    if checkable(out) and not torch._C._functorch.is_functorch_wrapped_tensor(out):
        begin = -(-out.data_ptr() // _PAGE) * _PAGE
        end = (out.data_ptr() + out.nbytes) // _PAGE * _PAGE
        advise(begin, max(end - begin, 0), mmap.MADV_HUGEPAGE)  # a refusal changes no result
    return out


@functools.cache
def _advise() -> Any:
    """The C library's madvise, or None where there are no large pages to ask for."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    advise = getattr(ctypes.CDLL(None), "madvise", None)
    if advise is not None:
        advise.argtypes, advise.restype = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int], ctypes.c_int
    return advise


def copy_of(x: Tensor) -> Tensor:
    """``x.clone()``, for an x that no derivative follows. Torch copies a tensor of middling size on
    all threads and waits for the last one, which takes milliseconds beside other work; here the
    calling thread does it alone."""
    if torch.compiler.is_compiling() or x.numel() < _ALONE:
        return x.clone()
    plain = type(x) in PLAIN and x.is_contiguous() and not x.is_neg()
    if not plain or x.requires_grad or not checkable(x):
        return x.clone()
    out = empty_like(x)
    if x.numel() > _TOGETHER:
        return out.copy_(x)
    ctypes.memmove(out.data_ptr(), x.data_ptr(), x.nbytes)
    return out
