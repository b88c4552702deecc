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
from .normal import normals
from .rows import loss_rows
from .sums import BLOCK, add_samples, add_tiles
from .tile import block_of, coefficient, name_of, place, read, rows_of, tiles, write
from .tiling import SIZES, Tiling

_NONE, _SAMPLE, _MEAN, _BATCHMEAN = 0, 1, 3, 4  # pyebm._ops.REDUCTIONS
_ELEMENTWISE: tl.constexpr = tl.constexpr(0)
_PER_SAMPLE: tl.constexpr = tl.constexpr(1)


@triton.jit
def _coefficients(kappa, lam, mu, table, x0, rows, T: tl.constexpr):
    k = coefficient(kappa, table, 0, rows, T)
    la = coefficient(lam, table, 1, rows, T)
    m = k
    if x0 is not None:
        m = coefficient(mu, table, 2, rows, T)
    return k, la, m


@triton.jit
def _residual(operands, coefficients, key, at, sizes, strides, T: tl.constexpr, TILE: tl.constexpr):
    """(kappa pred + lambda z) + mu x0."""
    pred, z, x0 = operands
    kappa, lam, mu = coefficients
    value = kappa * read(pred, at, sizes, strides[0], TILE, T)
    if z is None:
        own = normals(at[0], key, TILE).to(T)
    else:
        own = read(z, at, sizes, strides[1], TILE, T)
    value = value + lam * own
    if x0 is not None:
        value = value + mu * read(x0, at, sizes, strides[2], TILE, T)
    return value


@triton.jit
def _key(z, named, rows):
    """The noise's name, where there is no noise tensor."""
    if z is None:
        key = name_of(named, rows)
    else:
        key = None
    return key


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
    parts,
    turns,
    sizes,
    strides,
    REDUCE: tl.constexpr,
    T: tl.constexpr,
    TILE: tl.constexpr,
):
    """REDUCE 0: ``loss`` is elementwise. 1: ``loss`` (samples, programs of a sample) takes each program's sum for each of its
    samples. 2: ``loss`` (programs) takes each program's sum. The sums are weighted by the sample where there is a table."""
    rows = rows_of(samples, TILE)
    key = _key(z, (name, seeds, ids), rows)
    lines = (table, count, stride)
    coefficients = _coefficients(kappa, lam, mu, lines, x0, rows, T)
    if grad is not None:
        slope_value = coefficient(slope, lines, 4, rows, T)
    if REDUCE == _ELEMENTWISE:
        weight_value = coefficient(weight, lines, 3, rows, T)
    total = tl.zeros([TILE.ROWS * TILE.COLS], T)
    first, last = tiles(rows, parts, turns, TILE)
    for tile in range(first, last):
        at = place(tile, rows, pitch, TILE)
        r = _residual((pred, z, x0), coefficients, key, at, sizes, strides, T, TILE)
        if grad is not None:
            write(grad, at, sizes, strides[3], TILE, slope_value * r)
        square = r * r
        if REDUCE == _ELEMENTWISE:
            write(loss, at, sizes, strides[4], TILE, weight_value * square)
        else:
            total += _sum_of_cells(square, at, TILE)
    if REDUCE != _ELEMENTWISE:
        _put_sums(loss, lines, samples, total, REDUCE, TILE)


@triton.jit
def _sum_of_cells(square, at, TILE: tl.constexpr):
    """(N,), without the elements that don't exist; where whole cells do or don't, it is enough to ask once."""
    _, _, _, room, _ = at
    if TILE.FULL:
        sums = tl.sum(square, axis=1)
    elif TILE.UNIT == TILE.VEC:
        sums = tl.where(room > 0, tl.sum(square, axis=1), 0.0)
    else:
        sums = tl.sum(tl.where(room[:, None] > tl.arange(0, TILE.VEC)[None, :], square, 0.0), axis=1)
    return sums


