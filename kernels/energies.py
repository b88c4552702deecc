"""The energies of closed-form targets. Most are sums over the elements, a program a span of a
sample; Ackley's and the funnel's are made of sums over the whole sample, as their scores are."""

from __future__ import annotations

import triton
import triton.language as tl

from .coefficients import BLOCK_SIZE
from .functions import exponential, quotient, root
from .layout import SIZES
from .sample_sums import put_spans, sum_of_spans, sum_of_tile
from .scores import energy_terms, sums_by_tile, sums_in_memory, unpacked, vectors_of
from .tile import place, read, read_beside, rows_of, tiles


@triton.jit
def _energy_of_sums(squares, other, params, elements, KIND: tl.constexpr):
    """Ackley's energy or the funnel's, (ROWS,), from the sums that scores.sums_in_memory makes."""
    T: tl.constexpr = squares.dtype
    one, half = tl.full([], 1.0, T), tl.full([], 0.5, T)
    if KIND.name == "ackley":
        slope, decay, _, _ = unpacked(params, KIND)
        d = tl.zeros_like(squares) + elements.to(T)
        bowl = quotient(slope, decay) * (one - exponential(-(decay * root(quotient(squares, d)))))
        energy = bowl + (tl.full([], 2.718281828459045, T) - exponential(quotient(other, d)))
    else:
        (precision,) = unpacked(params, KIND)
        energy = half * (precision * (other * other)) + (half * (elements - 1).to(T)) * other
        energy = energy + half * (exponential(-other) * squares)
    return energy


@triton.jit(do_not_specialize=[*SIZES, "param_count", "elements"])
def energy_kernel(
    partial,  # [samples, spans] float64; one span a sample where SUMS
    x,  # [samples, ...]
    numbers,  # params; Triton's launcher has a variable of that name
    param_count,  # how many of them
    elements,  # of a sample
    samples,  # how many
    pitch,  # accesses of TILE.UNIT elements in a sample
    parts,  # tiles side by side in a sample
    turns,  # tiles of a program: 1, or where SUMS all of a sample
    sizes,  # of the dimensions, or None: all tensors are contiguous (layout.py)
    strides,  # of each tensor of the layout, in order; None where contiguous
    KIND: tl.constexpr,  # the target's row of pyebm/_kinds.py
    SUMS: tl.constexpr,  # the energy is made of sums over the sample
    LONG: tl.constexpr,  # such a sample takes more than one tile
    T: tl.constexpr,  # the type of the arithmetic
    TILE: tl.constexpr,  # layout.Tile
):
    rows = rows_of(samples, TILE)
    first, last = tiles(rows, parts, turns, TILE)
    if LONG:
        squares, other = sums_in_memory(
            x, rows, pitch, first, last, sizes, strides[0], numbers, KIND, T, TILE
        )
        energy = _energy_of_sums(squares, other, numbers, elements, KIND)
        put_spans(partial, energy.to(tl.float64), samples, TILE)
    else:
        for tile in range(first, last):
            at = place(tile, rows, pitch, TILE)
            state = read(x, at, sizes, strides[0], TILE, T)
            if SUMS:
                squares, other = sums_by_tile(state, numbers, at, KIND, TILE)
                energy = _energy_of_sums(squares, other, numbers, elements, KIND)
            else:
                given = vectors_of(numbers, elements, at, KIND, TILE)
                if KIND.name == "rosenbrock":
                    given = 0, read_beside(x, at, sizes, strides[0], 1, elements, TILE, T)
                terms = energy_terms(state, given, numbers, param_count, elements, at, KIND, TILE)
                energy = sum_of_tile(terms, at, TILE)
            put_spans(partial, energy.to(tl.float64), samples, TILE)


@triton.jit(do_not_specialize=["samples", "spans"])
def add_energies(
    energy,  # [samples]
    partial,  # [samples, spans] float64
    constant: tl.float64,  # added to every energy
    samples,  # how many
    spans,  # of a sample
):
    at = tl.program_id(0).to(tl.int64) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    inside = at < samples
    total = sum_of_spans(partial, at, inside, spans) + tl.full([], constant, tl.float64)
    tl.store(energy + at, total.to(energy.dtype.element_ty), mask=inside)
