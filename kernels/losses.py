"""denoising_loss: f w_b sum_i r_i^2 with r = (kappa pred + lambda z) + mu x0, and in the same pass its gradient;
denoising_grad: the gradient by itself; scale_: a kept gradient times what came from above.

Sums go in two stages, without atomics: a tile's sum in float32 (float64 for float64), one slot a tile, then the slots in
float64, in an order that the shape alone decides (:mod:`pyebm.kernels.sums`).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import host
from .rows import loss_rows
from .sums import BLOCK, add_samples, add_tiles
from .tile import SIZES, Tiling, coefficient, noise, place, read, write

_NONE, _SAMPLE, _MEAN, _BATCHMEAN = 0, 1, 3, 4  # pyebm._ops.REDUCTIONS
_ELEMENTWISE: tl.constexpr = tl.constexpr(0)
_PER_SAMPLE: tl.constexpr = tl.constexpr(1)


@triton.jit
def _residual(pred, z, x0, kappa, lam, mu, table, count, stride, name, seeds, ids, row, valid, cell, start, offset, inside, T, VEC):
    value = coefficient(kappa, table, 0, row, valid, count, stride, T) * read(pred, start, offset, inside, T)
    if z is None:
        own = noise(name, seeds, ids, row, valid, cell, VEC).to(T)
    else:
        own = read(z, start, offset, inside, T)
    value = value + coefficient(lam, table, 1, row, valid, count, stride, T) * own
    if x0 is not None:
        value = value + coefficient(mu, table, 2, row, valid, count, stride, T) * read(x0, start, offset, inside, T)
    return value


@triton.jit(do_not_specialize=SIZES)
def loss_kernel(
    loss,
    grad,
    pred,
    z,
    x0,
    kappa,
    lam,
    mu,
    weight,
    slope,
    table,
    count,
    stride,
    name,
    seeds,
    ids,
    samples,
    pitch,
    REDUCE: tl.constexpr,
    T: tl.constexpr,
    UNIT: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
    VEC: tl.constexpr,
):
    """REDUCE 0: ``loss`` is elementwise. 1: ``loss`` (samples, tiles of a sample) takes each tile's sum for each of its samples.
    2: ``loss`` (tiles) takes each tile's sum. The sums are weighted by the sample where there is a table."""
    row, valid, cell, start, offset, inside = place(samples, pitch, UNIT, ROWS, COLS, VEC)
    r = _residual(
        pred, z, x0, kappa, lam, mu, table, count, stride, name, seeds, ids, row, valid, cell, start, offset, inside, T, VEC
    )
    if grad is not None:
        write(grad, start, offset, inside, coefficient(slope, table, 4, row, valid, count, stride, T) * r)
    square = r * r
    if REDUCE == _ELEMENTWISE:
        write(loss, start, offset, inside, coefficient(weight, table, 3, row, valid, count, stride, T) * square)
    else:
        sums = tl.sum(tl.where(inside, square, 0.0), axis=1)
        first_row = (tl.program_id(1) + tl.program_id(2).to(tl.int64) * tl.num_programs(1)) * ROWS
        if ROWS > 1:
            sums = tl.sum(tl.reshape(sums, (ROWS, COLS)), axis=1).to(tl.float64)
        else:
            sums = tl.full([1], 1.0, tl.float64) * tl.sum(sums, axis=0).to(tl.float64)
        sample = first_row + tl.arange(0, ROWS)
        if table is not None:
            line = table + 3 * count.to(tl.int64) + sample * stride
            sums = sums * tl.load(line, mask=sample < samples, other=0.0).to(tl.float64)
        if REDUCE == _PER_SAMPLE:
            tl.store(loss + sample * tl.num_programs(0) + tl.program_id(0), sums, mask=sample < samples)
        else:
            block = tl.program_id(1) + tl.program_id(2).to(tl.int64) * tl.num_programs(1)
            if first_row < samples:  # the grid may hold more programs than tiles
                tl.store(loss + block * tl.num_programs(0) + tl.program_id(0), tl.sum(sums, axis=0))


@triton.jit(do_not_specialize=[*SIZES, "above_stride"])
def grad_kernel(
    grad,
    above,
    above_stride,
    pred,
    z,
    x0,
    kappa,
    lam,
    mu,
    slope,
    table,
    count,
    stride,
    name,
    seeds,
    ids,
    samples,
    pitch,
    REDUCE: tl.constexpr,
    T: tl.constexpr,
    UNIT: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
    VEC: tl.constexpr,
):
    row, valid, cell, start, offset, inside = place(samples, pitch, UNIT, ROWS, COLS, VEC)
    r = _residual(
        pred, z, x0, kappa, lam, mu, table, count, stride, name, seeds, ids, row, valid, cell, start, offset, inside, T, VEC
    )
    value = coefficient(slope, table, 4, row, valid, count, stride, T) * r
    if REDUCE == _ELEMENTWISE:
        factor = read(above, start, offset, inside, T)
    else:
        factor = coefficient(0.0, above, 0, row, valid, count, above_stride, T)
    write(grad, start, offset, inside, value * factor)


