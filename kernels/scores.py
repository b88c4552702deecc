"""The scores of a tile's elements, (N, VEC), for the closed-form targets: csrc/common/targets.h
operation by operation.

A score's inputs besides the element are called *given*: the Gaussian's mean and precision,
Rosenbrock's elements before and after, and two numbers of the sample, made from sums over it, for
Ackley and the funnel. They come from the tile where it holds whole samples, else from memory, where
the whole sample lies.
"""

import triton
import triton.language as tl

from pyebm._schemas import TARGETS

from .functions import exponential, quotient, root, sine_cosine
from .sample_sums import added, empty_lanes, folded, spread, sum_of_tile
from .tile import element_of, inside_of, place, read, read_beside

_HARMONIC: tl.constexpr = tl.constexpr(TARGETS.index("harmonic"))
_DOUBLE_WELL: tl.constexpr = tl.constexpr(TARGETS.index("double_well"))
_GAUSSIAN: tl.constexpr = tl.constexpr(TARGETS.index("gaussian"))
_POLYNOMIAL: tl.constexpr = tl.constexpr(TARGETS.index("polynomial"))
_RASTRIGIN: tl.constexpr = tl.constexpr(TARGETS.index("rastrigin"))
_ROSENBROCK: tl.constexpr = tl.constexpr(TARGETS.index("rosenbrock"))
_ACKLEY: tl.constexpr = tl.constexpr(TARGETS.index("ackley"))
_FUNNEL: tl.constexpr = tl.constexpr(TARGETS.index("funnel"))


@triton.jit
def vectors_of(params, elements, at, KIND: tl.constexpr, TILE: tl.constexpr):
    """The Gaussian's mean and precision. They do not depend on the state, so a chain reads them
    once."""
    if KIND == _GAUSSIAN:
        inside, element = inside_of(at, TILE), element_of(at, TILE)
        mean = tl.load(params + element, mask=inside, other=0)
        precision = tl.load(params + elements + element, mask=inside, other=0)
    else:
        mean, precision = 0, 0
    return mean, precision


@triton.jit
def _leading(at, TILE: tl.constexpr):
    """(N, VEC): whether an element is the first of its sample, as the funnel's v is."""
    return element_of(at, TILE) == 0


@triton.jit
def _lead(x, at, TILE: tl.constexpr):
    """The first element of each sample that begins in the tile, (ROWS,)."""
    lead = tl.where(_leading(at, TILE), x, tl.zeros_like(x))
    return tl.sum(tl.reshape(lead, (TILE.ROWS, TILE.COLS * TILE.VEC)), axis=1)  # all but one term are 0


@triton.jit
def _squares_of_others(x, at, TILE: tl.constexpr):
    """The funnel's terms: the squares of all elements but v, which counts as zero."""
    return tl.where(_leading(at, TILE), tl.zeros_like(x), x * x)


@triton.jit
def _pull(squares, params, elements):
    """Ackley's first number, from the sum of squares, (ROWS,)."""
    slope, decay = tl.load(params), tl.load(params + 1)
    d = tl.zeros_like(squares) + elements.to(squares.dtype)
    radius = root(quotient(squares, d))
    smooth = radius > 0  # the minimum is a cusp
    pull = quotient(-(slope * exponential(-(decay * radius))), tl.where(smooth, d * radius, d))
    return tl.where(smooth, pull, tl.zeros_like(pull))


@triton.jit
def _turn(cosines, params, elements):
    """Ackley's second number, from the sum of cosines, (ROWS,)."""
    d = tl.zeros_like(cosines) + elements.to(cosines.dtype)
    return quotient(-(tl.load(params + 3) * exponential(quotient(cosines, d))), d)


@triton.jit
def _funnel_numbers(v, squares, params, elements):
    """The score of v, and e^-v."""
    half = tl.full([], 0.5, v.dtype)
    inverse = exponential(-v)
    return (half * (inverse * squares) - half * (elements - 1).to(v.dtype)) - tl.load(params) * v, inverse


@triton.jit
def _neighbour(x, SHIFT: tl.constexpr, TILE: tl.constexpr):
    """The element before (SHIFT -1) or after (1) each element; at the ends of a sample the value
    means nothing."""
    WIDTH: tl.constexpr = TILE.COLS * TILE.VEC
    index = tl.minimum(tl.maximum(tl.arange(0, WIDTH) + SHIFT, 0), WIDTH - 1)
    index = tl.broadcast_to(index[None, :], (TILE.ROWS, WIDTH))
    return tl.reshape(
        tl.gather(tl.reshape(x, (TILE.ROWS, WIDTH)), index, axis=1), (TILE.ROWS * TILE.COLS, TILE.VEC)
    )


