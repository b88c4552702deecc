"""The host's side of the tiles: :class:`Layout` cuts the tensors of a call into tiles and makes the
launch's arguments for them.

A tile is ROWS samples by COLS cells, a cell being the VEC neighbouring elements of a sample that
one thread loads, makes the noise of, and stores. A program takes ``turns`` tiles that lie side by
side, one after the other. It makes the samples' own values (the key's schedule, coefficients,
addresses) once for all of them, and its code stays short.

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
MOST = 1024  # elements of the largest tile that must hold a whole sample (``whole``)
TURNS = 4  # tiles of a program, at most
_MAX_GRID_Y = 32768
_WIDE = 2**31  # an index within a sample that needs 64 bits


class Tile(NamedTuple):
    """The constants that a kernel is compiled for."""

    UNIT: int  # elements that one access moves: VEC, or what alignment leaves of it
    RUN: int  # elements of a cell that lie in one row of the innermost dimension
    ROWS: int
    COLS: int
    VEC: int
    FULL: bool  # every place of every tile has an element: nothing is masked
    WIDE: bool  # indices within a sample take 64 bits

    @property
    def elements(self) -> int:
        return self.ROWS * self.COLS * self.VEC


# Triton must not compile a kernel again when one of these is 1 or divisible by 16.
SIZES = ["samples", "pitch", "parts", "turns", "count", "stride"]


class Layout:
    """The tiles of ``out`` and of the tensors that go with it element by element; a launch takes
    ``grid`` and ``arguments``."""

    def __init__(
        self,
        out: Tensor,
        *others: Tensor | None,
        most: int = ELEMENTS,
        turns: int = TURNS,
        whole: bool = False,
        span: bool = False,
        rows: int | None = None,
    ) -> None:
        """most: elements of a tile, at most. turns: tiles of a program, at most. whole: one program
        takes a whole sample, in one tile where it fits. span: a tile is a whole sample or, of a
        longer one, ``most`` elements, and a program takes one. rows: a program takes so many whole
        samples, tile by tile."""
        samples, elements = shape_of(out)
        self.samples = samples
        # A cell of half precision is 16 bytes, unless a sample's end would cut it and waste half.
        vec = 8 if out.itemsize == 2 and elements % 8 == 0 else 4
        cells = -(-elements // vec)
        limit = most // vec
        # A sample's last tile is padded. Narrower tiles waste less, but a tile's row should still
        # fill a few cache lines.
        everything = triton.next_power_of_2(max(cells, 1))
        whole = whole or rows is not None
        if rows is not None:
            widths = [min(everything, max(limit // rows, 1))]
        elif span:
            widths, turns = [min(everything, limit)], 1
        elif whole and everything * vec <= MOST:
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
        # Small samples share a tile. A large sample has tiles of its own, and narrow tiles have
        # fewer warps.
        if rows is None:
            rows = limit // cols if everything <= limit else 1
        parts = -(-cells // cols)  # tiles side by side in a sample
        turns = parts if whole else -(-parts // -(-parts // turns))
        self.long = whole and parts > 1
        self.programs = -(-parts // turns)  # side by side in a sample
        self.blocks = -(-samples // rows)
        # A grid's dimensions y and z hold 16 bits each, so the blocks of samples take both.
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
            # A thread of a span takes one cell only: the sums of its lanes need registers too.
            "num_warps": min(max(1, (2 if span else 1) * WARPS * rows * cols // limit), 32),
            "enable_fp_fusion": False,  # bits are promised
        }


def shape_of(x: Tensor) -> tuple[int, int]:
    """(samples, elements of a sample)."""
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
    """The numbers, coded so that none is 1 or divisible by 16: Triton would compile again for
    those, and can't be told not to within a tuple."""
    return tuple(number << 4 | 3 for number in numbers)
