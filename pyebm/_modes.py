"""Autograd's modes for the length of a call, safe from signals."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.compiler import is_compiling

Result = TypeVar("Result")
Function = TypeVar("Function", bound=Callable[..., Any])


def in_mode(call: Callable[[], Result], *, grad: bool, inference: bool = False) -> Result:
    """``call()`` with autograd's reverse mode and inference mode on or off. The caller's modes are
    restored, whatever is raised.

    ``torch.no_grad`` does not promise that: its ``__enter__`` and ``__exit__`` are Python, and
    Ctrl-C between two of their lines leaves the whole thread without gradients. Here each change of
    a mode is one call into C, and the interpreter looks for a signal only after that call.
    """
    # Compiled code is safe as it is: no signal comes between its lines, and inference mode does not
    # change it.
    if is_compiling():
        with torch.set_grad_enabled(grad):
            return call()
    if torch.is_inference_mode_enabled() == inference:
        before = torch.is_grad_enabled()
        try:
            torch._C._set_grad_enabled(grad)
            return call()
        finally:
            torch._C._set_grad_enabled(before)
    guard = torch._C._InferenceMode(inference)
    try:
        guard.__enter__()
        torch._C._set_grad_enabled(grad)
        return call()
    finally:
        guard.__exit__(None, None, None)  # restores the reverse mode too


def without_grad(function: Function) -> Function:
    """The decorator ``torch.no_grad()``, safe from signals as :func:`in_mode` is."""

    @functools.wraps(function)
    def run(*args: Any, **options: Any) -> Any:
        call = functools.partial(function, *args, **options)
        return in_mode(call, grad=False, inference=torch.is_inference_mode_enabled())

    return run  # type: ignore[return-value]
