"""The kernels of networks: a program takes a tile of samples through the layers, and writes scores
and energies or takes the steps of a chain."""

from __future__ import annotations

import triton
import triton.language as tl

from .batch_mean import halved
from .chain_step import coefficients, first_bad, stepped
from .layout import SIZES
from .network_passes import PLAIN, backward, forward
from .normal import normals
from .sample_sums import SPAN
from .tile import block_of, element_of, name_of, place, read, rounded, rows_of, tiles, write

_SPAN: tl.constexpr = tl.constexpr(SPAN)
_LANES: tl.constexpr = tl.constexpr(32)  # kSumLanes


@triton.jit
def elements_of(at, NET: tl.constexpr, TILE: tl.constexpr):
    """The places of a tile's elements in a room, (N, VEC), and which of them are a sample's."""
    element = element_of(at, TILE).to(tl.int32)
    row = tl.arange(0, TILE.ROWS * TILE.COLS) // TILE.COLS
    return element * TILE.ROWS + row[:, None], element < NET.dim


@triton.jit
def enter(room, state, quadratic, at, NET: tl.constexpr, TILE: tl.constexpr):
    """Takes a tile of x for the next pass."""
    cells, inside = elements_of(at, NET, TILE)
    tl.store(room + cells, state, mask=inside)
    if NET.is_energy:
        pull = (quadratic + quadratic) * state
        tl.store(room + NET.dim * TILE.ROWS + cells, pull, mask=inside)


@triton.jit
def _score(room, state, quadratic, at, NET: tl.constexpr, TILE: tl.constexpr):
    """The score of a tile after a pass, (N, VEC)."""
    cells, inside = elements_of(at, NET, TILE)
    if NET.is_energy:
        score = tl.load(room + NET.dim * TILE.ROWS + cells, mask=inside, other=0)
        score = score * tl.full(score.shape, -1.0, score.dtype)
    else:
        out = room + (NET.outputs + ((NET.layers - 1) % 2) * NET.widest) * TILE.ROWS
        score = tl.load(out + cells, mask=inside, other=0)
        pull = tl.zeros_like(score) + quadratic * tl.full([], -2.0, score.dtype)
        score = tl.where(quadratic != 0, tl.fma(pull, state, score), score)
    return score


@triton.jit
def _energies(room, quadratic, NET: tl.constexpr, ROWS: tl.constexpr):
    """The energy of each sample, (ROWS,) in float64, after a pass forward through all layers."""
    row = tl.arange(0, ROWS)
    squares = tl.zeros([ROWS], tl.float64)
    for first in range(0, NET.dim, _SPAN):
        end = tl.minimum(first + _SPAN, NET.dim)
        lanes = tl.zeros([ROWS, _LANES], room.dtype.element_ty)
        for d in range(first, end, _LANES):
            element = d + tl.arange(0, _LANES)
            cells = room + element[None, :] * ROWS + row[:, None]
            x = tl.load(cells, mask=tl.broadcast_to((element < end)[None, :], (ROWS, _LANES)), other=0)
            lanes = lanes + x * x
        squares += tl.reshape(halved(lanes, ROWS, _LANES), (ROWS,)).to(tl.float64)
    out = room + (NET.outputs + ((NET.layers - 1) % 2) * NET.widest) * ROWS
    return tl.load(out + row).to(tl.float64) + quadratic.to(tl.float64) * squares


@triton.jit
def rows_of_biases(samples, of_sample, ROWS: tl.constexpr):
    """Where each sample's row of biases begins, (ROWS,)."""
    sample = block_of() * ROWS + tl.arange(0, ROWS)
    return tl.minimum(sample, samples - 1) * of_sample


