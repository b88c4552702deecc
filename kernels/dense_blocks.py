"""The dense targets on the device: differences and their squares, weights, and weighted means, by
blocks of samples and components.

``entered`` holds a row for each sample: its coordinates (:func:`entering`) in the type of the
arithmetic, padded with zeros to ``16 pitch``. The work in memory has rows of that width too.
Products are fused only where the code says so (tl.fma, tl.dot), so that a sum has the same bits
wherever it is compiled. Sums across threads go by halves, whose order no layout changes.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl

from .functions import quotient
from .tile import element_of, inside_of

SPAN: tl.constexpr = tl.constexpr(
    128
)  # dimensions summed in one go: a long sum would lose digits that a softmax needs
_HALF_LOG2_E: tl.constexpr = tl.constexpr(float.fromhex("0x1.71547652b82fep-1"))


class Block(NamedTuple):
    """(RM TM) samples by (RN TN) components: a thread holds RM by RN of them, and K dimensions are
    loaded at once."""

    RM: int
    RN: int
    TM: int
    TN: int
    K: int
    COLS: int  # dimensions of a product that are in registers at once

    @property
    def samples(self) -> int:
        return self.RM * self.TM

    @property
    def components(self) -> int:
        return self.RN * self.TN


@triton.jit
def lowest(T: tl.constexpr):
    return tl.full([], -1.7976931348623157e308 if tl.float64 == T else -3.4028234663852886e38, T)


@triton.jit
def entering(state, vector, at, KIND: tl.constexpr, TILE: tl.constexpr):
    """The coordinates that the sums use: x times ``inverse`` (mixture), x (mixture_diagonal), or
    mean - x (gaussian_full)."""
    if KIND == "mixture_diagonal":
        value = state
    else:
        each = tl.load(vector + element_of(at, TILE), mask=inside_of(at, TILE), other=0)
        value = state * each if KIND == "mixture" else each - state
    return value


@triton.jit
def cells_of(pointer, first_row, pitch, at, TILE: tl.constexpr):
    """Pointers to the elements of the tile in rows of width 16 pitch, (N, VEC), and the mask of
    whole cells."""
    _, _, _, room, row = at
    N: tl.constexpr = TILE.ROWS * TILE.COLS
    start = (tl.zeros([N], tl.int64) + row + first_row) * (pitch.to(tl.int64) * 16)
    element = (at[0].to(tl.int64) * TILE.VEC)[:, None] + tl.arange(0, TILE.VEC)[None, :]
    return pointer + start[:, None] + element, tl.broadcast_to((room > 0)[:, None], (N, TILE.VEC))


@triton.jit
def enter(entered, state, vector, pitch, at, KIND: tl.constexpr, TILE: tl.constexpr):
    """Write the state's rows of ``entered``, with 0 where the tile has no element."""
    value = entering(state, vector, at, KIND, TILE)
    cells, mask = cells_of(entered, 0, pitch, at, TILE)
    tl.store(cells, tl.where(inside_of(at, TILE), value, tl.zeros_like(value)), mask=mask)


