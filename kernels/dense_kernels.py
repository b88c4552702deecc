"""The kernels of the dense targets: samples enter, sums over blocks of components are gathered, and
the finish makes the score or the step."""

from __future__ import annotations

import triton
import triton.language as tl

from .chain_step import stepped
from .coefficients import coefficient
from .dense_blocks import (
    SPAN,
    add_means,
    added,
    apart,
    cells_of,
    components_of,
    dense_score,
    enter,
    entering,
    largest,
    log_weights,
    lowest,
)
from .dense_blocks import rows_of as rows_of_block
from .functions import exponential2
from .layout import SIZES
from .tile import inside_of, name_of, place, read, rows_of, write

_VARY = [*SIZES, "padded", "room", "shares", "blocks", "first", "k"]


@triton.jit(do_not_specialize=_VARY)
def enter_kernel(
    entered,  # [samples, 16 padded], in T
    x,  # [samples, ...]
    vector,  # [elements] or None: dense_parameters.py
    padded,  # a sample's elements, rounded up and divided by 16
    samples,  # how many
    pitch,  # accesses of TILE.UNIT elements in a sample
    parts,  # noqa: ARG001  tiles side by side in a sample
    turns,  # noqa: ARG001  tiles of a program, here 1
    sizes,  # of the dimensions, or None: all tensors are contiguous (layout.py)
    strides,  # of each tensor of the layout, in order; None where contiguous
    KIND: tl.constexpr,  # the target's name
    T: tl.constexpr,  # the type of the arithmetic
    TILE: tl.constexpr,  # layout.Tile
):
    """Write x into ``entered`` (samples, 16 padded); ``pitch`` is x's own."""
    at = place(tl.program_id(0), rows_of(samples, TILE), pitch, TILE)
    state = read(x, at, sizes, strides[0], TILE, T)
    enter(entered, state, vector, padded, at, KIND, TILE)


@triton.jit(do_not_specialize=_VARY)
def product_kernel(
    out,  # [samples, 16 padded]
    far,  # [samples, 16 padded]
    matrix,  # [elements, stride]
    elements,  # of a sample
    stride,  # of the matrix
    samples,  # how many
    padded,  # a sample's elements, rounded up and divided by 16
    ROWS: tl.constexpr,  # of a block of ``out``
    COLS: tl.constexpr,
    K: tl.constexpr,  # elements of a block of the sum
):
    """out = far matrix. The matrix is symmetric: the inverse of a covariance."""
    T: tl.constexpr = far.dtype.element_ty
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLS + tl.arange(0, COLS)
    width = padded.to(tl.int64) * 16
    total = tl.zeros([ROWS, COLS], T)
    for span in range(0, elements, SPAN):
        part = tl.zeros([ROWS, COLS], T)
        for d in tl.range(span, tl.minimum(span + SPAN, elements), K, num_stages=3):
            k = d + tl.arange(0, K)
            a = tl.load(
                far + row[:, None] * width + k[None, :],
                mask=(row < samples)[:, None] & (k < width)[None, :],
                other=0,
            )
            inside = (k < elements)[:, None] & (column < elements)[None, :]
            b = tl.load(matrix + k.to(tl.int64)[:, None] * stride + column[None, :], mask=inside, other=0)
            part = tl.dot(a, b, part, input_precision="ieee", out_dtype=T)
        total += part
    inside = (row < samples)[:, None] & (column < elements)[None, :]
    tl.store(out + row[:, None] * width + column[None, :], total, mask=inside)


