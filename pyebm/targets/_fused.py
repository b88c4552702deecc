"""Losses of learned targets in the kernel: one pass over the batch gives value and gradient, and
keeps no activation."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor

from .. import _composed, _ops, _small_calls
from .._derivatives import checkable, differentiated_again, reverse_alone, wanted
from .._modes import in_mode
from .._schemas import NetworkLoss
from ._gradients import Into, Kept
from ._learned import Learned
from ._wiring import BIASES, PARAMS, Given, X, copied


class Terms(NamedTuple):
    """The loss of a sample, in the fields of :class:`NetworkLoss`:
    ``weight (1/2 |kappa s + z|^2 + trace sum_k v_k . (ds/dx) v_k)``; with ``along``
    ``sum_k (v_k . s)^2`` replaces the square; with ``of_energy`` it is ``weight E + square E^2``.

    A coefficient with one number per sample is (B,), in float32 or float64. z is like x; with the
    tensors that name a noise, z is that noise and x is perturbed first, x + kappa z. v is
    (1 or B, K D), in the dtype that x is computed in: K directions for all samples or for each. The
    rows of the identity as directions give the exact trace.
    """

    weight: float = 1.0
    kappa: float = 1.0
    trace: float = 0.0
    square: float = 0.0
    along: bool = False
    weight_rows: Tensor | None = None
    kappa_rows: Tensor | None = None
    z: Tensor | None = None
    name: Tensor | None = None
    seeds: Tensor | None = None
    ids: Tensor | None = None
    v: Tensor | None = None

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        return self[5:]

    def weighing(self, weight: float, rows: Tensor | None) -> Terms:
        """The same terms with another weight; it takes less than half of ``_replace``."""
        return Terms(weight, *self[1:5], rows, *self[6:])

    def weighted(self, by: Tensor) -> Tensor:
        """The weights of the samples times ``by``, (B,)."""
        return by * (self.weight if self.weight_rows is None else self.weight_rows)


def fused_loss(
    fn: Any,
    x: Tensor,
    terms: Terms,
    *,
    c: Any = None,
    of_energy: bool = False,
    by_sample: bool = False,
    losses: Tensor | None = None,
) -> Tensor | None:
    """The sum of the samples' losses, or the losses themselves, (B,); in float32, or float64 for a
    float64 x; differentiable in x, in c and in the parameters of the target ``fn``, any number of
    times. With a sum the losses, as constants, are written to ``losses`` too, (B,) in float64.

    Returns None if composed operations must make the loss: fn is no learned target, or is wrapped
    (DDP, ``torch.compile``); x is not on the CPU, no plain tensor, or, for a sum, needs a
    derivative in half precision; a tensor of the terms needs a derivative; the code is compiled, or
    forward mode or a transform follows; by_sample with a ``square``, which has one weight for all
    samples.

    Raises as ``fn.score`` for an x or c that does not fit.
    """
    if by_sample and terms.square:
        return None
    options = (of_energy, by_sample, losses, terms)
    at_once = _at_once(fn, x, options) if c is None else None
    if at_once is not None:
        this, needs, made = at_once
    else:
        call = _checked(fn, x, c, options)
        if call is None:
            return None
        this, needs = call, call.given.needs(x)
        made = in_mode(functools.partial(_by_the_op, call, x, 0 if by_sample else needs), grad=False)
    if losses is not None:
        made = (losses.sum().to(made[1].dtype), *made[1:])
    if not needs:
        return made[0]
    given = this.given
    plain = given.whole and given.biases is None and not is_functorch_wrapped_tensor(x)
    loss: Tensor = (_apply if plain else _Loss.apply)(x, given.biases, this, made, *given.parts)
    return loss


_Options = tuple[bool, bool, Tensor | None, Terms]


class _Call(NamedTuple):
    """A call of :func:`fused_loss` beside the tensors that autograd follows."""

    given: Given
    kernels: Any
    of_energy: bool
    by_sample: bool
    losses: Tensor | None
    terms: Terms


# The loss, the parameters in one tensor, and the gradients by x, the biases and the parameters.
_Made = tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]


_OP, _in_one_step = _ops._REGISTERED["network_loss"], _small_calls.step_of("network_loss")


def _at_once(fn: Any, x: Tensor, options: _Options) -> tuple[_Call, int, _Made] | None:
    """The pass in the compiled step, which checks x and the terms itself, if the network is as it
    was in an earlier call; else None."""
    given = fn._as_before(x) if isinstance(fn, Learned) else None
    kernels = _ops._REGISTERED
    if given is None or kernels["network_loss"] is not _OP or x.is_inference():
        return None
    of_energy, by_sample, losses, terms = options
    needs = given.needs(x)
    made: _Made | None = _in_one_step(
        x, given.wiring.layout, given.parts, terms, of_energy, by_sample, losses, needs
    )
    return None if made is None else (_Call(given, kernels, *options), needs, made)


def _checked(fn: Any, x: Tensor, c: Any, options: _Options) -> _Call | None:
    """The call, checked; None if no kernel may take it."""
    of_energy, by_sample, _, terms = options
    if not isinstance(fn, Learned) or type(x) not in (Tensor, torch.nn.Parameter) or not x.is_cpu:
        return None
    if of_energy and not fn.has_energy:
        return None
    # The kernel would store x's gradient before backward multiplies it by grad_output, a
    # GradScaler's factor: in half precision it would underflow.
    if x.requires_grad and not by_sample and x.dtype in (torch.float16, torch.bfloat16):
        return None
    if not reverse_alone(x, *terms.tensors) or wanted(None, *terms.tensors):
        return None
    call = f"{type(fn).__name__}.{'energy' if of_energy else 'score'}"
    c = fn._buffers["c"] if c is None else fn._condition(call, c)
    given = fn._given_at(call, x, c, fn._fitting(call, x, c))
    kernels = _ops.kernels(None, x)
    return _Call(given, kernels, *options) if fn._goes_back(x, given) and "network_loss" in kernels else None


def _by_the_op(call: _Call, x: Tensor, needs: int) -> _Made:
    params, biases = copied(call.given), call.given.biases
    loss = params.new_empty(x.shape[:1] if call.by_sample else ()) if call.losses is None else call.losses
    into = Into(
        torch.empty_like(x) if needs & X else None,
        torch.empty_like(biases) if needs & BIASES and biases is not None else None,
        torch.empty_like(params) if needs & PARAMS else None,
    )
    _launch(call, loss, x, biases, params, call.terms, into)
    return loss, params, *into


class _Loss(torch.autograd.Function):
    """The pass leaves the gradient for grad_output = 1, and backward multiplies it by the real
    grad_output, in place. A second backward through a retained graph computes it anew.

    The samples' losses are made without a gradient, since each has a grad_output of its own: in
    backward these are weights of the samples, and one more pass makes the gradient of the sum."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, biases: Tensor | None, call: _Call, made: _Made, *parts: Tensor
    ) -> Tensor:
        loss, params, *into = made
        ctx.kept = Kept(ctx, call.given, x, biases, params, parts, *call.terms.tensors)
        ctx.call, ctx.made = call, None if call.by_sample else Into(*into)
        return loss

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        kept: Kept = ctx.kept
        call: _Call = ctx.call
        of_energy, terms = call.of_energy, call.terms
        if differentiated_again(above):

            def value(x: Tensor, params: Tensor, biases: Tensor | None) -> Tensor:
                args = NetworkLoss._make(
                    (
                        above,
                        None,
                        x,
                        kept.wiring.layout,
                        params,
                        of_energy,
                        *terms,
                        biases,
                        None,
                        None,
                    )
                )
                work = _composed.work_of(x)
                # The trace needs derivatives by x.
                work = work if work.requires_grad else work.detach().requires_grad_()
                losses = _composed.losses_of(
                    lambda at: _composed.network_score_of(at, args.layout, params, biases),
                    work,
                    args,
                    lambda: _drawn(call, x),
                )
                return (losses if call.by_sample else losses.double().sum()).to(params.dtype)

            grad_x, grad_biases, grads = kept.composed(ctx, value, above, of_energy)
        else:
            # kept.now reads all saved tensors, so that autograd notices if one was overwritten.
            x, biases, params = kept.now(ctx)
            made, ctx.made = ctx.made, None
            if made is None:
                made = kept.empty(ctx, x, biases, params)
                if call.by_sample:
                    terms = terms._replace(weight_rows=terms.weighted(above))
                _launch(call, params.new_empty(()), x, biases, params, terms, made)
            if not (call.by_sample or (checkable(above) and above.item() == 1.0)):
                for grad in made:
                    if grad is not None:
                        call.kernels["scale_"](grad, above)
            grad_x, grad_biases, grads = made.x, made.biases, kept.split(ctx, made.params, of_energy)
        return (grad_x, grad_biases, None, None, *grads)


# As _gradients.apply.
_apply: Any = super(torch.autograd.Function, _Loss).apply


def _drawn(call: _Call, x: Tensor) -> Tensor:
    """The normals of the terms' noise, like x."""
    z, terms = torch.empty_like(x), call.terms
    _ops.call(call.kernels["normal_"], (z, terms.name), (terms.seeds, terms.ids))
    return z


def _launch(
    call: _Call,
    loss: Tensor,
    x: Tensor,
    biases: Tensor | None,
    params: Tensor,
    terms: Terms,
    into: Into,
) -> None:
    head = (loss, into.params, x, call.given.wiring.layout, params, call.of_energy, *terms[:5])
    _ops.call(call.kernels["network_loss"], head, (*terms[5:], biases, into.biases, into.x))
