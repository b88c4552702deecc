"""network_loss past torch's dispatcher, which takes as long as a small network's samples
(docs/performance.md)."""

from __future__ import annotations

import ctypes
import functools
import struct
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._C import _functorch

from .. import _ops, _plain_args
from ._wiring import Given

if TYPE_CHECKING:
    from ._fused import Terms

_dispatch_modes, _function_modes = torch._C._len_torch_dispatch_stack, torch._C._len_torch_function_stack
_profiled, _tracing = torch._C._autograd._profiler_enabled, torch._C._is_tracing


def plain_loss(
    loss: Tensor, grad: Tensor | None, x: Tensor, given: Given, params: Tensor, of_energy: bool, terms: Terms
) -> bool:
    """Writes params, the loss and the parameters' gradient, with the bits of the op; or does
    nothing and returns False, if the op has to take the call or has to say what is wrong.

    It takes x, v and the parameters where they lie in memory as the op computes with them, weights
    of the samples in float64, and noise that has neither seeds nor ids. A mode or a profiler sees
    ops only. loss, grad and params are new tensors.
    """
    kappa_rows, z, name, seeds, ids, v, rows = (*terms[6:], terms.weight_rows)
    if (
        not given.whole
        or given.biases is not None
        or not (kappa_rows is None and z is None and seeds is None and ids is None)
        or not _lies(x, params.dtype)
        or not (v is None or _lies(v, params.dtype))
        or not (rows is None or _lies(rows, torch.float64))
        or _dispatch_modes()
        or _function_modes()
        or _profiled()
        or _tracing()
        or _ops._why_no_cpu is not None
    ):
        return False
    count, samples = x.numel(), x.shape[0]
    if not count:
        return False
    seed, first, step, stream = (0, 0, 0, 0) if name is None else name.tolist()
    elements = count // samples
    wiring = given.wiring
    numbers = _pack(
        *(samples, elements, params.dtype is torch.float64, seed, first, stream),
        *(step, name is not None, of_energy, terms.along),
        *(terms.weight, terms.kappa, terms.trace, terms.square),
        *(x.data_ptr(), 0 if rows is None else rows.data_ptr()),
        *((0, 0, 0) if v is None else (v.data_ptr(), v.numel(), v.shape[1] // elements)),
        *(wiring.layout.data_ptr(), len(wiring.layout)),
        *(loss.data_ptr(), loss.numel(), loss.dtype is torch.float64),
        *(params.data_ptr(), 0 if grad is None else grad.data_ptr()),
    )
    entry, pack, sizes = _entry(wiring.sizes, params.itemsize)
    return bool(entry(numbers, pack(*[part.data_ptr() for part in given.parts]), sizes, len(given.parts)))


def _lies(tensor: Tensor, dtype: torch.dtype) -> bool:
    """Whether the tensor lies in memory as the op computes with it."""
    return (
        tensor.dtype is dtype
        and tensor.is_contiguous()
        and not tensor.is_neg()
        and not _functorch.is_functorch_wrapped_tensor(tensor)
        and tensor.untyped_storage().nbytes() >= tensor.nbytes
    )


_FIELDS = (*_plain_args.CALL, *_plain_args.LOSS)
_pack = struct.Struct("=" + "".join("d" if kind == "float" else "q" for _, kind in _FIELDS)).pack


@functools.lru_cache(maxsize=64)
def _entry(sizes: tuple[int, ...], itemsize: int) -> tuple[Any, Any, Any]:
    """The library's function, and what makes its last arguments for parts of these sizes: that of
    their addresses, and the sizes."""
    entry = _plain_args.entry("network_loss")
    entry.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int64]
    count = len(sizes)
    return (
        entry,
        struct.Struct(f"={count}q").pack,
        struct.pack(f"={count}q", *(size * itemsize for size in sizes)),
    )