@triton.jit(do_not_specialize=_VARY)
def gather_kernel(
    tops,  # [shares, room], like sums and totals
    sums,
    totals,
    means,  # [shares, room, 16 padded], like weights
    weights,  # or None where there is no precision
    entered,  # [room, 16 padded]
    offset,  # [components], like scale and variance: dense_parameters.py
    scale,
    variance,
    mean,  # [components, stride], like precision
    precision,  # or None
    components,
    elements,  # of a sample
    stride,
    samples,  # how many
    padded,  # a sample's elements, rounded up and divided by 16
    room,  # samples that the sums have room for
    blocks,  # blocks of components of a share
    BLOCK: tl.constexpr,  # dense_blocks.Block
):
    """Gather one share of the components for a block of samples: the largest log2 q, the sum of q,
    the sum of q variance, and the weighted means."""
    T: tl.constexpr = entered.dtype.element_ty
    COMPONENTS: tl.constexpr = BLOCK.RN * BLOCK.TN
    first_row = tl.program_id(0) * (BLOCK.RM * BLOCK.TM)
    row = rows_of_block(first_row, BLOCK)
    first = tl.program_id(1) * blocks
    last = tl.minimum(first + blocks, tl.cdiv(components, COMPONENTS))
    base = tl.program_id(1) * room.to(tl.int64)
    means_to = means + base * (padded * 16)
    weights_to = weights
    if weights is not None:
        weights_to = weights + base * (padded * 16)
    top = tl.zeros([BLOCK.RM, BLOCK.TM], T) + lowest(T)
    total, varied = tl.zeros([BLOCK.RM, BLOCK.TM], T), tl.zeros([BLOCK.RM, BLOCK.TM], T)
    begun = samples * 0  # how many of the samples have something in memory: none, then all
    for block in range(first, last):
        m = components_of(block * COMPONENTS, BLOCK)
        squares = apart(
            entered, mean, precision, row, samples, m, components, elements, stride, padded, BLOCK
        )
        log = log_weights(squares, offset, scale, m, components)
        before = top
        top = tl.maximum(top, largest(log))
        q = exponential2(log - top[:, None, :, None])
        factor = exponential2(before - top)
        total = tl.fma(total, factor, added(q))
        if variance is not None:
            each = tl.load(variance + m, mask=m < components, other=0)
            varied = tl.fma(varied, factor, added(q * each[None, :, None, :]))
        # A block whose weights are all 0 would add nothing, and then every factor is 1.
        if (begun == 0) | (tl.max(largest((q != 0).to(tl.int32)).reshape(BLOCK.RM * BLOCK.TM), axis=0) != 0):
            add_means(q, means_to, weights_to, factor, begun, mean, precision, first_row, samples,
                      block * COMPONENTS, components,
                      elements, stride, padded, BLOCK)  # fmt: skip
        begun = samples
    inside = row < samples
    tl.store(tops + base + row, top, mask=inside)
    tl.store(sums + base + row, total, mask=inside)
    if variance is not None:
        tl.store(totals + base + row, varied, mask=inside)


@triton.jit
def _gathered(tops, sums, totals, means, weights, shares, room, padded, at, TILE: tl.constexpr):
    """The shares added up in their order: (sum q mean, sum q, sum q variance), or with a precision
    (sum q precision mean, sum q precision, sum q)."""
    T: tl.constexpr = means.dtype.element_ty
    N: tl.constexpr = TILE.ROWS * TILE.COLS
    row, inside = tl.zeros([N], tl.int64) + at[4], at[3] > 0
    top = tl.zeros([N], T) + lowest(T)
    for s in range(shares):
        top = tl.maximum(top, tl.load(tops + s * room.to(tl.int64) + row, mask=inside, other=0))
    total, mean, weight = tl.zeros([N], T), tl.zeros([N, TILE.VEC], T), tl.zeros([N, TILE.VEC], T)
    for s in range(shares):
        first = s * room.to(tl.int64)
        factor = exponential2(tl.load(tops + first + row, mask=inside, other=0) - top)
        wide = tl.broadcast_to(factor[:, None], (N, TILE.VEC))
        cells, mask = cells_of(means, first, padded, at, TILE)
        mean = tl.fma(tl.load(cells, mask=mask, other=0), wide, mean)
        q = tl.load(sums + first + row, mask=inside, other=1)
        if weights is None:
            weight = tl.fma(tl.broadcast_to(q[:, None], (N, TILE.VEC)), wide, weight)
            total = tl.fma(tl.load(totals + first + row, mask=inside, other=1), factor, total)
        else:
            cells, _ = cells_of(weights, first, padded, at, TILE)
            weight = tl.fma(tl.load(cells, mask=mask, other=0), wide, weight)
            total = tl.fma(q, factor, total)
    return mean, weight, total


