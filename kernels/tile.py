"""The device's side of :mod:`pyebm.kernels.layout`: the place of a program's tile, its noise, and
reads and writes of it.

Offsets within a tile are 32 bits wide. The tile's start is 64 bits wide and the same for all
threads, so that large tensors cost nothing. Strides unlike a contiguous tensor's go through
:func:`_offset`, without a copy.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton import knobs

# The interpreter truncates float32 to bfloat16; there, and only there, the bits are rounded by hand
# first.
_ROUND_BY_HAND: tl.constexpr = tl.constexpr(knobs.runtime.interpret)


@triton.jit
def block_of():
    """The index of this program's block of ROWS samples, int64."""
    return tl.program_id(1) + tl.program_id(2).to(tl.int64) * tl.num_programs(1)


@triton.jit
def rows_of(samples, TILE: tl.constexpr):
    """(row, valid): the samples of this program, int64, and which of them exist; (N,) or, where it
    is one sample, scalars."""
    row = block_of() * TILE.ROWS
    if TILE.ROWS > 1:
        row = row + tl.arange(0, TILE.ROWS * TILE.COLS) // TILE.COLS
    return row, row < samples


@triton.jit
def place(tile, rows, pitch, TILE: tl.constexpr):
    """The place of tile number ``tile`` of these samples: (cell, start, offset, room, row), for
    :func:`read` and :func:`write`.

    ``cell``: (N,) counted within a sample. ``start`` (int64) + ``offset`` (int32 (N,)): where the
    cell begins in a contiguous tensor. ``room`` (N,): how many elements from there on exist.
    """
    row, valid = rows
    at = tl.arange(0, TILE.ROWS * TILE.COLS)
    column = at
    if TILE.ROWS > 1:
        column = at % TILE.COLS
    first_cell = tl.cast(tile, tl.int64) * TILE.COLS
    # Lengths are products here, so that the compiler knows which numbers divide them.
    if TILE.UNIT == TILE.VEC:
        left = tl.minimum(pitch.to(tl.int64) - first_cell, TILE.COLS).to(tl.int32) * TILE.VEC
    else:
        left = tl.minimum(pitch.to(tl.int64) * TILE.UNIT - first_cell * TILE.VEC, TILE.COLS * TILE.VEC).to(
            tl.int32
        )
    start = block_of() * TILE.ROWS * (pitch.to(tl.int64) * TILE.UNIT) + first_cell * TILE.VEC
    offset = column * TILE.VEC
    if TILE.ROWS > 1:
        offset += at // TILE.COLS * (pitch.to(tl.int32) * TILE.UNIT)
    room = tl.where(valid, left, 0) - column * TILE.VEC
    cell = first_cell.to(tl.int64 if TILE.WIDE else tl.uint32) + column
    return cell, start, offset, room, row


@triton.jit
def element_of(at, TILE: tl.constexpr):
    """(N, VEC): the elements' indices within their sample."""
    return (at[0] * TILE.VEC)[:, None] + tl.arange(0, TILE.VEC)[None, :].to(at[0].dtype)


@triton.jit
def inside_of(at, TILE: tl.constexpr):
    """(N, VEC): whether each element exists."""
    return at[3][:, None] > tl.arange(0, TILE.VEC)[None, :]


@triton.jit
def clamped(x, low, high):
    """x clamped to [low, high]. NaN stays NaN: neither comparison holds for it."""
    x = tl.where(x < low, low, x)
    return tl.where(x > high, high, x)


@triton.jit
def name_of(named, rows):
    """(key0, key1, sample, step, stream) of the noise, as ``name`` (seed, first_sample, step,
    stream), ``seeds`` and ``ids`` say.

    The numbers are read as words of 32 bits, low word first: where LLVM sees a word cut out of 64
    bits, it does the next operations in 64 bits too.
    """
    name, seeds, ids = named
    row, valid = rows
    words = name.to(tl.pointer_type(tl.uint32), bitcast=True)
    if seeds is None:
        key0, key1 = tl.load(words), tl.load(words + 1)
    else:
        seed = seeds.to(tl.pointer_type(tl.uint32), bitcast=True) + 2 * row
        key0, key1 = tl.load(seed, mask=valid, other=0), tl.load(seed + 1, mask=valid, other=0)
    if ids is None:
        sample = tl.load(words + 2) + row.to(tl.uint32)
    else:
        sample = tl.load(ids.to(tl.pointer_type(tl.uint32), bitcast=True) + 2 * row, mask=valid, other=0)
    return key0, key1, sample, tl.load(words + 4), tl.load(words + 6)


@triton.jit
def _decoded(number):
    return number >> 4


@triton.jit
def _offset(rest, within, row, sizes, strides, TILE: tl.constexpr):
    """The offset, int64, of element ``within`` of run ``rest`` of a sample, in a tensor with these
    strides (layout.py)."""
    offset = row * _decoded(strides[0])
    if TILE.UNIT > 1:
        offset = offset * TILE.UNIT
    RANK: tl.constexpr = len(sizes)
    for k in tl.static_range(RANK):
        if k == RANK - 1:
            coordinate = rest
        else:
            size = _decoded(sizes[RANK - 1 - k]).to(rest.dtype)
            coordinate = rest % size
            rest = rest // size
        if k == 0:
            coordinate = coordinate * TILE.RUN + within
        coordinate = coordinate.to(tl.int64)
        if TILE.UNIT == 1:
            offset += coordinate * _decoded(strides[RANK - k])
        elif k == 0:
            offset += coordinate
        else:
            offset += coordinate * _decoded(strides[RANK - k]) * TILE.UNIT
    return offset


