"""The step of a loop on the CPU that needs nothing else: the op's kernel, without the way through torch's dispatcher."""

from __future__ import annotations

import ctypes
import functools
import math
from typing import Any

import torch
from torch import Tensor

from .. import _ops
from ._body import Run


class _Plain(ctypes.Structure):
    """As csrc/cpu/langevin.cpp has it."""

    _fields_ = (
        *[(name, ctypes.c_int64) for name in ("samples", "elements", "is_double")],
        *[(name, ctypes.c_double) for name in ("a", "b", "c")],
        *[(name, ctypes.c_int64) for name in ("seed", "first_sample", "stream")],
    )


@functools.cache
def _entry() -> Any:
    entry = _ops.library().pyebm_affine_step
    entry.argtypes, entry.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64], ctypes.c_bool
    return entry


class PlainStep:
    """``x = (a x + b score) + c z`` in place, the noise that of step k: the bits of the op ``affine_step``.

    Between two calls of a small network the dispatcher costs ten times the kernel (docs/performance.md). A call that is not for it
    (a score of another dtype or layout, on another device) does nothing and returns False: the op takes it, or says what is wrong.
    """

    @staticmethod
    def of(run: Run, backend: str | None, tail: tuple[Any, ...]) -> PlainStep | None:
        """None where the op is needed: other backends and devices, half precisions, options, torch.compile, a profiler's view."""
        x = run.x
        watched = torch.compiler.is_compiling() or torch._C._autograd._profiler_enabled()
        plain = x.is_cpu and x.dtype in (torch.float32, torch.float64) and x.is_contiguous() and not tail and not watched
        return PlainStep(run) if plain and run.kernels(backend) is _ops._REGISTERED else None

    def __init__(self, run: Run) -> None:
        self.x, self.shape, self.dtype, self.entry = run.x, run.x.shape, run.x.dtype, _entry()
        samples = run.x.shape[0]
        key, first_sample, _, stream = run.noise._name.tolist()
        elements = run.x.numel() // max(samples, 1)
        self.plain = _Plain(samples, elements, run.x.dtype == torch.float64, 1.0, 0.0, 0.0, key, first_sample, stream)
        self.address = ctypes.addressof(self.plain)

    def set_langevin(self, step_size: float, temperature: float) -> None:
        self.plain.b, self.plain.c = step_size, math.sqrt(2.0 * step_size * temperature)

    def __call__(self, score: Tensor, k: int) -> bool:
        done: bool = (
            type(score) is Tensor
            and score.dtype is self.dtype
            and score.layout is torch.strided
            and score.is_cpu
            and score.shape == self.shape
            and score.is_contiguous()
            and not score.is_neg()
            and self.entry(self.address, self.x.data_ptr(), score.data_ptr(), k)
        )
        return done
