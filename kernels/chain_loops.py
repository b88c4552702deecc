"""The two loops of a chain's steps: over a tile that stays in registers, and over the tiles of a
sample in memory. chain.py names their arguments, which come in tuples here."""

import triton
import triton.language as tl

from .chain_step import coefficients, first_bad, report, stepped
from .scores import given_by_tile, given_in_memory, numbers_in_memory, score_of, vectors_of
from .tile import place, read, tiles, write


@triton.jit
def _keep(states, kept, pitch, at, TILE: tl.constexpr, state):
    """Write the tile's state behind the ``kept`` samples that are there already, without gaps."""
    write(states + kept * (pitch.to(tl.int64) * TILE.UNIT), at, None, None, TILE, state)


@triton.jit
def steps_in_registers(
    x,
    run,
    target,
    schedule,
    bounds,
    key,
    rows,
    batch,
    KIND: tl.constexpr,
    NEVER: tl.constexpr,
    SCHEDULE: tl.constexpr,
    CLAMP: tl.constexpr,
    T: tl.constexpr,
    TILE: tl.constexpr,
):
    """Read the program's tile, take it through all steps, and write it."""
    n_steps, states, thin, bad = run
    numbers, param_count, elements = target
    eta, heat = schedule
    samples, pitch, sizes, strides = batch
    at = place(tl.program_id(0), rows, pitch, TILE)
    state = read(x, at, sizes, strides, TILE, T)
    vectors = vectors_of(numbers, elements, at, KIND, TILE)
    if not SCHEDULE:
        h, c = coefficients(eta, heat, 0, rows, T)
    if states is not None:
        until = thin
        kept = samples.to(tl.int64) * 0  # samples written before
    if bad is not None:
        found = tl.full([TILE.ROWS * TILE.COLS], NEVER, bad.dtype.element_ty)
    for k in range(n_steps):
        if SCHEDULE:
            h, c = coefficients(eta, heat, k, rows, T)
        given = given_by_tile(state, vectors, numbers, elements, at, KIND, TILE)
        score = score_of(state, given, numbers, param_count, elements, at, KIND, TILE)
        state = stepped(state, score, h, c, key, k, at, bounds, CLAMP, False, x.dtype.element_ty, T, TILE)
        if states is not None:
            until -= 1
            if until == 0:
                _keep(states, kept, pitch, at, TILE, state)
                until += thin
                kept += samples
        if bad is not None:
            found = first_bad(found, state, k, at, TILE)
    write(x, at, sizes, strides, TILE, state)
    if bad is not None:
        report(bad, found, samples, TILE)


@triton.jit
def steps_in_memory(
    pair,  # x and spare
    run,
    target,
    schedule,
    bounds,
    key,
    rows,
    batch,
    span,  # parts and turns
    KIND: tl.constexpr,
    NEVER: tl.constexpr,
    SCHEDULE: tl.constexpr,
    CLAMP: tl.constexpr,
    T: tl.constexpr,
    TILE: tl.constexpr,
):
    """Go over the tiles of the program's sample at each step. The state alternates between x and
    ``spare``, since an element's neighbours need its old value until the step is done; the last
    state is in ``spare`` where the number of steps is odd."""
    n_steps, states, thin, bad = run
    numbers, param_count, elements = target
    eta, heat = schedule
    samples, pitch, sizes, strides = batch
    parts, turns = span
    now, following = pair
    first, last = tiles(rows, parts, turns, TILE)
    if not SCHEDULE:
        h, c = coefficients(eta, heat, 0, rows, T)
    until = thin
    kept = samples.to(tl.int64) * 0  # samples written before
    if bad is not None:
        found = tl.full([TILE.COLS], NEVER, bad.dtype.element_ty)
    for k in range(n_steps):
        shared = numbers_in_memory(
            now, rows, pitch, first, last, sizes, strides, numbers, elements, KIND, T, TILE
        )
        if SCHEDULE:
            h, c = coefficients(eta, heat, k, rows, T)
        until -= 1
        for tile in range(first, last):
            at = place(tile, rows, pitch, TILE)
            state = read(now, at, sizes, strides, TILE, T)
            given = given_in_memory(state, shared, now, at, sizes, strides, numbers, elements, KIND, TILE)
            score = score_of(state, given, numbers, param_count, elements, at, KIND, TILE)
            dtype: tl.constexpr = now.dtype.element_ty
            state = stepped(state, score, h, c, key, k, at, bounds, CLAMP, False, dtype, T, TILE)
            write(following, at, sizes, strides, TILE, state)
            if states is not None:  # noqa: SIM102  known while compiling; the other is not
                if until == 0:
                    _keep(states, kept, pitch, at, TILE, state)
            if bad is not None:
                found = first_bad(found, state, k, at, TILE)
        if until == 0:
            until = thin
            kept += samples
        tl.debug_barrier()  # the next step reads what other threads have written
        now, following = following, now
    if bad is not None:
        report(bad, found, samples, TILE)