@triton.jit
def _units(pointer, at, sizes, strides, K: tl.constexpr, TILE: tl.constexpr):
    """Pointers and mask of the K-th unit of each cell, (N,) or (N, UNIT). Whole units are masked: a
    mask that could cut one would take the wide access apart."""
    cell, start, offset, room, row = at
    if sizes is None:
        offset = offset + K * TILE.UNIT
    else:
        start = 0
        rest = cell * (TILE.VEC // TILE.RUN) + K * TILE.UNIT // TILE.RUN
        offset = _offset(rest, K * TILE.UNIT % TILE.RUN, row, sizes, strides, TILE)
    inside = room > K * TILE.UNIT
    if TILE.UNIT > 1:
        offset = offset[:, None] + tl.arange(0, TILE.UNIT)[None, :]
        inside = tl.broadcast_to(inside[:, None], offset.shape)
    return pointer + offset + start, inside


@triton.jit
def _load(pointer, at, sizes, strides, K: tl.constexpr, TILE: tl.constexpr):
    pointers, inside = _units(pointer, at, sizes, strides, K, TILE)
    if TILE.FULL:
        value = tl.load(pointers)
    else:
        value = tl.load(pointers, mask=inside, other=0)
    return value


@triton.jit
def _pieces(pointer, at, sizes, strides, FIRST: tl.constexpr, STEP: tl.constexpr, TILE: tl.constexpr):
    """The units FIRST, FIRST + STEP, ... of each cell, joined so that a reshape puts them in
    order."""
    if STEP * TILE.UNIT == TILE.VEC:
        value = _load(pointer, at, sizes, strides, FIRST, TILE)
    else:
        even = _pieces(pointer, at, sizes, strides, FIRST, 2 * STEP, TILE)
        value = tl.join(even, _pieces(pointer, at, sizes, strides, FIRST + STEP, 2 * STEP, TILE))
    return value


@triton.jit
def read(pointer, at, sizes, strides, TILE: tl.constexpr, T: tl.constexpr):
    """The tile's elements, (N, VEC), of type T, with 0 where there is none. Nothing moves between
    threads: each thread reads its own cells."""
    value = _pieces(pointer, at, sizes, strides, 0, 1, TILE)
    if TILE.UNIT > 1:
        if TILE.VEC == 2 * TILE.UNIT:
            value = tl.permute(value, (0, 2, 1))
        elif TILE.VEC == 4 * TILE.UNIT:
            value = tl.permute(value, (0, 2, 3, 1))
    return tl.reshape(value, (value.shape[0], TILE.VEC)).to(T)


@triton.jit
def read_beside(
    pointer, at, sizes, strides, SHIFT: tl.constexpr, elements, TILE: tl.constexpr, T: tl.constexpr
):
    """The element before (SHIFT -1) or after (1) each element of a tile, (N, VEC), with 0 where
    the sample has none."""
    _, start, offset, _, row = at
    element, inside = element_of(at, TILE), inside_of(at, TILE)
    if SHIFT < 0:
        inside = inside & (element > 0)
        element = element - 1
    else:
        element = element + 1
        inside = inside & (element < elements)
    if sizes is None:
        offset = offset[:, None] + (tl.arange(0, TILE.VEC) + SHIFT)[None, :]
    else:
        start = 0
        if TILE.ROWS > 1:
            row = row[:, None]
        offset = _offset(element // TILE.RUN, element % TILE.RUN, row, sizes, strides, TILE)
    return tl.load(pointer + offset + start, mask=inside, other=0).to(T)


@triton.jit
def rounded(value, dtype: tl.constexpr):
    """The value rounded once, to nearest even, to a tensor's dtype."""
    if _ROUND_BY_HAND and dtype == tl.bfloat16:
        bits = value.to(tl.uint32, bitcast=True)
        even = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        value = tl.where(value == value, even, bits | 0x400000).to(tl.float32, bitcast=True)
    return value.to(dtype)


@triton.jit
def _put(pointer, at, sizes, strides, value, FIRST: tl.constexpr, STEP: tl.constexpr, TILE: tl.constexpr):
    if STEP * TILE.UNIT == TILE.VEC:
        pointers, inside = _units(pointer, at, sizes, strides, FIRST, TILE)
        if TILE.FULL:
            tl.store(pointers, value)
        else:
            tl.store(pointers, value, mask=inside)
    else:
        even, odd = tl.split(value)
        _put(pointer, at, sizes, strides, even, FIRST, 2 * STEP, TILE)
        _put(pointer, at, sizes, strides, odd, FIRST + STEP, 2 * STEP, TILE)


@triton.jit
def write(pointer, at, sizes, strides, TILE: tl.constexpr, value):
    """Write the tile's elements, (N, VEC), rounded once to the tensor's dtype."""
    value = rounded(value, pointer.dtype.element_ty)
    CELLS: tl.constexpr = TILE.ROWS * TILE.COLS
    if TILE.UNIT == 1:
        value = tl.reshape(value, (CELLS, 2, 2) if TILE.VEC == 4 else (CELLS, 2, 2, 2))
    elif TILE.VEC == 2 * TILE.UNIT:
        value = tl.permute(tl.reshape(value, (CELLS, 2, TILE.UNIT)), (0, 2, 1))
    elif TILE.VEC == 4 * TILE.UNIT:
        value = tl.permute(tl.reshape(value, (CELLS, 2, 2, TILE.UNIT)), (0, 3, 1, 2))
    _put(pointer, at, sizes, strides, value, 0, 1, TILE)


@triton.jit
def tiles(rows, parts, turns, TILE: tl.constexpr):
    """(first, end) of the tiles of this program: ``end`` is one past the last."""
    first = tl.program_id(0) * turns
    last = tl.minimum(first + turns, parts)
    if TILE.FULL:
        _, valid = rows
        last = tl.where(valid, last, first)  # the grid may hold more programs than blocks
    return first, last