@triton.jit(do_not_specialize=[*SIZES, "above_stride"])
def scale_kernel(
    grad,
    above,
    above_stride,
    samples,
    pitch,
    T: tl.constexpr,
    UNIT: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
    VEC: tl.constexpr,
):
    # loss.backward() brings 1: then nothing is to be done, and nothing is read.
    if above_stride != 0 or tl.load(above) != 1.0:
        row, valid, _, start, offset, inside = place(samples, pitch, UNIT, ROWS, COLS, VEC)
        factor = coefficient(0.0, above, 0, row, valid, samples, above_stride, T)
        write(grad, start, offset, inside, read(grad, start, offset, inside, T) * factor)


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
        samples, elements = host.shape_of(pred)
        if z is None:
            host.check_noise(name, seeds, ids, samples)
        if over_kappa2 or kappa_positive:
            host.require("dsm_loss", "sigma", kappa_rows, positive=True)
        self.tiling = Tiling(samples, elements, pred.dtype)
        self.divisor = float(samples * elements if reduction == _MEAN else samples if reduction == _BATCHMEAN else 1)
        self.pred = pred
        self.factor, self.over_kappa2 = factor, over_kappa2
        self.numbers, self.rows = (kappa, lam, mu, weight), (kappa_rows, lam_rows, mu_rows, weight_rows)
        square = kappa * kappa if over_kappa2 else 1.0
        self.weight = factor * (weight / square if square else weight * math.inf)  # as in C, where Python would raise
        self.operands = {"pred": pred, "z": z, "x0": x0, "name": name, "seeds": seeds, "ids": ids}

    def arguments(self) -> dict[str, Any]:
        """For the launch; makes the table of coefficients where there is one."""
        kappa, lam, mu, _ = self.numbers
        table = host.Table(self.numbers, self.rows, 5, self.pred)
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
            **{name: host.packed(operand) for name, operand in self.operands.items()},
            **table.arguments,
            **self.tiling.arguments,
        }


def denoising_loss(loss: Tensor, grad: Tensor | None, pred: Tensor, *rest: Any, **named: Any) -> None:
    call, reduction = _Loss(pred, *rest, **named), rest[6]
    if not pred.numel():
        loss.fill_(0.0 if call.divisor else float("nan"))
        return
    tiling = call.tiling
    with host.results(loss, grad) as (loss_target, grad_target):
        arguments = call.arguments()
        weight = 1.0 if arguments["table"] is not None else call.weight
        number = host.rounded(call.weight, pred.dtype)
        if reduction == _NONE:
            loss_kernel[tiling.grid](loss_target, grad_target, weight=number, REDUCE=0, **arguments)
        elif reduction == _SAMPLE:
            partial = torch.empty((tiling.samples, tiling.parts), dtype=torch.float64, device=pred.device)
            loss_kernel[tiling.grid](partial, grad_target, weight=number, REDUCE=1, **arguments)
            cols = triton.next_power_of_2(min(tiling.parts, BLOCK))
            grid = (triton.cdiv(tiling.samples, BLOCK // cols),)
            add_samples[grid](loss_target, partial, weight, *partial.shape, ROWS=BLOCK // cols, COLS=cols, **host.FAST)
        else:
            partial = torch.empty(tiling.blocks * tiling.parts, dtype=torch.float64, device=pred.device)
            loss_kernel[tiling.grid](partial, grad_target, weight=number, REDUCE=2, **arguments)
            add_tiles[(1,)](loss_target, partial, weight, call.divisor, partial.numel(), BLOCK=BLOCK, **host.FAST)


def denoising_grad(grad: Tensor, grad_output: Tensor, pred: Tensor, *rest: Any, **named: Any) -> None:
    call, reduction = _Loss(pred, *rest, **named), rest[6]
    if not pred.numel():
        return
    with host.results(grad) as (target,):
        above, per_sample = host.packed(grad_output), int(grad_output.numel() > 1)
        grad_kernel[call.tiling.grid](target, above, per_sample, REDUCE=int(reduction != _NONE), **call.arguments())


def scale_(grad: Tensor, grad_output: Tensor) -> None:
    if not grad.numel():
        return
    tiling, per_sample = Tiling(*host.shape_of(grad), grad.dtype), int(grad_output.numel() > 1)
    with host.results(grad, read=True) as (target,):
        scale_kernel[tiling.grid](target, host.packed(grad_output), per_sample, T=host.work_type(grad.dtype), **tiling.arguments)
