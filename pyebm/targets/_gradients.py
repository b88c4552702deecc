"""The derivatives of a learned energy and of its score: from the kernels, in one pass over the batch, where autograd asks for
them once; from plain operations where it goes on from them."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from .. import _ops, reference
from .._derivatives import differentiated_again


class Evaluation(torch.autograd.Function):
    """The energies (B,), or the score, by network_score. Its backward is network_grad."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, params: Tensor, biases: Tensor | None, layout: Tensor, kernels: Any, energy: bool) -> Tensor:
        ctx.save_for_backward(x, params, biases)
        ctx.layout, ctx.kernels, ctx.energy = layout, kernels, energy
        return evaluated(kernels, x, layout, params, biases, energy)

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        if differentiated_again(above):
            return (*_composed(ctx, saved, above), None, None, None)
        x, params, biases = saved
        at_x, at_params, at_biases = ctx.needs_input_grad[:3]
        grad_x = torch.empty_like(x) if at_x else None
        grad_biases = torch.empty_like(biases) if at_biases else None
        grad = torch.empty_like(params) if at_params or at_biases else None
        of_energy, of_score = (above.contiguous(), None) if ctx.energy else (None, above)
        _ops.call(ctx.kernels["network_grad"], (grad, x, ctx.layout, params), (of_energy, of_score, biases, grad_biases, grad_x))
        return grad_x, grad if at_params else None, grad_biases, None, None, None


def evaluated(kernels: Any, x: Tensor, layout: Any, params: Tensor, biases: Tensor | None, energy: bool) -> Tensor:
    made = x.new_empty(x.shape[:1], dtype=params.dtype) if energy else torch.empty_like(x)
    score, energies = (None, made) if energy else (made, None)
    _ops.call(kernels["network_score"], (score, x, layout, params), (biases, energies))
    return made


def _composed(ctx: Any, saved: tuple[Tensor | None, ...], above: Tensor) -> list[Tensor | None]:
    """The derivatives by operations that autograd can follow."""
    again, needed = torch.is_grad_enabled(), ctx.needs_input_grad[:3]
    with torch.enable_grad():
        # Views, since x may depend on the same parameters: that way is not this function's.
        x, params, biases = (None if tensor is None else tensor.view_as(tensor) for tensor in saved)
        assert x is not None
        assert params is not None
        with exact(x):
            score, energy = reference.network_score_of(x, ctx.layout, params, biases)
        value = energy if ctx.energy else score
        assert value is not None
        followed = [tensor for tensor, need in zip((x, params, biases), needed, strict=True) if need and tensor is not None]
        found = iter(torch.autograd.grad(value, followed, above, create_graph=again, materialize_grads=True))
    return [next(found) if need else None for need in needed]


def exact(x: Tensor) -> Any:
    """A context without autocast, which would round what a kernel does not."""
    if x.is_meta or not torch.is_autocast_enabled(x.device.type):
        return _NOTHING
    return torch.autocast(x.device.type, enabled=False)


_NOTHING = nullcontext()
