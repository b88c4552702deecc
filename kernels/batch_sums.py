"""The second stage of the loss's sums: the tiles' sums added in float64, in an order that their
number alone decides."""

import triton
import triton.language as tl

BLOCK = 1024


@triton.jit(do_not_specialize=["samples", "parts"])
def add_samples(
    loss,  # [samples], float32 or float64
    partial,  # [samples, parts], the tiles' sums
    weight: tl.float64,  # of every sample: 1 where the tiles' sums are weighted
    samples,  # how many
    parts,  # tiles of a sample
    ROWS: tl.constexpr,  # samples of a program
    COLS: tl.constexpr,  # tiles that are read at once
):
    """loss[b] = weight * (the sum of the tiles of sample b)."""
    sample = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLS)
    total = tl.zeros([ROWS, COLS], tl.float64)
    for first in range(0, parts, COLS):
        inside = (sample < samples)[:, None] & (first + column < parts)[None, :]
        total += tl.load(
            partial + sample[:, None] * parts + (first + column)[None, :], mask=inside, other=0.0
        )
    value = tl.sum(total, axis=1) * tl.full([], weight, tl.float64)
    tl.store(loss + sample, value.to(loss.dtype.element_ty), mask=sample < samples)


@triton.jit(do_not_specialize=["tiles"])
def add_tiles(
    loss,  # [], float32 or float64
    partial,  # [tiles], the tiles' sums
    weight: tl.float64,  # of every sample: 1 where the tiles' sums are weighted
    divisor: tl.float64,  # the reduction's
    tiles,  # how many
    BLOCK: tl.constexpr,  # tiles that are read at once
):
    """loss = weight * (the sum of all tiles) / divisor, by one program."""
    at = tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float64)
    for first in range(0, tiles, BLOCK):
        total += tl.load(partial + first + at, mask=first + at < tiles, other=0.0)
    value = tl.sum(total, axis=0) * tl.full([], weight, tl.float64) / tl.full([], divisor, tl.float64)
    tl.store(loss, value.to(loss.dtype.element_ty))