@triton.jit
def given_by_tile(x, vectors, params, elements, at, KIND: tl.constexpr, TILE: tl.constexpr):
    """The given values for a tile of whole samples, or of independent elements."""
    if KIND == _ROSENBROCK:
        given = _neighbour(x, -1, TILE), _neighbour(x, 1, TILE)
    elif KIND == _ACKLEY:
        sine, cosine = sine_cosine(tl.load(params + 2) * x)
        pull = _pull(sum_of_tile(x * x, at, TILE), params, elements)
        given = pull, _turn(sum_of_tile(cosine, at, TILE), params, elements), sine
    elif KIND == _FUNNEL:
        squares = sum_of_tile(_squares_of_others(x, at, TILE), at, TILE)
        given = _funnel_numbers(_lead(x, at, TILE), squares, params, elements)
    else:
        given = vectors
    return given


@triton.jit
def numbers_in_memory(
    pointer,
    rows,
    pitch,
    first,
    last,
    sizes,
    strides,
    params,
    elements,
    KIND: tl.constexpr,
    T: tl.constexpr,
    TILE: tl.constexpr,
):
    """The given numbers that all elements of a sample share. The tiles from ``first`` up to
    ``last`` make up the sample."""
    numbers = 0, 0
    if KIND != _ROSENBROCK:
        squares, cosines = empty_lanes(T, TILE), empty_lanes(T, TILE)
        for tile in range(first, last):
            at = place(tile, rows, pitch, TILE)
            x = read(pointer, at, sizes, strides, TILE, T)
            if KIND == _ACKLEY:
                _, cosine = sine_cosine(tl.load(params + 2) * x)
                cosines = added(cosines, cosine, at, TILE)
                squares = added(squares, x * x, at, TILE)
            else:
                squares = added(squares, _squares_of_others(x, at, TILE), at, TILE)
        if KIND == _ACKLEY:
            numbers = (
                _pull(folded(squares, TILE), params, elements),
                _turn(folded(cosines, TILE), params, elements),
            )
        else:
            at = place(first, rows, pitch, TILE)
            v = _lead(read(pointer, at, sizes, strides, TILE, T), at, TILE)
            numbers = _funnel_numbers(v, folded(squares, TILE), params, elements)
    return numbers


@triton.jit
def given_in_memory(
    x, numbers, pointer, at, sizes, strides, params, elements, KIND: tl.constexpr, TILE: tl.constexpr
):
    """The given values for x, a tile of a longer sample that lies at ``pointer``."""
    if KIND == _ROSENBROCK:
        before = read_beside(pointer, at, sizes, strides, -1, elements, TILE, x.dtype)
        given = before, read_beside(pointer, at, sizes, strides, 1, elements, TILE, x.dtype)
    elif KIND == _ACKLEY:
        sine, _ = sine_cosine(tl.load(params + 2) * x)
        given = numbers[0], numbers[1], sine
    else:
        given = numbers
    return given


@triton.jit
def score_of(x, given, params, count, elements, at, KIND: tl.constexpr, TILE: tl.constexpr):
    """The score, (N, VEC), in x's type."""
    T: tl.constexpr = x.dtype
    two = tl.full([], 2.0, T)
    if KIND == _HARMONIC:
        score = tl.load(params) * (tl.load(params + 1) - x)
    elif KIND == _DOUBLE_WELL:
        score = x * (tl.load(params) - tl.load(params + 1) * (x * x))
    elif KIND == _GAUSSIAN:
        mean, precision = given
        score = precision * (mean - x)
    elif KIND == _POLYNOMIAL:
        score = tl.zeros_like(x) + tl.load(params + count - 1)
        for k in range(1, count):
            score = score * x + tl.load(params + count - 1 - k)
    elif KIND == _RASTRIGIN:
        sine, _ = sine_cosine(x)
        score = -two * x - tl.load(params) * sine
    elif KIND == _ROSENBROCK:
        a, twice_b, four_b = tl.load(params), tl.load(params + 1), tl.load(params + 2)
        before, after = given
        as_first = (four_b * x) * (after - x * x) + two * (a - x)
        as_second = twice_b * (x - before * before)
        element = element_of(at, TILE)
        nothing = tl.zeros_like(x)
        score = tl.where(element + 1 < elements, as_first, nothing) - tl.where(
            element > 0, as_second, nothing
        )
    elif KIND == _ACKLEY:
        pull, turn, sine = given
        score = spread(pull, TILE) * x + spread(turn, TILE) * sine
    else:
        of_first, inverse = given
        score = tl.where(_leading(at, TILE), spread(of_first, TILE), -(spread(inverse, TILE) * x))
    return score
