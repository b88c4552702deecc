"""How the tensors of a call are cut into tiles, and what a launch is told about it:
:class:`Tiling`, for the host.

A tile is ROWS samples by COLS cells, a cell being the VEC neighbouring elements of a sample that
one thread loads, makes the noise of, and stores. A program takes ``turns`` tiles that lie side by
side, one after the other: what belongs to the samples (the key's schedule, coefficients, addresses)
is made once for all of them, and the code stays short.

The tiles' shape and number follow from the size of a sample and the dtype alone, never from the
batch: nothing is compiled again when the batch changes, and a sample's loss does not depend on its
batch.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import triton
from torch import Tensor

ELEMENTS = 2048  # of a tile: 16 a thread
WARPS = 4  # of a whole tile
MOST = 1024  # elements of the largest tile that holds a whole sample because it should
TURNS = 4
_MAX_GRID_Y = 32768
_WIDE = 2**31  # an index within a sample that needs 64 bits


class Tile(NamedTuple):
    """What a kernel is compiled for."""

    UNIT: int  # elements that one access moves: VEC, or what alignment leaves of it
    RUN: int  # elements of a cell that lie in one row of the innermost dimension
    ROWS: int
    COLS: int
    VEC: int
    FULL: bool  # no tile holds a place where there is no element: nothing is masked
    WIDE: bool  # indices within a sample take 64 bits

    @property
    def elements(self) -> int:
        return self.ROWS * self.COLS * self.VEC


# What Triton must not compile again for, when it happens to be 1 or divisible by 16.
SIZES = ["samples", "pitch", "parts", "turns", "count", "stride"]


class Tiling:
    """For ``out`` and the tensors that go with it element by element; ``grid`` and ``arguments``
    are for the launch."""

    def __init__(
        self,
        out: Tensor,
        *others: Tensor | None,
        most: int = ELEMENTS,
        turns: int = TURNS,
        whole: bool = False,
    ) -> None:
        """most: elements of a tile. turns: at most so many. whole: a sample is one program's, and
        where it can be in one tile."""
        samples, elements = shape_of(out)
        self.samples = samples
        # 16 bytes; a sample whose end cuts a cell would waste half of it.
        vec = 8 if out.itemsize == 2 and elements % 8 == 0 else 4
        cells = -(-elements // vec)
        limit = most // vec
        # A sample's last tile is padded: narrower ones waste less, but a row of them should still
        # fill a few cache lines.
        everything = triton.next_power_of_2(max(cells, 1))
        if whole and everything * vec <= MOST:
            widths = [everything]
        elif everything <= limit:
            widths = [everything >> k for k in range(8) if k == 0 or everything >> k >= 16]
        else:
            widths = [limit, limit // 2, limit // 4]
        padded = {width: -(-cells // width) * width for width in widths}
        cols = next(
            (width for width in widths if padded[width] <= 1.15 * cells),
            min(widths, key=lambda width: padded[width]),
        )
        # Small samples share a tile; large ones have tiles of their own, and fewer warps where
        # those are narrow.
        rows = limit // cols if everything <= limit else 1
        parts = -(-cells // cols)  # tiles side by side in a sample
        turns = parts if whole else -(-parts // -(-parts // turns))
        self.long = whole and parts > 1
        self.programs = -(-parts // turns)  # side by side
        self.blocks = -(-samples // rows)
        # Grid dimensions y and z hold 16 bits: samples take both.
        self.grid = (self.programs, min(self.blocks, _MAX_GRID_Y), -(-self.blocks // _MAX_GRID_Y))

        tensors = (out, *others)
        aligned = all(t is None or t.data_ptr() % 16 == 0 for t in tensors)
        if all(t is None or t.is_contiguous() for t in tensors):
            unit = run = math.gcd(elements, vec) if aligned else 1
            sizes, strides = None, (None,) * len(tensors)
        else:
            unit, run, sizes, strides = _strided(tensors, vec, aligned)
        self.tile = Tile(
            unit, run, rows, cols, vec, rows == 1 and elements % (cols * vec) == 0, elements >= _WIDE
        )
        self.arguments = {
            "samples": samples,
            "pitch": elements // unit,
            "parts": parts,
            "turns": turns,
            "sizes": sizes,
            "strides": strides,
            "TILE": self.tile,
            "num_warps": min(max(1, WARPS * rows * cols // limit), 32),
            "enable_fp_fusion": False,  # bits are promised
        }


def shape_of(x: Tensor) -> tuple[int, int]:
    """(samples, elements of one)."""
    samples = x.shape[0]
    return samples, x.numel() // samples if samples else 0


_Coded = tuple[int, ...]


def _strided(
    tensors: tuple[Tensor | None, ...], vec: int, aligned: bool
) -> tuple[int, int, _Coded, tuple[_Coded | None, ...]]:
    """(UNIT, RUN, sizes, a tuple of strides for each tensor) of tensors of one shape, in as few
    dimensions as they allow.

    The last size counts runs of RUN elements; with UNIT > 1 the strides but the last, which is 1,
    count units.
    """
    present = [t for t in tensors if t is not None]
    dimensions: list[tuple[int, list[int]]] = []
    for d, size in enumerate(present[0].shape):
        if d and size == 1:
            continue
        strides = [t.stride(d) for t in present]
        if len(dimensions) > 1 and all(
            outer == size * inner for outer, inner in zip(dimensions[-1][1], strides, strict=True)
        ):
            dimensions[-1] = (dimensions[-1][0] * size, strides)
        else:
            dimensions.append((size, strides))
    if len(dimensions) == 1:  # samples of one element
        dimensions.append((1, [1] * len(present)))
    sizes, by_dimension = zip(*dimensions, strict=True)
    run = math.gcd(sizes[-1], vec)
    unit = 1
    if aligned and all(stride == 1 for stride in by_dimension[-1]):
        unit = math.gcd(run, *(stride for strides in by_dimension[:-1] for stride in strides))
    coded = iter(
        [
            _coded(*(s // unit for s in strides[:-1]), strides[-1])
            for strides in zip(*by_dimension, strict=True)
        ]
    )
    return (
        unit,
        run,
        _coded(*sizes[1:-1], sizes[-1] // run),
        tuple(None if t is None else next(coded) for t in tensors),
    )


def _coded(*numbers: int) -> _Coded:
    """So that none is 1 or divisible by 16: Triton would compile again for it, and within a tuple
    can't be told not to."""
    return tuple(number << 4 | 3 for number in numbers)
