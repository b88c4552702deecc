"""Plain steps of a loop on the CPU: calls the ops' kernels directly, without torch's dispatcher."""

from __future__ import annotations

import ctypes
import functools
import math
from typing import Any, TypeVar

import torch
from torch import Tensor

from .. import _ops, _plain_args
from ._run import Run


@functools.cache
def _entry(op: str) -> Any:
    entry = _plain_args.entry(op)
    entry.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    return entry


# The first two count the active modes (a tracer, a counter of operations, a fake device), which
# must see every op. All three have short names here since every step reads them.
_dispatch_modes, _function_modes, _strided = (
    torch._C._len_torch_dispatch_stack,
    torch._C._len_torch_function_stack,
    torch.strided,
)


_Plain = TypeVar("_Plain", bound="Plain")


class Plain:
    """A step in place with the noise of step k and the bits of an op.

    Between two calls of a small network the dispatcher costs ten times the kernel
    (docs/performance.md). A call that it can't take (a score of another dtype or layout, on another
    device, numbers that the op refuses) does nothing and returns False: then the op takes the call,
    or says what is wrong. It also returns False if the state is no longer the same tensor, since
    score functions and callbacks may do anything with it, and while a mode is active, since a mode
    sees ops only.
    """

    op: str
    arguments: type[Any]

    @classmethod
    def for_run(
        cls: type[_Plain], run: Run, backend: str | None, tail: tuple[Any, ...], stream: int = 0
    ) -> _Plain | None:
        """The plain step for a run. None if the op is needed: for other backends, devices and
        types, half precisions, options, in compiled code, and while a mode is active.

        stream: counted from the noise's own.
        """
        if torch.compiler.is_compiling():
            return None
        x = run.x
        watched = run.followed or torch._C._autograd._profiler_enabled()
        plain = (
            type(x) is Tensor and x.is_cpu and x.dtype in (torch.float32, torch.float64) and x.is_contiguous()
        )
        simple = plain and not tail and not watched and not (_dispatch_modes() or _function_modes())
        return cls(run, stream) if simple and run.kernels(backend) is _ops._REGISTERED else None

    def __init__(self, run: Run, stream: int) -> None:
        self.x, self.shape, self.dtype, self.entry = run.x, run.x.shape, run.x.dtype, _entry(self.op)
        self.pointer, self.storage, self.bytes = run.x.data_ptr(), run.x.untyped_storage(), run.x.nbytes
        key, first_sample, _, own = run.noise._name.tolist()
        elements = run.x.numel() // max(run.x.shape[0], 1)
        call = _plain_args.Call(
            run.x.shape[0], elements, run.x.dtype == torch.float64, key, first_sample, own + stream
        )
        self.plain = self.arguments(call)
        self.address = ctypes.addressof(self.plain)

    def __call__(self, score: Tensor, k: int) -> bool:
        x = self.x
        done: bool = (
            type(score) is Tensor
            and score.dtype is self.dtype
            and score.layout is _strided
            and score.is_cpu
            and score.shape == self.shape
            and score.is_contiguous()
            and not score.is_neg()
            and score.untyped_storage().nbytes() >= self.bytes
            and x.data_ptr() == self.pointer
            and x.shape == self.shape
            and x.dtype is self.dtype
            and x.is_contiguous()
            and self.storage.nbytes() >= self.bytes
            and not _dispatch_modes()
            and not _function_modes()
            and self.entry(self.address, self.pointer, score.data_ptr(), k)
        )
        return done


class PlainStep(Plain):
    """The plain step with the bits of the op ``affine_step``."""

    op, arguments = "affine_step", _plain_args.structure("affine_step")

    def set(self, a: float, b: float, c: float) -> None:
        self.plain.a, self.plain.b, self.plain.c = a, b, c

    def set_langevin(self, step_size: float, temperature: float) -> None:
        self.set(1.0, step_size, math.sqrt(2.0 * step_size * temperature))


class PlainCorrector(Plain):
    """The plain step with the bits of the op ``corrector_step``."""

    op, arguments = "corrector_step", _plain_args.structure("corrector_step")

    def set(self, factor: float, together: bool) -> None:
        self.plain.factor, self.plain.together = factor, together
