"""denoising_loss: f w_b sum_i r_i^2 with r = (kappa pred + lambda z) + mu x0, and in the same pass
its gradient; denoising_grad: the gradient by itself; scale_: a kept gradient times the gradient
from above.

Sums take two stages, without atomics. A program adds its elements in float32 (float64 for float64)
and writes the sum to a slot of its own; then the slots are added in float64, in an order that the
shape alone decides (:mod:`pyebm.kernels.batch_sums`).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
from torch import Tensor

from pyebm._arguments import entry
from pyebm._schemas import DenoisingGrad, DenoisingLoss, LossTerms

from . import launch
from .batch_sums import BLOCK, add_samples, add_tiles
from .coefficients import loss_rows
from .layout import Layout
from .loss_kernels import grad_kernel, loss_kernel, scale_kernel

_NONE, _SAMPLE, _MEAN, _BATCHMEAN = 0, 1, 3, 4  # pyebm._schemas.REDUCTIONS


class _Loss:
    """The arguments that both ops share, checked and made ready."""

    def __init__(self, pred: Tensor, terms: LossTerms) -> None:
        samples = pred.shape[0]
        if terms.z is None:
            launch.check_noise(terms.name, terms.seeds, terms.ids, samples)
        if terms.over_kappa2 or terms.kappa_positive:
            launch.require("dsm_loss", "sigma", terms.kappa_rows, positive=terms.over_kappa2)
        self.divisor = float(
            pred.numel() if terms.reduction == _MEAN else samples if terms.reduction == _BATCHMEAN else 1
        )
        self.pred, self.terms = pred, terms
        self.numbers = (terms.kappa, terms.lam, terms.mu, terms.weight)
        self.rows = {
            "kappa": terms.kappa_rows,
            "lam": terms.lam_rows,
            "mu": terms.mu_rows,
            "weight": terms.weight_rows,
        }
        self.run = launch.run_of("denoising_loss", self.rows, pred) if pred.numel() else 0
        square = terms.kappa * terms.kappa if terms.over_kappa2 else 1.0
        self.weight = terms.factor * (
            terms.weight / square if square else terms.weight * math.inf
        )  # dividing by 0 would raise
        self.operands = {
            "pred": pred,
            "z": terms.z,
            "x0": terms.x0,
            "name": terms.name,
            "seeds": terms.seeds,
            "ids": terms.ids,
        }

    def arguments(self, vec: int) -> dict[str, Any]:
        """The launch's arguments, for cells of ``vec`` elements. Makes the table of coefficients
        where the kernel needs one."""
        kappa, lam, mu, _ = self.numbers
        table = launch.Table(self.numbers, [*self.rows.values()], 5, self.pred, self.run, vec)
        scale = 1.0 / self.divisor
        if table.tensor is not None:
            table.fill(loss_rows, self.terms.factor, scale, OVER_KAPPA2=self.terms.over_kappa2)
        dtype = self.pred.dtype
        return {
            "kappa": launch.rounded(kappa, dtype),
            "lam": launch.rounded(lam, dtype),
            "mu": launch.rounded(mu, dtype),
            "slope": launch.rounded(((2.0 * self.weight) * kappa) * scale, dtype),
            "T": launch.work_type(dtype),
            **self.operands,
            "FINE": table.fine,
            **table.arguments,
        }

    def layout(self, grad: Tensor | None, elementwise: Tensor | None) -> Layout:
        return Layout(
            self.pred,
            self.operands["z"],
            self.operands["x0"],
            grad,
            elementwise,
            most=launch.most_of(self.run),
        )


@entry(DenoisingLoss)
def denoising_loss(args: DenoisingLoss) -> None:
    loss, grad, pred, reduction = args.loss, args.grad, args.pred, args.terms.reduction
    call = _Loss(pred, args.terms)
    if not pred.numel():
        loss.fill_(0.0 if call.divisor else float("nan"))
        return
    layout = call.layout(grad, loss if reduction == _NONE else None)
    with launch.on(pred.device):
        arguments = {**call.arguments(layout.tile.VEC), **layout.arguments}
        weight = 1.0 if arguments["table"] is not None else call.weight
        number = launch.rounded(call.weight, pred.dtype)
        if reduction == _NONE:
            loss_kernel[layout.grid](loss, grad, weight=number, REDUCE=0, **arguments)
        elif reduction == _SAMPLE:
            partial = torch.empty((layout.samples, layout.programs), dtype=torch.float64, device=pred.device)
            loss_kernel[layout.grid](partial, grad, weight=number, REDUCE=1, **arguments)
            cols = triton.next_power_of_2(min(layout.programs, BLOCK))
            grid = (triton.cdiv(layout.samples, BLOCK // cols),)
            add_samples[grid](
                loss, partial, weight, *partial.shape, ROWS=BLOCK // cols, COLS=cols, **launch.FAST
            )
        else:
            partial = torch.empty(layout.blocks * layout.programs, dtype=torch.float64, device=pred.device)
            loss_kernel[layout.grid](partial, grad, weight=number, REDUCE=2, **arguments)
            add_tiles[(1,)](loss, partial, weight, call.divisor, partial.numel(), BLOCK=BLOCK, **launch.FAST)


@entry(DenoisingGrad)
def denoising_grad(args: DenoisingGrad) -> None:
    grad, grad_output, pred, reduction = args.grad, args.grad_output, args.pred, args.terms.reduction
    call = _Loss(pred, args.terms)
    if not pred.numel():
        return
    layout = call.layout(grad, grad_output if reduction == _NONE else None)
    with launch.on(pred.device):
        above, per_sample = _above(grad_output, reduction == _NONE)
        arguments = {**call.arguments(layout.tile.VEC), **layout.arguments}
        grad_kernel[layout.grid](grad, above, per_sample, REDUCE=int(reduction != _NONE), **arguments)


def _above(grad_output: Tensor, elementwise: bool = False) -> tuple[Tensor, int]:
    """The gradient from above, and its stride between samples: 0 for one number, or where the
    gradient is elementwise."""
    if elementwise:
        return grad_output, 0
    per_sample = grad_output.numel() > 1
    return grad_output if grad_output.is_contiguous() else grad_output.contiguous(), int(per_sample)


def scale_(grad: Tensor, grad_output: Tensor) -> None:
    if not grad.numel():
        return
    layout = Layout(grad)
    with launch.on(grad.device):
        scale_kernel[layout.grid](
            grad, *_above(grad_output), T=launch.work_type(grad.dtype), **layout.arguments
        )
