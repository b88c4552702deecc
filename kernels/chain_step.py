"""One step of a chain, which both loops of chain_loops.py and the dense targets' finish take."""

import triton
import triton.language as tl

from .normal import normals
from .tile import block_of, clamped, inside_of, rounded


@triton.jit
def _number(number, values, per_sample, per_step, k, rows):
    """A step size or a temperature at step k in float64, (N,) or a scalar."""
    if values is None:
        value = tl.full([], number, tl.float64)
    else:
        row, valid = rows
        value = tl.load(
            values + row * per_sample + tl.cast(k, tl.int64) * per_step, mask=valid, other=1.0
        ).to(tl.float64)
    return value


@triton.jit
def coefficients(eta, temperature, k, rows, T: tl.constexpr):
    """eta and sqrt(2 eta T), made in float64 and rounded once, to go with (N, VEC)."""
    h = _number(eta[0], eta[1], eta[2], eta[3], k, rows)
    t = _number(temperature[0], temperature[1], temperature[2], temperature[3], k, rows)
    c = tl.sqrt((2.0 * h) * t)  # float64's is correctly rounded
    h, c = h.to(T), c.to(T)
    if len(h.shape) != 0:
        h = h[:, None]
    if len(c.shape) != 0:
        c = c[:, None]
    return h, c


@triton.jit
def stepped(
    state,
    score,
    h,
    c,
    key,
    k,
    at,
    bounds,  # low, high, and the score's with CLIP
    CLAMP: tl.constexpr,
    CLIP: tl.constexpr,
    DTYPE: tl.constexpr,
    T: tl.constexpr,
    TILE: tl.constexpr,
):
    """The state after step k, (N, VEC); the score and the new state are each rounded to the
    tensor's dtype."""
    key0, key1, sample, step, stream = key
    score = rounded(score, DTYPE).to(T)
    if CLIP:
        clip = tl.full([], bounds[2], T)
        score = clamped(score, -clip, clip)
    z = normals(at[0], (key0, key1, sample, step + tl.cast(k, tl.uint32), stream), TILE).to(T)
    state = (state + h * score) + c * z
    if CLAMP:
        state = clamped(state, tl.full([], bounds[0], T), tl.full([], bounds[1], T))
    return rounded(state, DTYPE).to(T)


@triton.jit
def first_bad(before, state, k, at, TILE: tl.constexpr):
    """The first step up to k that left an element of the cell not finite, (N,)."""
    wrong = inside_of(at, TILE) & ~(tl.abs(state) < float("inf"))
    return tl.where(
        tl.max(wrong.to(tl.int32), axis=1) != 0, tl.minimum(before, tl.cast(k, before.dtype)), before
    )


@triton.jit
def report(bad, found, samples, TILE: tl.constexpr):
    """Write, for each sample of the tile, the first step that :func:`first_bad` found in a cell."""
    of_samples = tl.min(tl.reshape(found, (TILE.ROWS, TILE.COLS)), axis=1)
    sample = block_of() * TILE.ROWS + tl.arange(0, TILE.ROWS)
    tl.store(bad + sample * tl.num_programs(0) + tl.program_id(0), of_samples, mask=sample < samples)
