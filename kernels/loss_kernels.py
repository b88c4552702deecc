"""The kernels of the losses: the residual r = (kappa pred + lambda z) + mu x0, its square's sums,
and the gradient."""

from __future__ import annotations

import triton
import triton.language as tl

from .coefficients import coefficient, own_coefficient
from .layout import SIZES
from .normal import normals
from .tile import block_of, name_of, place, read, rows_of, tiles, write

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
def _own_coefficients(table, x0, room, at, FINE: tl.constexpr, T: tl.constexpr, TILE: tl.constexpr):
    """kappa, lambda and mu where coefficients change within a sample."""
    k = own_coefficient(table, 0, room, at, FINE, T, TILE)
    la = own_coefficient(table, 1, room, at, FINE, T, TILE)
    m = k
    if x0 is not None:
        m = own_coefficient(table, 2, room, at, FINE, T, TILE)
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
    """The noise's name, or None where the noise is a tensor."""
    if z is None:
        key = name_of(named, rows)
    else:
        key = None
    return key


@triton.jit(do_not_specialize=SIZES)
def loss_kernel(
    loss,  # its shape follows from REDUCE
    grad,  # [samples, ...] or None
    pred,  # [samples, ...], like z and x0
    z,  # or None: then drawn by name
    x0,  # or None
    kappa,  # numbers of the residual kappa pred + lam z + mu x0, where there is no table
    lam,
    mu,
    weight,  # f w, the weight of a square
    slope,  # 2 f w kappa / (the reduction's divisor)
    table,  # [5, count] or None: launch.Table
    count,  # values of a line
    stride,  # from one sample's value to the next, 0 or 1; FINE: cells that share one
    name,  # [4] int64: seed, first_sample, step, stream
    seeds,  # [samples] int64 or None
    ids,  # [samples] int64 or None
    samples,  # how many
    pitch,  # accesses of TILE.UNIT elements in a sample
    parts,  # tiles side by side in a sample
    turns,  # tiles of a program
    sizes,  # of the dimensions, or None: all tensors are contiguous (layout.py)
    strides,  # of each tensor of the layout, in order; None where contiguous
    REDUCE: tl.constexpr,  # 0, 1 or 2: see below
    FINE: tl.constexpr,  # coefficients.BY_CELL, BY_ELEMENT, or 0
    T: tl.constexpr,  # the type of the arithmetic
    TILE: tl.constexpr,  # layout.Tile
):
    """REDUCE 0: ``loss`` is elementwise. 1: ``loss`` (samples, programs of a sample) takes each
    program's sum for each of its samples. 2: ``loss`` (programs) takes each program's sum. The sums
    are weighted by the sample where there is a table, by the element where FINE."""
    rows = rows_of(samples, TILE)
    key = _key(z, (name, seeds, ids), rows)
    lines = (table, count, stride)
    if not FINE:
        coefficients = _coefficients(kappa, lam, mu, lines, x0, rows, T)
        if grad is not None:
            slope_value = coefficient(slope, lines, 4, rows, T)
        if REDUCE == _ELEMENTWISE:
            weight_value = coefficient(weight, lines, 3, rows, T)
    total = tl.zeros([TILE.ROWS * TILE.COLS], T)
    first, last = tiles(rows, parts, turns, TILE)
    for tile in range(first, last):
        at = place(tile, rows, pitch, TILE)
        if FINE:
            coefficients = _own_coefficients(lines, x0, (samples, pitch), at, FINE, T, TILE)
            if grad is not None:
                slope_value = own_coefficient(lines, 4, (samples, pitch), at, FINE, T, TILE)
            weight_value = own_coefficient(lines, 3, (samples, pitch), at, FINE, T, TILE)
        r = _residual((pred, z, x0), coefficients, key, at, sizes, strides, T, TILE)
        if grad is not None:
            write(grad, at, sizes, strides[3], TILE, slope_value * r)
        square = r * r
        if REDUCE == _ELEMENTWISE:
            write(loss, at, sizes, strides[4], TILE, weight_value * square)
        elif FINE:
            total += _sum_of_cells(weight_value * square, at, TILE)
        else:
            total += _sum_of_cells(square, at, TILE)
    if REDUCE != _ELEMENTWISE:
        _put_sums(loss, lines, samples, total, REDUCE, FINE, TILE)


@triton.jit
def _sum_of_cells(square, at, TILE: tl.constexpr):
    """The sum of each cell, (N,), without elements that don't exist. Where cells exist as a whole
    or not at all, one test a cell is enough."""
    _, _, _, room, _ = at
    if TILE.FULL:
        sums = tl.sum(square, axis=1)
    elif TILE.UNIT == TILE.VEC:
        sums = tl.where(room > 0, tl.sum(square, axis=1), 0.0)
    else:
        sums = tl.sum(tl.where(room[:, None] > tl.arange(0, TILE.VEC)[None, :], square, 0.0), axis=1)
    return sums


