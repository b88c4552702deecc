"""Sums over a sample in a fixed order. A target's sum has the order of csrc/common/targets.h:
element i is added to lane i mod 32, one after the other; then the upper half of the lanes is added
to the lower half, until one lane is left. A sample is one tile, or comes tile by tile: then the
lanes carry over from tile to tile.

A norm's sum has the order of the CPU's losses: a span of 1024 elements is added up in 16 lanes, the
lanes are added one by one, and the spans' sums in float64.
"""

import triton
import triton.language as tl

from .batch_mean import halved
from .tile import block_of, inside_of

SPAN = 1024  # kEnergySpan, and the CPU's kChunk
_LANES: tl.constexpr = tl.constexpr(32)  # kSumLanes
_LANES_OF_SQUARES: tl.constexpr = tl.constexpr(16)  # the CPU's kLanes


@triton.jit
def empty_lanes(T: tl.constexpr, TILE: tl.constexpr):
    """The lanes before anything is added: zeros, (ROWS, lanes)."""
    return tl.zeros([TILE.ROWS, _LANES], T)


@triton.jit
def _in_order(total, terms, J: tl.constexpr):
    """total + terms[..., 0] + terms[..., 1] + ..., from the left; total (ROWS, lanes), terms (ROWS,
    lanes, J)."""
    ROWS: tl.constexpr = total.shape[0]
    LANES: tl.constexpr = total.shape[1]
    if J == 1:
        total = total + tl.reshape(terms, (ROWS, LANES))
    else:
        halves = tl.permute(tl.reshape(terms, (ROWS, LANES, 2, J // 2)), (0, 1, 3, 2))
        first, second = tl.split(halves)
        total = _in_order(_in_order(total, first, J // 2), second, J // 2)
    return total


@triton.jit
def _present(terms, at, TILE: tl.constexpr):
    """The terms, with zero where there is no element, (ROWS, the tile's width)."""
    terms = tl.where(inside_of(at, TILE), terms, tl.zeros_like(terms))
    return tl.reshape(terms, (TILE.ROWS, TILE.COLS * TILE.VEC))


@triton.jit
def added(lanes, terms, at, TILE: tl.constexpr):
    """The lanes after adding the terms of a tile, (N, VEC); a row of the tile must be at least as
    wide as the lanes."""
    J: tl.constexpr = TILE.COLS * TILE.VEC // _LANES
    terms = tl.permute(tl.reshape(_present(terms, at, TILE), (TILE.ROWS, J, _LANES)), (0, 2, 1))
    return _in_order(lanes, terms, J)


@triton.jit
def folded(lanes, TILE: tl.constexpr):
    """The lanes added up, by halves: one sum a sample, (ROWS,)."""
    return tl.reshape(halved(lanes, TILE.ROWS, lanes.shape[1]), (TILE.ROWS,))


@triton.jit
def sum_of_tile(terms, at, TILE: tl.constexpr):
    """The sums over samples that the tile holds whole, (ROWS,)."""
    if TILE.COLS * TILE.VEC > _LANES:
        lanes = added(empty_lanes(terms.dtype, TILE), terms, at, TILE)
    else:
        lanes = _present(terms, at, TILE)
    return folded(lanes, TILE)


@triton.jit
def sum_of_squares(values, at, TILE: tl.constexpr):
    """The sums of squares over spans that the tile holds whole, (ROWS,)."""
    ROWS: tl.constexpr = TILE.ROWS
    J: tl.constexpr = TILE.COLS * TILE.VEC // _LANES_OF_SQUARES
    lanes = _present(values * values, at, TILE)
    if J > 1:
        each = tl.permute(tl.reshape(lanes, (ROWS, J, _LANES_OF_SQUARES)), (0, 2, 1))
        lanes = _in_order(tl.zeros([ROWS, _LANES_OF_SQUARES], values.dtype), each, J)
    total = tl.zeros([ROWS, 1], values.dtype)
    return tl.reshape(_in_order(total, lanes, lanes.shape[1]), (ROWS,))


@triton.jit
def put_spans(partial, sums, samples, TILE: tl.constexpr):
    """Store each span's sum, (ROWS,), in ``partial`` (samples, spans of a sample): a program has
    one span of each of its samples."""
    sample = block_of() * TILE.ROWS + tl.arange(0, TILE.ROWS)
    tl.store(partial + sample * tl.num_programs(0) + tl.program_id(0), sums, mask=sample < samples)


@triton.jit
def sum_of_spans(partial, sample, inside, spans):
    """The sums of ``partial`` (samples, spans) over the spans, one after the other, in float64."""
    total = tl.load(partial + sample * spans, mask=inside, other=0.0).to(tl.float64)
    for k in range(1, spans):
        total += tl.load(partial + sample * spans + k, mask=inside, other=0.0).to(tl.float64)
    return total


@triton.jit
def spread(values, TILE: tl.constexpr):
    """One value a sample, (ROWS,), to its elements, (N, VEC)."""
    wide = tl.broadcast_to(values[:, None], (TILE.ROWS, TILE.COLS * TILE.VEC))
    return tl.reshape(wide, (TILE.ROWS * TILE.COLS, TILE.VEC))
