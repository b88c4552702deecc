"""Small calls in one compiled step: at a few hundred numbers Python's checks and torch's dispatcher
take longer than the kernel (docs/small-calls.md).

csrc/cpu/python/small_calls.cpp takes *plain* calls: contiguous float32 or float64 tensors on the
CPU, with at most 2**15 elements, that no derivative follows (a loss's prediction may be followed by
autograd); coefficients that are numbers or hold one value per sample; no options, the default
backend; and nothing active that wants to see every op, such as a mode, a transform, a tracer or a
profiler. The op makes its own checks there too, so the compiled step only has to know which calls
are plain. It gives the same bits, raises nothing of its own, and returns None for every other call,
which then goes its way through Python.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.compiler import is_dynamo_compiling

from . import _ops

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _compiled() -> Any:
    """The compiled library as a Python module; None where there is none, as without Python.h."""
    if _ops._why_no_cpu is not None:
        return None
    try:
        return importlib.import_module("pyebm._C")
    except ImportError:
        return None


_C = _compiled()


def step_of(name: str) -> Callable[..., Any]:
    """The compiled step of this name; without the library a function that takes no call."""
    return getattr(_C, name, None) or (lambda *_, **__: None)


def in_one_step(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Decorates a public function so that the compiled step of its name is tried first."""
    step = getattr(_C, function.__name__, None)
    if step is None:
        return function

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        if not is_dynamo_compiling():
            made: _R | None = step(*args, **kwargs)
            if made is not None:
                return made
        return function(*args, **kwargs)

    return call


def prepare(noise: type) -> None:
    """Gives the compiled steps what they need of Python and torch; until then, and where a torch
    lacks any of it, they take no call."""
    if _C is None:
        return
    try:
        handle_of = torch._C._aoti.unsafe_alloc_void_ptr_from_tensor
        tensor_of = torch._C._aoti.alloc_tensor_by_stealing_from_void_ptr
        watchers = (
            torch._C._len_torch_dispatch_stack,
            torch._C._len_torch_function_stack,
            torch._C._functorch.maybe_current_level,
            torch._C._is_tracing,
            torch._C._autograd._profiler_enabled,
        )
        # In spite of its name torch's function copies the handle's tensor and leaves the handle to
        # the caller. Of a torch where it did not, the compiled steps would free the handle twice.
        probe = torch.empty(0, device="cpu")
        before = probe._use_count()  # type: ignore[attr-defined]
        tensor_of(handle_of(probe))
        if probe._use_count() != before + 1:  # type: ignore[attr-defined]
            return
    except AttributeError:
        return
    kinds = (Tensor, noise, torch.float32, torch.float64, torch.device("cpu"))
    written = torch.autograd.graph.increment_version
    _C.prepare(*kinds, handle_of, tensor_of, Tensor.is_neg, written, vars(forward_ad), *watchers)


def prepare_losses(reductions: dict[str, int], kernels: Any, node: Callable[..., Tensor]) -> None:
    """Gives the compiled losses the reductions' codes, the ops, and what makes autograd's node."""
    if _C is not None:
        _C.prepare_losses(reductions, kernels, node)
