"""Coefficients per sample: made in float64, rounded once to the type of the arithmetic, by a small
kernel of their own, and read from its table by the large kernels.

So the large kernels never touch float64, which most GPUs have little of, and a coefficient is the
same bits whether it came as a number (then Python makes it, :mod:`pyebm.kernels.launch`) or as a
tensor.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .tile import read

BLOCK = 128
BLOCK_SIZE: tl.constexpr = tl.constexpr(BLOCK)

# FINE: a table of coefficients that change within a sample has a value for each cell, or for each
# element; 0: no coefficient changes.
BY_CELL: tl.constexpr = tl.constexpr(1)
BY_ELEMENT: tl.constexpr = tl.constexpr(2)


@triton.jit
def value_of(number, rows, at, inside, per_sample, BIT: tl.constexpr):
    """A number, or a value per sample; bit BIT of ``per_sample`` is 0 where one value serves
    all."""
    if rows is None:
        value = tl.full([BLOCK_SIZE], number, tl.float64)
    else:
        value = tl.load(rows + at * ((per_sample >> BIT) & 1), mask=inside, other=1.0).to(tl.float64)
    return value


@triton.jit
def _put(table, line: tl.constexpr, count, at, inside, value):
    tl.store(table + line * count.to(tl.int64) + at, value.to(table.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["count", "per_sample"])
def step_rows(
    table,  # [3, count], float32 or float64
    a: tl.float64,  # numbers, for coefficients without rows
    b: tl.float64,
    c: tl.float64,
    a_rows,  # [1] or [count], or None
    b_rows,
    c_rows,
    per_sample,  # bit k: coefficient k has more than one value
    count,  # values of a line
    LANGEVIN: tl.constexpr,
):
    """Fill ``table`` (3, count) with lines a, b, c of an affine step. A Langevin step passes (1,
    eta, T), and its line c is sqrt(2 eta T)."""
    at = tl.program_id(0).to(tl.int64) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    inside = at < count
    b_value = value_of(b, b_rows, at, inside, per_sample, 1)
    c_value = value_of(c, c_rows, at, inside, per_sample, 2)
    if LANGEVIN:
        c_value = tl.sqrt((2.0 * b_value) * c_value)  # float64's is correctly rounded
    _put(table, 0, count, at, inside, value_of(a, a_rows, at, inside, per_sample, 0))
    _put(table, 1, count, at, inside, b_value)
    _put(table, 2, count, at, inside, c_value)


@triton.jit(do_not_specialize=["count", "per_sample"])
def loss_rows(
    table,  # [5, count], float32 or float64
    kappa: tl.float64,  # numbers, for coefficients without rows
    lam: tl.float64,
    mu: tl.float64,
    weight: tl.float64,
    kappa_rows,  # [1] or [count], or None; like the next three
    lam_rows,
    mu_rows,
    weight_rows,
    per_sample,  # bit k: coefficient k has more than one value
    factor: tl.float64,  # f
    scale: tl.float64,  # 1 / (the reduction's divisor)
    count,  # values of a line
    OVER_KAPPA2: tl.constexpr,  # w is divided by kappa^2
):
    """Fill ``table`` (5, count) with lines kappa, lambda, mu, f w and 2 f w kappa / (the
    reduction's divisor): csrc/common/losses.h."""
    at = tl.program_id(0).to(tl.int64) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    inside = at < count
    k = value_of(kappa, kappa_rows, at, inside, per_sample, 0)
    w = value_of(weight, weight_rows, at, inside, per_sample, 3)
    if OVER_KAPPA2:
        w = w / (k * k)
    w = tl.full([], factor, tl.float64) * w
    _put(table, 0, count, at, inside, k)
    _put(table, 1, count, at, inside, value_of(lam, lam_rows, at, inside, per_sample, 1))
    _put(table, 2, count, at, inside, value_of(mu, mu_rows, at, inside, per_sample, 2))
    _put(table, 3, count, at, inside, w)
    _put(table, 4, count, at, inside, ((2.0 * w) * k) * tl.full([], scale, tl.float64))


@triton.jit
def coefficient(number, table, K: tl.constexpr, rows, T: tl.constexpr):
    """Coefficient K, to go with (N, VEC): a number, or line K of the table (coefficients.py), whose
    stride is 0 or 1."""
    lines, count, stride = table
    row, valid = rows
    if lines is None:
        value = tl.full([], number, T)
    else:
        value = tl.load(lines + K * count.to(tl.int64) + row * stride, mask=valid, other=0.0)
        if len(value.shape) != 0:
            value = value[:, None]
    return value.to(T)


@triton.jit
def own_coefficient(
    table, K: tl.constexpr, room, at, FINE: tl.constexpr, T: tl.constexpr, TILE: tl.constexpr
):
    """Coefficient K where it changes within a sample (launch.Table): a value per element, (N, VEC),
    or per cell, (N, 1), of which ``stride`` neighbours share one. ``room`` is (samples, pitch)."""
    lines, count, stride = table
    samples, pitch = room
    if FINE == BY_ELEMENT:
        # A line's length is a product, so that the compiler knows what divides it.
        line = lines + K * (samples.to(tl.int64) * pitch.to(tl.int64) * TILE.UNIT)
        value = read(line, at, None, None, TILE, T)
    else:
        cell, _, _, left, row = at
        stride = stride.to(cell.dtype)
        of_a_sample = pitch.to(cell.dtype) * TILE.UNIT // TILE.VEC // stride
        share = row * of_a_sample.to(tl.int64) + (cell // stride).to(tl.int64)
        value = tl.load(lines + K * count.to(tl.int64) + share, mask=left > 0, other=0.0).to(T)[:, None]
    return value
