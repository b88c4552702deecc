"""What a program works on: a tile of ROWS samples by COLS cells, a cell being the VEC neighbouring elements that one thread
loads, makes the noise of, and stores.

The tile's shape follows from the size of a sample and the dtype alone (:class:`Tiling`), never from the batch: nothing is compiled
again when the batch changes, and a sample's loss does not depend on its batch. Places within a tile are 32 bits wide; where it
begins is 64 bits wide, and the same for all threads, so that large tensors cost nothing.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from triton import knobs

from .normal import normals

# The interpreter truncates float32 to bfloat16; there, and only there, the bits are rounded by hand first.
_ROUND_BY_HAND: tl.constexpr = tl.constexpr(knobs.runtime.interpret)

ELEMENTS = 2048  # of a tile: 16 a thread, so that what is common to them (the key schedule, the offsets) weighs little
WARPS = 4  # of a whole tile
_MAX_GRID_Y = 32768


class Tiling:
    """How tensors of ``samples`` x ``elements`` are cut into tiles; ``grid`` and ``arguments`` are for the launch."""

    def __init__(self, samples: int, elements: int, dtype: torch.dtype) -> None:
        self.samples, self.elements = samples, elements
        # 16 bytes; small samples of another size would waste the half of some.
        self.vec = 8 if dtype.itemsize == 2 and (elements % 8 == 0 or elements >= 64) else 4
        cells = -(-elements // self.vec)
        limit = ELEMENTS // self.vec
        # A sample's last tile is padded: narrower ones waste less, but a row of them should still fill a few cache lines.
        whole = triton.next_power_of_2(max(cells, 1))
        widths = [whole >> k for k in range(8) if k == 0 or whole >> k >= 16] if whole <= limit else [limit, limit // 2, limit // 4]
        padded = {width: -(-cells // width) * width for width in widths}
        self.cols = next((width for width in widths if padded[width] <= 1.15 * cells), min(widths, key=lambda width: padded[width]))
        # Small samples share a tile; large ones have tiles of their own, and fewer warps where those are narrow.
        self.rows = limit // self.cols if whole <= limit else 1
        warps = max(1, WARPS * self.rows * self.cols // limit)
        self.parts = -(-cells // self.cols)  # tiles side by side in a sample
        self.blocks = -(-samples // self.rows)
        # Grid dimensions y and z hold 16 bits: samples take both.
        self.grid = (self.parts, min(self.blocks, _MAX_GRID_Y), -(-self.blocks // _MAX_GRID_Y))
        unit = math.gcd(elements, self.vec)
        self.arguments = {
            "samples": samples,
            "pitch": elements // unit,
            "UNIT": unit,
            "ROWS": self.rows,
            "COLS": self.cols,
            "VEC": self.vec,
            "num_warps": warps,
            "enable_fp_fusion": False,  # bits are promised
        }


# What Triton must not compile again for, when it happens to be 1 or divisible by 16.
SIZES = ["samples", "pitch", "count", "stride"]


@triton.jit
def place(samples, pitch, UNIT: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, VEC: tl.constexpr):
    """Where this program's tile lies.

    ``row``: its samples, int64, (N,) or, where the tile is one sample, a scalar; ``valid``: which of them exist.
    ``cell``: uint32 (N,), counted within a sample. ``start`` (int64) + ``offset`` (int32 (N, VEC)): the flat index of the elements.
    ``inside`` (N, VEC): which of them exist.
    """
    elements = pitch.to(tl.int64) * UNIT  # as a product, so that the compiler knows what divides it
    at = tl.arange(0, ROWS * COLS)
    first_cell = tl.program_id(0).to(tl.int64) * COLS
    first_row = (tl.program_id(1) + tl.program_id(2).to(tl.int64) * tl.num_programs(1)) * ROWS
    column = at % COLS
    lane = column[:, None] * VEC + tl.arange(0, VEC)[None, :]
    start = first_row * elements + first_cell * VEC
    if ROWS == 1:
        row = first_row
        valid = row < samples
        offset = lane
    else:
        row = first_row + at // COLS
        valid = row < samples
        offset = (at // COLS)[:, None] * (pitch.to(tl.int32) * UNIT) + lane
    # Whole cells are masked as such: a mask that could cut one would take the wide loads and stores apart.
    if UNIT == VEC:
        left = tl.minimum(pitch.to(tl.int64) - first_cell, COLS).to(tl.int32)
        place_in_row = column[:, None]
    else:
        left = tl.minimum(elements - first_cell * VEC, COLS * VEC).to(tl.int32)
        place_in_row = lane
    if ROWS == 1:
        inside = place_in_row < tl.where(valid, left, 0)
    else:
        inside = (place_in_row < left) & valid[:, None]
    inside = tl.broadcast_to(inside, (ROWS * COLS, VEC))
    return row, valid, first_cell.to(tl.uint32) + column.to(tl.uint32), start, offset, inside


@triton.jit
def noise(name, seeds, ids, row, valid, cell, VEC: tl.constexpr):
    """The contract's normals, float32 (N, VEC), as ``name`` (seed, first_sample, step, stream), ``seeds`` and ``ids`` name them."""
    if seeds is None:
        seed = tl.load(name)
    else:
        seed = tl.load(seeds + row, mask=valid, other=0)
    if ids is None:
        sample = (tl.load(name + 1) + row).to(tl.uint32)
    else:
        sample = tl.load(ids + row, mask=valid, other=0).to(tl.uint32)
    step, stream = tl.load(name + 2).to(tl.uint32), tl.load(name + 3).to(tl.uint32)
    return normals(cell, sample, step, stream, seed.to(tl.uint32), (seed >> 32).to(tl.uint32), VEC)


@triton.jit
def coefficient(number, table, K: tl.constexpr, row, valid, count, stride, T: tl.constexpr):
    """Coefficient K, to go with (N, VEC): a number, or line K of the table (rows.py), whose stride is 0 or 1."""
    if table is None:
        value = tl.full([], number, T)
    else:
        value = tl.load(table + K * count.to(tl.int64) + row * stride, mask=valid, other=0.0)
        if len(value.shape) != 0:
            value = value[:, None]
    return value.to(T)


@triton.jit
def read(pointer, start, offset, inside, T: tl.constexpr):
    return tl.load(pointer + start + offset, mask=inside, other=0.0).to(T)


@triton.jit
def write(pointer, start, offset, inside, value):
    """Rounded once, to nearest even, to the tensor's dtype."""
    dtype: tl.constexpr = pointer.dtype.element_ty
    if _ROUND_BY_HAND and dtype == tl.bfloat16:
        bits = value.to(tl.uint32, bitcast=True)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        value = tl.where(value == value, rounded, bits | 0x400000).to(tl.float32, bitcast=True)
    tl.store(pointer + start + offset, value.to(dtype), mask=inside)