@triton.jit
def _put_sums(partial, lines, samples, sums, REDUCE: tl.constexpr, FINE: tl.constexpr, TILE: tl.constexpr):
    """Add up a program's sums of its cells, (N,), and store the result for the second stage."""
    table, count, stride = lines
    block = block_of()
    if TILE.ROWS > 1:
        sums = tl.sum(tl.reshape(sums, (TILE.ROWS, TILE.COLS)), axis=1).to(tl.float64)
    else:
        sums = tl.full([1], 1.0, tl.float64) * tl.sum(sums, axis=0).to(tl.float64)
    sample = block * TILE.ROWS + tl.arange(0, TILE.ROWS)
    if table is not None and not FINE:
        line = table + 3 * count.to(tl.int64) + sample * stride
        sums = sums * tl.load(line, mask=sample < samples, other=0.0).to(tl.float64)
    if REDUCE == _PER_SAMPLE:
        tl.store(partial + sample * tl.num_programs(0) + tl.program_id(0), sums, mask=sample < samples)
    elif block * TILE.ROWS < samples:  # the grid may hold more programs than blocks
        tl.store(partial + block * tl.num_programs(0) + tl.program_id(0), tl.sum(sums, axis=0))


@triton.jit(do_not_specialize=[*SIZES, "above_stride"])
def grad_kernel(
    grad,  # [samples, ...]
    above,  # the gradient from above: one number, [samples], or [samples, ...] (REDUCE 0)
    above_stride,  # 0: one number; 1: one per sample
    pred,  # [samples, ...], like z and x0
    z,  # or None: then drawn by name
    x0,  # or None
    kappa,  # numbers of the residual kappa pred + lam z + mu x0, where there is no table
    lam,
    mu,
    slope,  # 2 f w kappa / (the reduction's divisor)
    table,  # [5, count] or None: launch.Table
    count,  # values of a line
    stride,  # from one sample's value to the next, 0 or 1; FINE: cells that share one
    name,  # [4] int64: seed, first_sample, step, stream
    seeds,  # [samples] int64 or None
    ids,  # [samples] int64 or None
    samples,  # how many
    pitch,  # accesses of TILE.UNIT elements in a sample
    parts,  # tiles side by side in a sample
    turns,  # tiles of a program
    sizes,  # of the dimensions, or None: all tensors are contiguous (layout.py)
    strides,  # of each tensor of the layout, in order; None where contiguous
    REDUCE: tl.constexpr,  # 0: the loss was elementwise
    FINE: tl.constexpr,  # coefficients.BY_CELL, BY_ELEMENT, or 0
    T: tl.constexpr,  # the type of the arithmetic
    TILE: tl.constexpr,  # layout.Tile
):
    rows = rows_of(samples, TILE)
    key = _key(z, (name, seeds, ids), rows)
    lines = (table, count, stride)
    if not FINE:
        coefficients = _coefficients(kappa, lam, mu, lines, x0, rows, T)
        slope_value = coefficient(slope, lines, 4, rows, T)
    if REDUCE != _ELEMENTWISE:
        factor = coefficient(0.0, (above, count, above_stride), 0, rows, T)
    first, last = tiles(rows, parts, turns, TILE)
    for tile in range(first, last):
        at = place(tile, rows, pitch, TILE)
        if FINE:
            coefficients = _own_coefficients(lines, x0, (samples, pitch), at, FINE, T, TILE)
            slope_value = own_coefficient(lines, 4, (samples, pitch), at, FINE, T, TILE)
        value = slope_value * _residual((pred, z, x0), coefficients, key, at, sizes, strides, T, TILE)
        if REDUCE == _ELEMENTWISE:
            value = value * read(above, at, sizes, strides[4], TILE, T)
        else:
            value = value * factor
        write(grad, at, sizes, strides[3], TILE, value)


@triton.jit(do_not_specialize=[*SIZES, "above_stride"])
def scale_kernel(
    grad,  # [samples, ...], in place
    above,  # the gradient from above: one number, or [samples]
    above_stride,  # 0: one number; 1: one per sample
    samples,  # how many
    pitch,  # accesses of TILE.UNIT elements in a sample
    parts,  # tiles side by side in a sample
    turns,  # tiles of a program
    sizes,  # of the dimensions, or None: all tensors are contiguous (layout.py)
    strides,  # of each tensor of the layout, in order; None where contiguous
    T: tl.constexpr,  # the type of the arithmetic
    TILE: tl.constexpr,  # layout.Tile
):
    # loss.backward() brings 1: then grad stays as it is, and is not read.
    if above_stride != 0 or tl.load(above) != 1.0:
        rows = rows_of(samples, TILE)
        factor = coefficient(0.0, (above, samples, above_stride), 0, rows, T)
        first, last = tiles(rows, parts, turns, TILE)
        for tile in range(first, last):
            at = place(tile, rows, pitch, TILE)
            write(grad, at, sizes, strides[0], TILE, read(grad, at, sizes, strides[0], TILE, T) * factor)
