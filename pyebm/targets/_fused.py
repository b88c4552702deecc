"""Losses of learned targets in the kernel: the value and the gradient from one pass over the batch, no activation kept."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import _ops, reference
from .._derivatives import differentiated_again, reverse_alone, wanted
from .._schemas import NetworkLoss
from ._gradients import exact
from ._layers import unwrapped
from ._learned import Learned


class Terms(NamedTuple):
    """The loss of a sample, in the fields of :class:`NetworkLoss`: ``weight (1/2 |kappa s + z|^2 + trace sum_k v_k . (ds/dx)
    v_k)``; ``along`` puts ``sum_k (v_k . s)^2`` in the place of the square. Or, ``of_energy``, ``weight E + square E^2``.

    Numbers of each sample, in float32 or float64, are (B,). z is like x; v, (1 or B, K D) in the dtype that x is computed in,
    holds K directions for all samples or for each: the identity's rows give the exact trace.
    """

    weight: float = 1.0
    kappa: float = 1.0
    trace: float = 0.0
    square: float = 0.0
    along: bool = False
    weight_rows: Tensor | None = None
    kappa_rows: Tensor | None = None
    z: Tensor | None = None
    v: Tensor | None = None


def fused_loss(fn: Any, x: Tensor, terms: Terms, *, c: Any = None, of_energy: bool = False) -> Tensor | None:
    """The sum of the samples' losses in float32, or float64 for a float64 x; differentiable in x, in c and in the parameters of
    the target ``fn``, any number of times.

    None where the loss is left to composed operations: fn is no learned target, or is wrapped (DDP, ``torch.compile``); x is not on
    the CPU, no plain tensor, or followed in half precision; a tensor of the terms is differentiated; compiled code, forward mode
    or a transform follows.

    Raises as ``fn.score`` for an x or c that does not fit.
    """
    if not isinstance(fn, Learned) or type(x) not in (Tensor, torch.nn.Parameter) or not x.is_cpu:
        return None
    if unwrapped(fn.net) is not fn.net or (of_energy and not fn.has_energy):
        return None
    if x.requires_grad and x.dtype in (torch.float16, torch.bfloat16):  # whose gradient, multiplied later, would underflow
        return None
    of_terms = (terms.weight_rows, terms.kappa_rows, terms.z, terms.v)
    if not reverse_alone(x, *of_terms) or wanted(None, *of_terms):
        return None
    call = f"{type(fn).__name__}.{'energy' if of_energy else 'score'}"
    c = fn.c if c is None else fn._condition(call, c)
    reading = fn._fitting(call, x, c)
    with exact(x):
        numbers = fn._numbers_at(call, x, c, reading)
    if not reverse_alone(numbers.params, numbers.biases):
        return None
    kernels = _ops.kernels(None, x)
    if "network_loss" not in kernels:
        return None
    given = (x, numbers.params, numbers.biases)
    made: Tensor = _Loss.apply(*given, numbers.which, kernels, of_energy, terms, torch.is_grad_enabled())  # type: ignore[no-untyped-call]
    return made


class _Loss(torch.autograd.Function):
    """The pass leaves the gradient for grad_output = 1, and backward multiplies it by the real one, in place. A second backward
    through a retained graph makes it anew."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        params: Tensor,
        biases: Tensor | None,
        layout: Tensor,
        kernels: Any,
        of_energy: bool,
        terms: Terms,
        followed: bool,
    ) -> Tensor:
        ctx.save_for_backward(x, params, biases, terms.weight_rows, terms.kappa_rows, terms.z, terms.v)
        ctx.layout, ctx.kernels, ctx.of_energy, ctx.terms = layout, kernels, of_energy, terms
        loss, ctx.grads = _launched(ctx, x, params, biases, ctx.needs_input_grad[:3] if followed else (False,) * 3)
        return loss

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        x, params, biases, *_ = ctx.saved_tensors  # all of them, so that autograd notices if one is overwritten
        if differentiated_again(above):
            return (*_composed(ctx, (x, params, biases), above), *[None] * 5)
        grads, ctx.grads = ctx.grads, None
        if grads is None:
            _, grads = _launched(ctx, x, params, biases, ctx.needs_input_grad[:3])
        for grad in grads:
            if grad is not None:
                ctx.kernels["scale_"](grad, above)
        return (*grads, *[None] * 5)


def _launched(
    ctx: Any, x: Tensor, params: Tensor, biases: Tensor | None, needed: tuple[bool, ...]
) -> tuple[Tensor, list[Tensor | None]]:
    at_x, at_params, at_biases = needed
    terms = ctx.terms
    loss = params.new_empty(())
    grad = torch.empty_like(params) if at_params or at_biases else None
    grad_x = torch.empty_like(x) if at_x else None
    grad_biases = torch.empty_like(biases) if at_biases and biases is not None else None
    head = (loss, grad, x, ctx.layout, params, ctx.of_energy, *terms[:5])
    _ops.call(ctx.kernels["network_loss"], head, (*terms[5:], biases, grad_biases, grad_x))
    return loss, [grad_x, grad if at_params else None, grad_biases]


def _composed(ctx: Any, saved: tuple[Tensor | None, ...], above: Tensor) -> list[Tensor | None]:
    """The derivatives by operations that autograd can follow."""
    again, needed = torch.is_grad_enabled(), ctx.needs_input_grad[:3]
    with torch.enable_grad():
        # Views, since x may depend on the same parameters: that way is not this function's.
        x, params, biases = (None if tensor is None else tensor.view_as(tensor) for tensor in saved)
        assert x is not None
        assert params is not None
        with exact(x):
            work = reference.work_of(x)
            args = NetworkLoss._make((above, None, x, ctx.layout, params, ctx.of_energy, *ctx.terms, biases, None, None))
            losses = reference.losses_of(lambda at: reference.network_score_of(at, ctx.layout, params, biases), work, args)
            total = losses.double().sum().to(params.dtype)
        followed = [tensor for tensor, need in zip((x, params, biases), needed, strict=True) if need and tensor is not None]
        found = iter(torch.autograd.grad(total, followed, above, create_graph=again, materialize_grads=True))
    return [next(found) if need else None for need in needed]