@triton.jit
def _squares(total, far, weighted, K: tl.constexpr):
    """total + the sum of far * weighted over the last of five dimensions, in a thread's registers.
    ``weighted`` None stands for ``far``."""
    if K == 1:
        far = tl.reshape(far, total.shape)
        total = tl.fma(far if weighted is None else tl.reshape(weighted, total.shape), far, total)
    else:
        SHAPE: tl.constexpr = (far.shape[0], far.shape[1], far.shape[2], far.shape[3], K // 2, 2)
        first, second = tl.split(tl.reshape(far, SHAPE))
        if weighted is None:
            total = _squares(_squares(total, first, None, K // 2), second, None, K // 2)
        else:
            a, b = tl.split(tl.reshape(weighted, SHAPE))
            total = _squares(_squares(total, first, a, K // 2), second, b, K // 2)
    return total


@triton.jit
def rows_of(first_row, BLOCK: tl.constexpr):
    """(RM, TM): the samples of a block."""
    return first_row + tl.arange(0, BLOCK.RM)[:, None] * BLOCK.TM + tl.arange(0, BLOCK.TM)[None, :]


@triton.jit
def components_of(first, BLOCK: tl.constexpr):
    """(RN, TN): the components of a block."""
    return first + tl.arange(0, BLOCK.RN)[:, None] * BLOCK.TN + tl.arange(0, BLOCK.TN)[None, :]


@triton.jit
def apart(
    entered, mean, precision, row, samples, m, components, elements, stride, pitch, BLOCK: tl.constexpr
):
    """sum_d (precision_md) (y_bd - mean_md)^2 of a block, (RM, RN, TM, TN): no form that cancels.

    In this shape Triton's own layout gives a thread RM by RN of the sums; y and the means each
    reach the thread once, through shared memory.
    """
    T: tl.constexpr = entered.dtype.element_ty
    row_starts = entered + row.to(tl.int64) * (pitch * 16)
    starts = m.to(tl.int64) * stride
    row_inside, inside = (row < samples)[None], (m < components)[None]
    total = tl.zeros([BLOCK.RM, BLOCK.RN, BLOCK.TM, BLOCK.TN], T)
    for span in range(0, elements, SPAN):
        part = tl.zeros([BLOCK.RM, BLOCK.RN, BLOCK.TM, BLOCK.TN], T)
        for d in tl.range(span, tl.minimum(span + SPAN, elements), BLOCK.K, num_stages=3):
            k = (d + tl.arange(0, BLOCK.K))[:, None, None]
            some = inside & (k < elements)
            y = tl.load(row_starts[None] + k, mask=row_inside, other=0)
            means = tl.load(mean + (starts[None] + k), mask=some, other=0)
            far = y[:, :, None, :, None] - means[:, None, :, None, :]
            if precision is None:
                part = _squares(part, tl.permute(far, (1, 2, 3, 4, 0)), None, BLOCK.K)
            else:
                weights = tl.load(precision + (starts[None] + k), mask=some, other=0)
                weighted = tl.permute(far * weights[:, None, :, None, :], (1, 2, 3, 4, 0))
                part = _squares(part, tl.permute(far, (1, 2, 3, 4, 0)), weighted, BLOCK.K)
        total += part
    return total


@triton.jit
def log_weights(squares, offset, scale, m, components):
    """log2 q of a block, (RM, RN, TM, TN); -inf where there is no component."""
    T: tl.constexpr = squares.dtype
    inside = m < components
    offsets = tl.load(offset + m, mask=inside, other=float("-inf"))[None, :, None, :]
    if scale is None:
        scales = tl.full([1, 1, 1, 1], _HALF_LOG2_E, T)
    else:
        scales = tl.load(scale + m, mask=inside, other=1)[None, :, None, :]
    return tl.fma(squares, tl.broadcast_to(-scales, squares.shape), tl.broadcast_to(offsets, squares.shape))


@triton.jit
def largest(values):
    """The largest value over the components of each sample, (RM, TM)."""
    return tl.max(tl.max(values, axis=1), axis=2)


@triton.jit
def added(values):
    """The sum over the components of each sample, (RM, TM)."""
    return tl.sum(tl.sum(values, axis=1), axis=2)


@triton.jit
def _weighted(sums, weights, q, mean, precision, first, components, stride, d, elements, J: tl.constexpr,
              STEP: tl.constexpr,
              BLOCK: tl.constexpr):  # fmt: skip
    """sums + q mean, or with a precision (sums + q precision mean, weights + q precision), over the
    TN components of the block from each of J TN, (J + STEP) TN, ... on."""
    if STEP == BLOCK.RN:
        q = tl.reshape(q, (q.shape[0], BLOCK.TN))
        m = (first + J * BLOCK.TN + tl.arange(0, BLOCK.TN))[:, None]
        column = (d + tl.arange(0, BLOCK.COLS))[None, :]
        at = m.to(tl.int64) * stride + column
        inside = (m < components) & (column < elements)
        values = tl.load(mean + at, mask=inside, other=0)
        if precision is not None:
            precisions = tl.load(precision + at, mask=inside, other=0)
            weights = tl.dot(q, precisions, weights, input_precision="ieee", out_dtype=q.dtype)
            values = values * precisions
        sums = tl.dot(q, values, sums, input_precision="ieee", out_dtype=q.dtype)
    else:
        one, other = tl.split(tl.reshape(q, (q.shape[0], BLOCK.TN, BLOCK.RN // (2 * STEP), 2)))
        sums, weights = _weighted(
            sums, weights, one, mean, precision, first, components, stride, d, elements, J, 2 * STEP, BLOCK
        )
        sums, weights = _weighted(
            sums,
            weights,
            other,
            mean,
            precision,
            first,
            components,
            stride,
            d,
            elements,
            J + STEP,
            2 * STEP,
            BLOCK,
        )
    return sums, weights


@triton.jit
def add_means(q, means_to, weights_to, factor, begun, mean, precision, first_row, samples, first, components,
              elements, stride,
              pitch, BLOCK: tl.constexpr):  # fmt: skip
    """Scale the sums in memory by ``factor`` and add q mean to them (with a precision: q precision
    mean, and q precision)."""
    ROWS: tl.constexpr = BLOCK.RM * BLOCK.TM
    q = tl.reshape(tl.permute(q, (0, 2, 3, 1)), (ROWS, BLOCK.TN, BLOCK.RN))
    row = first_row + tl.arange(0, ROWS)
    to = row.to(tl.int64)[:, None] * (pitch * 16)
    scaled = tl.broadcast_to(tl.reshape(factor, (ROWS,))[:, None], (ROWS, BLOCK.COLS))
    for d in tl.range(0, elements, BLOCK.COLS, num_stages=2):
        column = (d + tl.arange(0, BLOCK.COLS))[None, :]
        there = (row < samples)[:, None] & (column < pitch * 16)
        known = there & (row < begun)[:, None]
        sums = tl.zeros([ROWS, BLOCK.COLS], q.dtype)
        sums, weights = _weighted(
            sums, sums, q, mean, precision, first, components, stride, d, elements, 0, 1, BLOCK
        )
        _add(means_to + to + column, sums, scaled, known, there)
        if precision is not None:
            _add(weights_to + to + column, weights, scaled, known, there)


@triton.jit
def _add(pointers, values, factor, known, mask):
    before = tl.load(pointers, mask=known, other=0)
    tl.store(pointers, tl.fma(before, factor, values), mask=mask)


@triton.jit
def dense_score(mean, weight, total, y, vector, at, KIND: tl.constexpr, TILE: tl.constexpr):
    """inverse (sum q mean - y sum q) / sum q variance, or (sum q precision mean - x sum q
    precision) / sum q; (N, VEC)."""
    over = quotient(tl.full([], 1.0, mean.dtype), total)
    pull = tl.fma(-y, weight, mean) * over[:, None]
    if KIND == "mixture":
        pull = pull * tl.load(vector + element_of(at, TILE), mask=inside_of(at, TILE), other=0)
    return pull
