"""The second stage of the loss's sums: the tiles' sums added in float64, in an order that their
number alone decides."""

import triton
import triton.language as tl

BLOCK = 1024


@triton.jit(do_not_specialize=["samples", "parts"])
def add_samples(loss, partial, weight: tl.float64, samples, parts, ROWS: tl.constexpr, COLS: tl.constexpr):
    """loss[b] = weight * (the sum of the ``parts`` tiles of sample b), from ``partial`` (samples,
    parts)."""
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
def add_tiles(loss, partial, weight: tl.float64, divisor: tl.float64, tiles, BLOCK: tl.constexpr):
    """loss = weight * (the sum of all tiles) / divisor, by one program; ``partial`` is (tiles)."""
    at = tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float64)
    for first in range(0, tiles, BLOCK):
        total += tl.load(partial + first + at, mask=first + at < tiles, other=0.0)
    value = tl.sum(total, axis=0) * tl.full([], weight, tl.float64) / tl.full([], divisor, tl.float64)
    tl.store(loss, value.to(loss.dtype.element_ty))
