"""The steps of a chain on coupled samples that no tile holds.

A program goes over the tiles of its sample at each step. The state alternates between two buffers:
an element's neighbours need its old value until the step is done.
"""

import triton
import triton.language as tl

from .chain_step import coefficients, first_bad, stepped
from .layout import SIZES
from .scores import given_in_memory, numbers_in_memory, score_of
from .tile import block_of, name_of, place, read, rows_of, tiles, write


@triton.jit(
    do_not_specialize=[
        *SIZES,
        "param_count",
        "elements",
        "n_steps",
        "thin",
        "h_sample",
        "h_step",
        "t_sample",
        "t_step",
    ]
)
def long_chain_kernel(
    x,  # [samples, ...], in place
    spare,  # as x
    states,  # [n_steps // thin, samples, ...] or None
    bad,  # [samples, 1] or None
    numbers,  # this and the arguments below: as chain_kernel's
    param_count,
    elements,
    n_steps,
    thin,
    step_size: tl.float64,
    temperature: tl.float64,
    h_rows,
    h_sample,
    h_step,
    t_rows,
    t_sample,
    t_step,
    low: tl.float64,
    high: tl.float64,
    name,
    seeds,
    ids,
    samples,
    pitch,
    parts,
    turns,
    sizes,
    strides,
    KIND: tl.constexpr,
    NEVER: tl.constexpr,
    SCHEDULE: tl.constexpr,  # whether coefficients change by step
    CLAMP: tl.constexpr,
    T: tl.constexpr,
    TILE: tl.constexpr,
):
    """``spare`` has the last state where n_steps is odd. ``bad`` is chain_kernel's, of one program
    a sample."""
    rows = rows_of(samples, TILE)
    key = name_of((name, seeds, ids), rows)
    first, last = tiles(rows, parts, turns, TILE)
    eta = (step_size, h_rows, h_sample, h_step)
    heat = (temperature, t_rows, t_sample, t_step)
    if not SCHEDULE:
        h, c = coefficients(eta, heat, 0, rows, T)
    until = thin
    kept = samples.to(tl.int64) * 0  # samples written before
    if bad is not None:
        found = tl.full([TILE.COLS], NEVER, bad.dtype.element_ty)
    now, following = x, spare
    for k in range(n_steps):
        shared = numbers_in_memory(
            now, rows, pitch, first, last, sizes, strides[0], numbers, elements, KIND, T, TILE
        )
        if SCHEDULE:
            h, c = coefficients(eta, heat, k, rows, T)
        until -= 1
        for tile in range(first, last):
            at = place(tile, rows, pitch, TILE)
            state = read(now, at, sizes, strides[0], TILE, T)
            given = given_in_memory(state, shared, now, at, sizes, strides[0], numbers, elements, KIND, TILE)
            score = score_of(state, given, numbers, param_count, elements, at, KIND, TILE)
            state = stepped(state, score, h, c, key, k, at, low, high, CLAMP, x.dtype.element_ty, T, TILE)
            write(following, at, sizes, strides[0], TILE, state)
            if states is not None:  # noqa: SIM102  known while compiling; the other is not
                if until == 0:
                    write(states + kept * (pitch.to(tl.int64) * TILE.UNIT), at, None, None, TILE, state)
            if bad is not None:
                found = first_bad(found, state, k, at, TILE)
        if until == 0:
            until = thin
            kept += samples
        tl.debug_barrier()  # the next step reads what other threads have written
        now, following = following, now
    if bad is not None:
        row = block_of()
        tl.store(bad + row, tl.min(found, axis=0), mask=row < samples)