@triton.jit(do_not_specialize=[*SIZES, "of_sample", "room"])
def network_score_kernel(
    out,  # [samples, ...] or None
    x,  # [samples, ...]
    energy,  # [samples], float32 or float64, or None
    rooms,  # [blocks, room]
    room,  # numbers of a block: network_passes.py
    numbers,  # the network's params
    columns,  # the weights, with a row for each input
    biases,  # the same, or rows of all layers' biases
    of_sample,  # from one sample's row of biases to the next, or 0
    samples,  # how many
    pitch,  # accesses of TILE.UNIT elements in a sample
    parts,
    turns,
    sizes,  # of the dimensions, or None: all tensors are contiguous (layout.py)
    strides,  # of each tensor of the layout, in order; None where contiguous
    COUNT: tl.constexpr,  # layers whose values are needed
    NET: tl.constexpr,  # Net
    LAYERS: tl.constexpr,  # network_passes.py
    T: tl.constexpr,  # the type of the arithmetic
    TILE: tl.constexpr,  # layout.Tile
):
    rows = rows_of(samples, TILE)
    mine = rooms + block_of() * room
    quadratic = tl.load(numbers + NET.quadratic)
    first, last = tiles(rows, parts, turns, TILE)
    for tile in range(first, last):
        at = place(tile, rows, pitch, TILE)
        enter(mine, read(x, at, sizes, strides[1], TILE, T), quadratic, at, NET, TILE)
    tl.debug_barrier()
    bias_rows = rows_of_biases(samples, of_sample, TILE.ROWS)
    forward(mine, numbers, columns, biases, bias_rows, COUNT, False, LAYERS, NET, TILE.ROWS)
    if energy is not None:
        value = _energies(mine, quadratic, NET, TILE.ROWS)
        sample = block_of() * TILE.ROWS + tl.arange(0, TILE.ROWS)
        tl.store(energy + sample, value.to(energy.dtype.element_ty), mask=sample < samples)
        tl.debug_barrier()
    if out is not None:
        if NET.is_energy:
            backward(mine, numbers, COUNT, PLAIN, LAYERS, NET, TILE.ROWS)
        for tile in range(first, last):
            at = place(tile, rows, pitch, TILE)
            state = read(x, at, sizes, strides[1], TILE, T)
            write(out, at, sizes, strides[0], TILE, _score(mine, state, quadratic, at, NET, TILE))


@triton.jit
def _impose(
    x, known, mask, marginals, key, k, room, quadratic, rows, grid, NET: tl.constexpr, T: tl.constexpr,
    TILE: tl.constexpr,
):  # fmt: skip
    """Make the elements outside of the mask alpha known + sigma z for the score of step k, z from
    the next stream."""
    first, last, pitch, sizes, strides = grid
    key0, key1, sample, step, stream = key
    now = (key0, key1, sample, step + tl.cast(k, tl.uint32), stream + 1)
    row_of_step = marginals + 2 * tl.cast(k, tl.int64)
    alpha, sigma = tl.load(row_of_step).to(T), tl.load(row_of_step + 1).to(T)
    for tile in range(first, last):
        at = place(tile, rows, pitch, TILE)
        made = alpha * read(known, at, sizes, strides[2], TILE, T) + sigma * normals(at[0], now, TILE).to(T)
        free = read(mask, at, sizes, strides[1], TILE, tl.int1)
        made = rounded(made, x.dtype.element_ty).to(T)
        state = tl.where(free, read(x, at, sizes, strides[0], TILE, T), made)
        write(x, at, sizes, strides[0], TILE, state)
        enter(room, state, quadratic, at, NET, TILE)
    tl.debug_barrier()


