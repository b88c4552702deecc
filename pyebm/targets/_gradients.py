"""The derivatives of a learned energy and of its score. First derivatives come from the kernels, in
one pass over the batch; if autograd differentiates them again, they come from plain operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import _composed, _ops, _small_calls
from .._derivatives import differentiated_again
from .._modes import in_mode
from ._wiring import Given, copied


class Evaluation(torch.autograd.Function):
    """The energies (B,), or the score, by network_score. Its backward is network_grad."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, biases: Tensor | None, given: Given, kernels: Any, energy: bool, *parts: Tensor
    ) -> Tensor:
        params = copied(given)
        ctx.kept = Kept(ctx, given, x, biases, params, parts)
        ctx.kernels, ctx.energy = kernels, energy
        return evaluated(kernels, x, given.wiring.layout, params, biases, energy)

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        kept: Kept = ctx.kept
        if differentiated_again(above):

            def value(x: Tensor, params: Tensor, biases: Tensor | None) -> Tensor:
                score, energy = _composed.network_score_of(x, kept.wiring.layout, params, biases)
                return energy if ctx.energy and energy is not None else score

            grad_x, grad_biases, grads = kept.composed(ctx, value, above, ctx.energy)
        else:
            x, biases, params = kept.now(ctx)
            into = kept.empty(ctx, x, biases, params)
            of_energy, of_score = (above.contiguous(), None) if ctx.energy else (None, above)
            head = (into.params, x, kept.wiring.layout, params)
            _ops.call(ctx.kernels["network_grad"], head, (of_energy, of_score, biases, into.biases, into.x))
            grad_x, grad_biases, grads = into.x, into.biases, kept.split(ctx, into.params, ctx.energy)
        return (grad_x, grad_biases, None, None, None, *grads)


# Function.apply is Python. It looks through the arguments for what torch.func's transforms left in
# them, which takes as long as all of autograd's own work.
apply: Any = super(torch.autograd.Function, Evaluation).apply


class Into(NamedTuple):
    """The tensors for the gradients that are wanted."""

    x: Tensor | None
    biases: Tensor | None
    params: Tensor | None


class Kept:
    """The tensors that a backward pass needs: x, the biases that replace the network's, and the
    parameters. The function's first arguments are x and biases, its last ones the parts of params.
    Autograd notices if one of them is overwritten before the pass."""

    def __init__(
        self,
        ctx: Any,
        given: Given,
        x: Tensor,
        biases: Tensor | None,
        params: Tensor,
        parts: Sequence[Tensor],
        *more: Tensor | None,
    ) -> None:
        self.wiring, self.params, self.count = given.wiring, params, len(parts)
        ctx.save_for_backward(x, biases, *more, *parts)

    def now(self, ctx: Any) -> tuple[Tensor, Tensor | None, Tensor]:
        x, biases, *_ = ctx.saved_tensors
        return x, biases, self.params

    def empty(self, ctx: Any, x: Tensor, biases: Tensor | None, params: Tensor) -> Into:
        needed = ctx.needs_input_grad
        at_x, at_biases = needed[:2]
        of_params = at_biases or True in needed[-self.count :]
        return Into(
            torch.empty_like(x) if at_x else None,
            torch.empty_like(biases) if at_biases and biases is not None else None,
            torch.empty_like(params) if of_params else None,
        )

    def split(self, ctx: Any, grad: Tensor | None, of_energy: bool) -> Sequence[Tensor | None]:
        """Cuts the gradient into the gradients of the parts; of_energy says whether it is that of
        the energy or of the score."""
        if grad is None:
            return (None,) * self.count
        needed, places = ctx.needs_input_grad[-self.count :], self.wiring.places
        wanted: list[Tensor | None] | None = _parts_of(grad, places, needed)
        if wanted is None:
            each = zip(needed, places, strict=True)
            wanted = [grad.as_strided(*place) if need else None for need, place in each]
        if self.wiring.idle is not None and not of_energy:
            wanted[self.wiring.idle] = None
        return wanted

    def composed(
        self, ctx: Any, value: Callable[..., Tensor], above: Tensor, of_energy: bool
    ) -> tuple[Tensor | None, Tensor | None, Sequence[Tensor | None]]:
        """The gradients by operations that autograd can follow."""
        again = torch.is_grad_enabled()
        x, biases, *saved = ctx.saved_tensors
        needed = (*ctx.needs_input_grad[:2], *ctx.needs_input_grad[-self.count :])

        def differentiate() -> Sequence[Tensor]:
            # The gradient stops at these views. x itself may depend on the same parameters, and
            # that dependence is not part of this function.
            at = [
                None if tensor is None else tensor.view_as(tensor)
                for tensor in (x, biases, *saved[-self.count :])
            ]
            with exact(x):
                params = torch.cat([part.reshape(-1) for part in at[2:] if part is not None])
                output = value(at[0], params, at[1])
            followed = [
                tensor for tensor, need in zip(at, needed, strict=True) if need and tensor is not None
            ]
            return torch.autograd.grad(output, followed, above, create_graph=again, materialize_grads=True)

        found = iter(in_mode(differentiate, grad=True))
        grad_x, grad_biases, *grads = [next(found) if need else None for need in needed]
        if self.wiring.idle is not None and not of_energy:
            grads[self.wiring.idle] = None
        return grad_x, grad_biases, grads


_parts_of = _small_calls.step_of("parts_of")


def evaluated(
    kernels: Any, x: Tensor, layout: Any, params: Tensor, biases: Tensor | None, energy: bool
) -> Tensor:
    out = x.new_empty(x.shape[:1], dtype=params.dtype) if energy else torch.empty_like(x)
    score, energies = (None, out) if energy else (out, None)
    _ops.call(kernels["network_score"], (score, x, layout, params), (biases, energies))
    return out


def exact(x: Tensor) -> Any:
    """A context without autocast, which would round where the kernels don't."""
    if x.is_meta or not torch.is_autocast_enabled(x.device.type):
        return _NOTHING
    return torch.autocast(x.device.type, enabled=False)


_NOTHING = nullcontext()
