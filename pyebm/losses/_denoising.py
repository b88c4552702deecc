"""The denoising losses share this: operands widened to one dtype, and the derivatives of the
kernel's pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _composed, _ops, _schemas, _small_calls
from .._checks import check_like, check_samples
from .._derivatives import BySample, checkable, differentiated_again, exactly, launched
from .._memory import empty_like
from ..noise import Noise


def together(
    op: str, pred_name: str, pred: Tensor, z: Tensor | None, x0: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Widen all three, exactly, to the widest dtype among them. Autograd rounds the gradient back
    to pred's dtype."""
    for name, value in (("noise", z), ("x0", x0)):
        if value is None:
            continue
        check_samples(op, name, value)
        if value.dtype != pred.dtype:
            pred = pred.to(torch.promote_types(pred.dtype, value.dtype))
    z, x0 = (
        None if value is None else check_like(op, name, value, pred_name, pred)
        for name, value in (("noise", z), ("x0", x0))
    )
    return pred, z, x0


def followed(
    pred: Tensor,
    kernels: Any,
    code: int,
    head: tuple[Any, ...],
    tail: tuple[Any, ...],
    noise: Noise | Tensor,
    backend: str | None,
) -> Tensor:
    """The kernel's loss. Its derivatives, with respect to every tensor argument, come from composed
    operations."""
    *rows, z, x0, _, _, check_sigma = tail
    if z is None and isinstance(noise, Noise):
        z = noise.randn(pred.shape, device=pred.device, backend=backend)
    composed = _composed.composed_loss(
        pred, _schemas.LossTerms._make((*head, *rows, z, x0, None, None, check_sigma))
    )

    return exactly(lambda: _by_kernel(pred, kernels, code, head, tail), composed)


def _by_kernel(pred: Tensor, kernels: Any, code: int, head: tuple[Any, ...], tail: tuple[Any, ...]) -> Tensor:
    """The kernel's loss under transforms. A vmap batch takes one launch if that gives the bits of a
    launch for each entry."""
    *rows, z, x0, seeds, ids, check_sigma = tail
    batch, by_sample = pred.shape[0], code <= _schemas.REDUCTIONS["sample"]
    if not by_sample and not (kernels is _ops._REGISTERED and pred.is_cpu):

        def loss(pred: Tensor, *tensors: Any) -> Tensor:
            made = empty_loss(pred, code)
            _ops.call(kernels["denoising_loss"], (made, None, pred, *head), (*tensors, check_sigma))
            return made

        return launched(loss, pred, *rows, z, x0, seeds, ids)

    def sums(pred: Tensor, *tensors: Any) -> Tensor:
        made = empty_loss(pred, code) if by_sample else pred.new_empty(pred.shape[:1], dtype=torch.float64)
        each = (*head[:6], code if by_sample else _schemas.REDUCTIONS["sample"], head[7])
        _ops.call(kernels["denoising_loss"], (made, None, pred, *each), (*tensors, check_sigma))
        return made

    if ids is None and z is None:
        ids = (
            torch.arange(batch, device="cpu") + head[7][1]
        )  # every entry of a vmap batch has these same sample ids
    rows = [row.expand(batch) if row is not None and row.numel() == 1 else row for row in rows]
    made = launched(BySample(sums), pred, *rows, z, x0, seeds, ids)
    if by_sample:
        return made
    return (_composed.batch_sum(made) / _composed.divisor(pred.shape, code)).to(empty_loss(pred, code).dtype)


def empty_loss(pred: Tensor, reduction: int) -> Tensor:
    dtype = torch.float64 if pred.dtype == torch.float64 else torch.float32
    if reduction == 0:
        return torch.empty_like(pred, dtype=dtype)
    return torch.empty(pred.shape[:1] if reduction == 1 else (), dtype=dtype, device=pred.device)


class LossWithGradient(torch.autograd.Function):
    """The loss with its gradient from one pass over pred.

    The pass leaves the gradient for grad_output = 1, and backward multiplies it, in place, by the
    real grad_output (usually 1, which costs nothing). In half precisions such a product would be
    rounded twice, and what a GradScaler's factor should save has underflowed before: there the
    gradient serves for 1 alone, where the host may look at grad_output. Backward computes the
    gradient anew where none is left: for reduction="none", and for a second backward through a
    retained graph.
    """

    @staticmethod
    def forward(
        ctx: Any,
        pred: Tensor,
        kernels: Any,
        head: tuple[Any, ...],
        tail: tuple[Any, ...],
        made: tuple[Tensor, Tensor | None] | None = None,
    ) -> Tensor:
        loss, grad = _made(pred, kernels, head, tail) if made is None else made
        *tensors, _ = tail
        ctx.save_for_backward(pred, *tensors)  # all of them: autograd then notices if one is overwritten
        ctx.kernels, ctx.head, ctx.grad = kernels, head, grad
        return loss

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        pred, *tail = ctx.saved_tensors
        if differentiated_again(grad_output):
            return _composed_grad(grad_output, pred, ctx.kernels, ctx.head, tail), *[None] * 4
        grad, ctx.grad = ctx.grad, None
        half = pred.dtype in (torch.float16, torch.bfloat16)
        if grad is None or (half and not (checkable(grad_output) and grad_output.item() == 1.0)):
            grad = empty_like(pred) if grad is None else grad
            _ops.call(ctx.kernels["denoising_grad"], (grad, grad_output, pred, *ctx.head), tail)
        elif not half and not _is_one(grad_output):
            ctx.kernels["scale_"](grad, grad_output)
        return grad, None, None, None, None


def _is_one(grad_output: Tensor) -> bool:
    """Whether it is 1, as after ``loss.backward()``. The op would see that too, but takes longer to
    reach."""
    return grad_output.dim() == 0 and checkable(grad_output) and grad_output.item() == 1.0


def _made(
    pred: Tensor, kernels: Any, head: tuple[Any, ...], tail: tuple[Any, ...]
) -> tuple[Tensor, Tensor | None]:
    """The loss, and the gradient where it is to be kept."""
    reduction = head[6]
    loss = empty_loss(pred, reduction)
    wide = pred.dtype in (torch.float32, torch.float64)
    keep = reduction != 0 and (wide or (loss.dim() == 0 and checkable(pred)))
    grad = empty_like(pred) if keep else None
    _ops.call(kernels["denoising_loss"], (loss, grad, pred, *head), tail)
    return loss, grad


def _composed_grad(
    grad_output: Tensor, pred: Tensor, kernels: Any, head: tuple[Any, ...], tail: Sequence[Any]
) -> Tensor:
    """The gradient, to the same bits, from torch operations that autograd can differentiate again;
    only z comes from a kernel."""
    *rows, z, x0, seeds, ids = tail
    if z is None:
        z = torch.empty(pred.shape, dtype=torch.float32, device=pred.device)
        kernels["normal_"](z, head[-1], seeds, ids)
    r, _, g = _composed.loss_terms(pred, _schemas.LossTerms._make((*head, *rows, z, x0, None, None, None)))
    return ((g.to(r.dtype) * r) * _composed.spread(grad_output, r)).to(pred.dtype)


# The node past Function.apply, which looks through the arguments for what transforms left in them:
# the compiled step takes no call under a transform.
_small_calls.prepare_losses(
    _schemas.REDUCTIONS, _ops._REGISTERED, super(torch.autograd.Function, LossWithGradient).apply
)