@triton.jit
def _put_sums(partial, lines, samples, sums, REDUCE: tl.constexpr, TILE: tl.constexpr):
    """A program's sums of its cells (N,), added up and stored for the second stage."""
    table, count, stride = lines
    block = block_of()
    if TILE.ROWS > 1:
        sums = tl.sum(tl.reshape(sums, (TILE.ROWS, TILE.COLS)), axis=1).to(tl.float64)
    else:
        sums = tl.full([1], 1.0, tl.float64) * tl.sum(sums, axis=0).to(tl.float64)
    sample = block * TILE.ROWS + tl.arange(0, TILE.ROWS)
    if table is not None:
        line = table + 3 * count.to(tl.int64) + sample * stride
        sums = sums * tl.load(line, mask=sample < samples, other=0.0).to(tl.float64)
    if REDUCE == _PER_SAMPLE:
        tl.store(partial + sample * tl.num_programs(0) + tl.program_id(0), sums, mask=sample < samples)
    elif block * TILE.ROWS < samples:  # the grid may hold more programs than blocks
        tl.store(partial + block * tl.num_programs(0) + tl.program_id(0), tl.sum(sums, axis=0))


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
    parts,
    turns,
    sizes,
    strides,
    REDUCE: tl.constexpr,
    T: tl.constexpr,
    TILE: tl.constexpr,
):
    rows = rows_of(samples, TILE)
    key = _key(z, (name, seeds, ids), rows)
    lines = (table, count, stride)
    coefficients = _coefficients(kappa, lam, mu, lines, x0, rows, T)
    slope_value = coefficient(slope, lines, 4, rows, T)
    if REDUCE != _ELEMENTWISE:
        factor = coefficient(0.0, (above, count, above_stride), 0, rows, T)
    first, last = tiles(rows, parts, turns, TILE)
    for tile in range(first, last):
        at = place(tile, rows, pitch, TILE)
        value = slope_value * _residual((pred, z, x0), coefficients, key, at, sizes, strides, T, TILE)
        if REDUCE == _ELEMENTWISE:
            value = value * read(above, at, sizes, strides[4], TILE, T)
        else:
            value = value * factor
        write(grad, at, sizes, strides[3], TILE, value)


@triton.jit(do_not_specialize=[*SIZES, "above_stride"])
def scale_kernel(grad, above, above_stride, samples, pitch, parts, turns, sizes, strides, T: tl.constexpr, TILE: tl.constexpr):
    # loss.backward() brings 1: then nothing is to be done, and nothing is read.
    if above_stride != 0 or tl.load(above) != 1.0:
        rows = rows_of(samples, TILE)
        factor = coefficient(0.0, (above, samples, above_stride), 0, rows, T)
        first, last = tiles(rows, parts, turns, TILE)
        for tile in range(first, last):
            at = place(tile, rows, pitch, TILE)
            write(grad, at, sizes, strides[0], TILE, read(grad, at, sizes, strides[0], TILE, T) * factor)


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
            host.require("dsm_loss", "sigma", kappa_rows, positive=True)
        self.divisor = float(pred.numel() if reduction == _MEAN else samples if reduction == _BATCHMEAN else 1)
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
            **self.operands,
            **table.arguments,
        }

    def tiling(self, grad: Tensor | None, elementwise: Tensor | None) -> Tiling:
        return Tiling(self.pred, self.operands["z"], self.operands["x0"], grad, elementwise)


def denoising_loss(loss: Tensor, grad: Tensor | None, pred: Tensor, *rest: Any, **named: Any) -> None:
    call, reduction = _Loss(pred, *rest, **named), rest[6]
    if not pred.numel():
        loss.fill_(0.0 if call.divisor else float("nan"))
        return
    tiling = call.tiling(grad, loss if reduction == _NONE else None)
    with host.on(pred.device):
        arguments = {**call.arguments(), **tiling.arguments}
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
        arguments = {**call.arguments(), **tiling.arguments}
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