@triton.jit(
    do_not_specialize=[
        *SIZES,
        *("of_sample", "of_step", "room", "n_steps", "thin", "h_sample", "h_step", "t_sample", "t_step"),
    ]
)
def network_chain_kernel(
    x,  # [samples, ...], in place
    mask,  # bool, [samples, ...] or None
    known,  # [samples, ...] or None
    marginals,  # [n_steps, 2]: alpha and sigma of the known elements, or None
    states,  # [n_steps // thin, samples, ...] or None
    bad,  # [samples] or None
    rooms,  # [blocks, room]
    room,  # numbers of a block: network_passes.py
    numbers,  # the network's params
    columns,  # the weights, with a row for each input
    biases,  # the same, or rows of all layers' biases
    of_sample,  # from one sample's row of biases to the next, or 0
    of_step,  # from one step's row of biases to the next, or 0
    n_steps,
    thin,  # the states of every thin-th step are kept
    step_size: tl.float64,  # this and the numbers up to the ids: as chain.py's
    temperature: tl.float64,
    h_rows,
    h_sample,
    h_step,
    t_rows,
    t_sample,
    t_step,
    low: tl.float64,
    high: tl.float64,
    score_clip: tl.float64,  # where CLIP
    name,
    seeds,
    ids,
    samples,  # how many
    pitch,  # accesses of TILE.UNIT elements in a sample
    parts,
    turns,
    sizes,  # of the dimensions, or None: all tensors are contiguous (layout.py)
    strides,  # of each tensor of the layout, in order; None where contiguous
    NEVER: tl.constexpr,  # for ``bad``: a number beyond all steps
    CLAMP: tl.constexpr,  # whether there is a clamp
    CLIP: tl.constexpr,  # whether the score is clipped
    COUNT: tl.constexpr,  # layers whose values are needed
    NET: tl.constexpr,  # Net
    LAYERS: tl.constexpr,  # network_passes.py
    T: tl.constexpr,  # the type of the arithmetic
    TILE: tl.constexpr,  # layout.Tile
):
    """All steps of a block of samples. The state lies in x, and in the block's room. ``bad`` gets
    the first step after which an element was not finite, or NEVER."""
    rows = rows_of(samples, TILE)
    key = name_of((name, seeds, ids), rows)
    mine = rooms + block_of() * room
    quadratic = tl.load(numbers + NET.quadratic)
    first, last = tiles(rows, parts, turns, TILE)
    for tile in range(first, last):
        at = place(tile, rows, pitch, TILE)
        enter(mine, read(x, at, sizes, strides[0], TILE, T), quadratic, at, NET, TILE)
    tl.debug_barrier()
    bias_rows = rows_of_biases(samples, of_sample, TILE.ROWS)
    until = thin
    kept = samples.to(tl.int64) * 0  # samples written before
    if bad is not None:
        found = tl.full([TILE.ROWS * TILE.COLS], NEVER, bad.dtype.element_ty)
    bounds = (low, high, score_clip)
    for k in range(n_steps):
        if known is not None:
            grid = (first, last, pitch, sizes, strides)
            _impose(x, known, mask, marginals, key, k, mine, quadratic, rows, grid, NET, T, TILE)
        of_now = biases + tl.cast(k, tl.int64) * of_step
        forward(mine, numbers, columns, of_now, bias_rows, COUNT, False, LAYERS, NET, TILE.ROWS)
        if NET.is_energy:
            backward(mine, numbers, COUNT, PLAIN, LAYERS, NET, TILE.ROWS)
        eta = (step_size, h_rows, h_sample, h_step)
        h, c = coefficients(eta, (temperature, t_rows, t_sample, t_step), k, rows, T)
        until -= 1
        for tile in range(first, last):
            at = place(tile, rows, pitch, TILE)
            old = read(x, at, sizes, strides[0], TILE, T)
            score = _score(mine, old, quadratic, at, NET, TILE)
            state = stepped(old, score, h, c, key, k, at, bounds, CLAMP, CLIP, x.dtype.element_ty, T, TILE)
            if mask is not None:
                state = tl.where(read(mask, at, sizes, strides[1], TILE, tl.int1), state, old)
            write(x, at, sizes, strides[0], TILE, state)
            enter(mine, state, quadratic, at, NET, TILE)
            if states is not None:  # noqa: SIM102  known while compiling; the other is not
                if until == 0:
                    write(states + kept * (pitch.to(tl.int64) * TILE.UNIT), at, None, None, TILE, state)
            if bad is not None:
                found = first_bad(found, state, k, at, TILE)
        if until == 0:
            until = thin
            kept += samples
        tl.debug_barrier()  # the next step reads what other threads have written
    if bad is not None:
        of_samples = tl.min(tl.reshape(found, (TILE.ROWS, TILE.COLS)), axis=1)
        which = block_of() * TILE.ROWS + tl.arange(0, TILE.ROWS)
        tl.store(bad + which, of_samples, mask=which < samples)