@triton.jit(do_not_specialize=_VARY)
def finish_kernel(
    out,  # [samples, ...] or None
    x,  # [samples, ...], in place without ``out``
    states,  # [samples, ...], the place for this step's states, or None
    bad,  # [samples, tiles of a sample] or None
    entered,  # [room, 16 padded]
    tops,  # [shares, room], like sums and totals
    sums,
    totals,
    means,  # [shares, room, 16 padded], like weights
    weights,
    vector,  # [elements] or None: dense_parameters.py
    shares,  # of the components
    room,  # samples that the sums have room for
    padded,  # a sample's elements, rounded up and divided by 16
    b,  # the step size, and c the noise's scale, where there is no table
    c,
    table,  # [3, count] or None: launch.Table
    count,  # values of a line
    stride,  # from one sample's value to the next, 0 or 1; FINE: cells that share one
    low: tl.float64,  # the clamp's bounds, where CLAMP
    high: tl.float64,
    k,  # the step's number in the call
    first,
    name,  # [4] int64: seed, first_sample, step, stream
    seeds,  # [samples] int64 or None
    ids,  # [samples] int64 or None
    samples,  # how many
    pitch,  # accesses of TILE.UNIT elements in a sample
    parts,  # noqa: ARG001  tiles side by side in a sample
    turns,  # noqa: ARG001  tiles of a program, here 1
    sizes,  # of the dimensions, or None: all tensors are contiguous (layout.py)
    strides,  # of each tensor of the layout, in order; None where contiguous
    KIND: tl.constexpr,  # the target's name
    NEVER: tl.constexpr,  # for ``bad``: a number beyond all steps
    CLAMP: tl.constexpr,  # whether there is a clamp
    T: tl.constexpr,  # the type of the arithmetic
    TILE: tl.constexpr,  # layout.Tile
):
    """Write the score to ``out``. Where that is None, take step k of a chain: update x, and write
    its coordinates to ``entered`` for the next step.

    ``first``: the index of x's first sample in the call. ``bad`` gets the first step after which an
    element of the tile was not finite, or NEVER.
    """
    rows = rows_of(samples, TILE)
    at = place(tl.program_id(0), rows, pitch, TILE)
    dtype: tl.constexpr = x.dtype.element_ty
    state = read(x, at, sizes, strides[1], TILE, T)
    if KIND == "gaussian_full":
        cells, mask = cells_of(means, 0, padded, at, TILE)
        score = tl.load(cells, mask=mask, other=0)
    else:
        mean, weight, total = _gathered(tops, sums, totals, means, weights, shares, room, padded, at, TILE)
        score = dense_score(
            mean, weight, total, entering(state, vector, at, KIND, TILE), vector, at, KIND, TILE
        )
    if out is not None:
        write(out, at, sizes, strides[0], TILE, score)
    else:
        key0, key1, sample, step, stream = name_of((name, seeds, ids), rows)
        if ids is None:
            sample += tl.cast(first, tl.uint32)
        eta, heat = (
            coefficient(b, (table, count, stride), 1, rows, T),
            coefficient(c, (table, count, stride), 2, rows, T),
        )
        key = (key0, key1, sample, step, stream)
        state = stepped(state, score, eta, heat, key, k, at, (low, high), CLAMP, False, dtype, T, TILE)
        write(x, at, sizes, strides[1], TILE, state)
        enter(entered, state, vector, padded, at, KIND, TILE)
        if states is not None:
            write(states, at, None, None, TILE, state)
        if bad is not None:
            wrong = inside_of(at, TILE) & ~(tl.abs(state) < float("inf"))
            wrong = tl.max(tl.reshape(wrong.to(tl.int32), (TILE.ROWS, TILE.COLS * TILE.VEC)), axis=1)
            which = (
                tl.program_id(1) + tl.program_id(2).to(tl.int64) * tl.num_programs(1)
            ) * TILE.ROWS + tl.arange(0, TILE.ROWS)
            to = bad + which * tl.num_programs(0) + tl.program_id(0)
            seen = tl.load(to, mask=which < samples, other=0)
            now = tl.where((wrong != 0) & (seen == NEVER), tl.cast(k, seen.dtype), seen)
            tl.store(to, now, mask=which < samples)
