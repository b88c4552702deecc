"""denoising_loss: f w_b sum_i r_i^2 with r = (kappa pred + lambda z) + mu x0, and in the same pass its gradient;
denoising_grad: the gradient by itself; scale_: a kept gradient times what came from above.

Sums go in two stages, without atomics: a program's sum in float32 (float64 for float64), one slot a program, then the slots in
float64, in an order that the shape alone decides (:mod:`pyebm.kernels.sums`).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
from torch import Tensor

from . import host
from .loss_kernels import grad_kernel, loss_kernel, scale_kernel
from .rows import loss_rows
from .sums import BLOCK, add_samples, add_tiles
from .tiling import Tiling

_NONE, _SAMPLE, _MEAN, _BATCHMEAN = 0, 1, 3, 4  # pyebm._schemas.REDUCTIONS


class _Loss:
    """The arguments that both ops share, checked and made ready."""

    def __init__(
        self,
        pred: Tensor,
        kappa: float,
        lam: float,
        mu: float,
        weight: float,
        factor: float,
        over_kappa2: bool,
        reduction: int,
        name: Tensor | None,
        kappa_rows: Tensor | None = None,
        lam_rows: Tensor | None = None,
        mu_rows: Tensor | None = None,
        weight_rows: Tensor | None = None,
        z: Tensor | None = None,
        x0: Tensor | None = None,
        seeds: Tensor | None = None,
        ids: Tensor | None = None,
        kappa_positive: bool | None = None,
    ) -> None:
        samples = pred.shape[0]
        if z is None:
            host.check_noise(name, seeds, ids, samples)
        if over_kappa2 or kappa_positive:
            host.require("dsm_loss", "sigma", kappa_rows, positive=over_kappa2)
        self.divisor = float(pred.numel() if reduction == _MEAN else samples if reduction == _BATCHMEAN else 1)
        self.pred = pred
        self.factor, self.over_kappa2 = factor, over_kappa2
        self.numbers = (kappa, lam, mu, weight)
        self.rows = {"kappa": kappa_rows, "lam": lam_rows, "mu": mu_rows, "weight": weight_rows}
        self.run = host.run_of("denoising_loss", self.rows, pred) if pred.numel() else 0
        square = kappa * kappa if over_kappa2 else 1.0
        self.weight = factor * (weight / square if square else weight * math.inf)  # as in C, where Python would raise
        self.operands = {"pred": pred, "z": z, "x0": x0, "name": name, "seeds": seeds, "ids": ids}

    def arguments(self, vec: int) -> dict[str, Any]:
        """For the launch, whose cells hold ``vec`` elements; makes the table of coefficients where there is one."""
        kappa, lam, mu, _ = self.numbers
        table = host.Table(self.numbers, [*self.rows.values()], 5, self.pred, self.run, vec)
        scale = 1.0 / self.divisor
        if table.tensor is not None:
            table.fill(loss_rows, self.factor, scale, OVER_KAPPA2=self.over_kappa2)
        dtype = self.pred.dtype
        return {
            "kappa": host.rounded(kappa, dtype),
            "lam": host.rounded(lam, dtype),
            "mu": host.rounded(mu, dtype),
            "slope": host.rounded(((2.0 * self.weight) * kappa) * scale, dtype),
            "T": host.work_type(dtype),
            **self.operands,
            "FINE": table.fine,
            **table.arguments,
        }

    def tiling(self, grad: Tensor | None, elementwise: Tensor | None) -> Tiling:
        return Tiling(self.pred, self.operands["z"], self.operands["x0"], grad, elementwise, most=host.most_of(self.run))


def denoising_loss(loss: Tensor, grad: Tensor | None, pred: Tensor, *rest: Any, **named: Any) -> None:
    call, reduction = _Loss(pred, *rest, **named), rest[6]
    if not pred.numel():
        loss.fill_(0.0 if call.divisor else float("nan"))
        return
    tiling = call.tiling(grad, loss if reduction == _NONE else None)
    with host.on(pred.device):
        arguments = {**call.arguments(tiling.tile.VEC), **tiling.arguments}
        weight = 1.0 if arguments["table"] is not None else call.weight
        number = host.rounded(call.weight, pred.dtype)
        if reduction == _NONE:
            loss_kernel[tiling.grid](loss, grad, weight=number, REDUCE=0, **arguments)
        elif reduction == _SAMPLE:
            partial = torch.empty((tiling.samples, tiling.programs), dtype=torch.float64, device=pred.device)
            loss_kernel[tiling.grid](partial, grad, weight=number, REDUCE=1, **arguments)
            cols = triton.next_power_of_2(min(tiling.programs, BLOCK))
            grid = (triton.cdiv(tiling.samples, BLOCK // cols),)
            add_samples[grid](loss, partial, weight, *partial.shape, ROWS=BLOCK // cols, COLS=cols, **host.FAST)
        else:
            partial = torch.empty(tiling.blocks * tiling.programs, dtype=torch.float64, device=pred.device)
            loss_kernel[tiling.grid](partial, grad, weight=number, REDUCE=2, **arguments)
            add_tiles[(1,)](loss, partial, weight, call.divisor, partial.numel(), BLOCK=BLOCK, **host.FAST)


def denoising_grad(grad: Tensor, grad_output: Tensor, pred: Tensor, *rest: Any, **named: Any) -> None:
    call, reduction = _Loss(pred, *rest, **named), rest[6]
    if not pred.numel():
        return
    tiling = call.tiling(grad, grad_output if reduction == _NONE else None)
    with host.on(pred.device):
        above, per_sample = _above(grad_output, reduction == _NONE)
        arguments = {**call.arguments(tiling.tile.VEC), **tiling.arguments}
        grad_kernel[tiling.grid](grad, above, per_sample, REDUCE=int(reduction != _NONE), **arguments)


def _above(grad_output: Tensor, elementwise: bool = False) -> tuple[Tensor, int]:
    """The gradient from above, and its stride: an expanded one of a batch is one number."""
    if elementwise:
        return grad_output, 0
    per_sample = grad_output.numel() > 1
    return grad_output if grad_output.is_contiguous() else grad_output.contiguous(), int(per_sample)


def scale_(grad: Tensor, grad_output: Tensor) -> None:
    if not grad.numel():
        return
    tiling = Tiling(grad)
    with host.on(grad.device):
        scale_kernel[tiling.grid](grad, *_above(grad_output), T=host.work_type(grad.dtype), **tiling.arguments)
