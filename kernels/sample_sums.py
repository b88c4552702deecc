"""Sums over a sample in the order of csrc/common/targets.h: element i is added to lane i mod 32,
one after the other; then the upper half of the lanes is added to the lower half, until one lane is
left.

A sample is one tile, or comes tile by tile: then the lanes carry over from tile to tile.
"""

import triton
import triton.language as tl

from .tile import inside_of

_LANES: tl.constexpr = tl.constexpr(32)  # kSumLanes


@triton.jit
def empty_lanes(T: tl.constexpr, TILE: tl.constexpr):
    """The lanes before anything is added: zeros, (ROWS, lanes)."""
    return tl.zeros([TILE.ROWS, _LANES], T)


@triton.jit
def _in_order(total, terms, ROWS: tl.constexpr, J: tl.constexpr):
    """total + terms[..., 0] + terms[..., 1] + ..., from the left; terms (ROWS, lanes, J)."""
    if J == 1:
        total = total + tl.reshape(terms, (ROWS, _LANES))
    else:
        halves = tl.permute(tl.reshape(terms, (ROWS, _LANES, 2, J // 2)), (0, 1, 3, 2))
        first, second = tl.split(halves)
        total = _in_order(_in_order(total, first, ROWS, J // 2), second, ROWS, J // 2)
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
    return _in_order(lanes, terms, TILE.ROWS, J)


@triton.jit
def _halved(total, ROWS: tl.constexpr, LEFT: tl.constexpr):
    if LEFT > 1:  # a sum of two has one order only
        total = _halved(tl.sum(tl.reshape(total, (ROWS, 2, LEFT // 2)), axis=1), ROWS, LEFT // 2)
    return total


@triton.jit
def folded(lanes, TILE: tl.constexpr):
    """The lanes added up, by halves: one sum a sample, (ROWS,)."""
    return tl.reshape(_halved(lanes, TILE.ROWS, lanes.shape[1]), (TILE.ROWS,))


@triton.jit
def sum_of_tile(terms, at, TILE: tl.constexpr):
    """The sums over samples that the tile holds whole, (ROWS,)."""
    if TILE.COLS * TILE.VEC > _LANES:
        lanes = added(empty_lanes(terms.dtype, TILE), terms, at, TILE)
    else:
        lanes = _present(terms, at, TILE)
    return folded(lanes, TILE)


@triton.jit
def spread(values, TILE: tl.constexpr):
    """One value a sample, (ROWS,), to its elements, (N, VEC)."""
    wide = tl.broadcast_to(values[:, None], (TILE.ROWS, TILE.COLS * TILE.VEC))
    return tl.reshape(wide, (TILE.ROWS * TILE.COLS, TILE.VEC))
