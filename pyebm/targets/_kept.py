"""The numbers that a target's kernels take, kept for as long as its tensors hold the values that they were made of.

A version counter does not know of a write through ``.data`` or ``.numpy()``, of a collective or of ``swap_tensors``. So the values
themselves are looked at in every call, which docs/targets.md has the price of.
"""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from .. import _ops


_PLAIN = (Tensor, nn.Parameter)


def readable(tensors: Sequence[Tensor]) -> bool:
    """Whether Python may look at the values: on the CPU, and not those of a tracer, a transform or a subclass."""
    if (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._functorch.peek_interpreter_stack() is not None
    ):
        return False
    for tensor in tensors:
        if not tensor.is_cpu or type(tensor) not in _PLAIN:
            return False
    return True


def differentiated(tensors: Sequence[Tensor]) -> bool:
    """Whether a derivative with respect to one of them is wanted, backward or forward."""
    if torch.is_grad_enabled():
        for tensor in tensors:
            if tensor.requires_grad:
                return True
    if forward_ad._current_level < 0:  # type: ignore[attr-defined]
        return False
    return any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors)


class Kept:
    """Numbers, and the values of the tensors that they were made of."""

    def __init__(self, make: Callable[[], Tensor], tensors: list[Tensor]) -> None:
        # The values first: a write by another thread in between is then seen by the next call.
        self.values = [t.item() if t.dim() == 0 else t.detach().clone(memory_format=torch.contiguous_format) for t in tensors]
        self.numbers = make()

    def still(self, tensors: list[Tensor]) -> bool:
        """Whether these tensors hold the same values, to the bit."""
        if len(tensors) != len(self.values):
            return False
        for tensor, then in zip(tensors, self.values):  # noqa: B905 (strict costs as much as a number's comparison)
            if isinstance(then, Tensor):
                if not _same(tensor, then):
                    return False
                continue
            if tensor.dim():
                return False
            now = tensor.item()
            if now != then or (not now and math.copysign(1.0, now) != math.copysign(1.0, then)):
                return False
        return True


def _same(now: Tensor, then: Tensor) -> bool:
    if now.shape != then.shape or now.dtype is not then.dtype:
        return False
    if now.is_contiguous() and _ops._why_no_cpu is None:
        return bool(_entry()(now.data_ptr(), then.data_ptr(), then.nbytes))
    return torch.equal(now, then)


@functools.cache
def _entry() -> Any:
    entry = _ops.library().pyebm_same
    entry.argtypes, entry.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64], ctypes.c_bool
    return entry
