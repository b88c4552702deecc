"""The scores of the closed-form targets, csrc/common/targets.h operation by operation: of the elements of a tile, (N, VEC).

Beside an element a score needs a pair of things: of the Gaussian its mean and precision, of Rosenbrock the elements before and
after it, of Ackley and the funnel two numbers of the sample, made of sums over it. The pair comes from the tile where that holds
whole samples, else from memory, where the whole sample lies.
"""

import triton
import triton.language as tl

from pyebm._ops import TARGETS

from .functions import exponential, quotient, root, sine_cosine
from .lanes import added, empty_lanes, folded, spread, sum_of_tile
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
    """The pair that does not depend on the state, the Gaussian's: a chain reads it once."""
    if KIND == _GAUSSIAN:
        inside, element = inside_of(at, TILE), element_of(at, TILE)
        mean = tl.load(params + element, mask=inside, other=0)
        precision = tl.load(params + elements + element, mask=inside, other=0)
    else:
        mean, precision = 0, 0
    return mean, precision


@triton.jit
def _leading(at, TILE: tl.constexpr):
    """(N, VEC): whether an element is the first of its sample, which the funnel's v is."""
    return element_of(at, TILE) == 0


@triton.jit
def _lead(x, at, TILE: tl.constexpr):
    """The first element of each sample that begins in the tile, (ROWS,)."""
    lead = tl.where(_leading(at, TILE), x, tl.zeros_like(x))
    return tl.sum(tl.reshape(lead, (TILE.ROWS, TILE.COLS * TILE.VEC)), axis=1)  # of one number: in any order


@triton.jit
def _terms(x, params, at, KIND: tl.constexpr, TILE: tl.constexpr):
    """What is summed over a sample: Ackley's squares and cosines, the funnel's squares of all but v."""
    if KIND == _ACKLEY:
        _, cosine = sine_cosine(tl.load(params + 2) * x)
        squares = x * x
    else:
        squares = tl.where(_leading(at, TILE), tl.zeros_like(x), x * x)
        cosine = squares
    return squares, cosine


@triton.jit
def _numbers(squares, other, params, elements, KIND: tl.constexpr):
    """The pair of a sample, (ROWS,) each, of the squares' sum and the cosines' or v."""
    T: tl.constexpr = squares.dtype
    if KIND == _ACKLEY:
        slope, decay, c = tl.load(params), tl.load(params + 1), tl.load(params + 3)
        d = tl.zeros_like(squares) + elements.to(T)
        radius = root(quotient(squares, d))
        smooth = radius > 0  # the minimum is a cusp
        pull = quotient(-(slope * exponential(-(decay * radius))), tl.where(smooth, d * radius, d))
        one = tl.where(smooth, pull, tl.zeros_like(pull))
        two = quotient(-(c * exponential(quotient(other, d))), d)
    else:
        half = tl.full([], 0.5, T)
        two = exponential(-other)
        one = (half * (two * squares) - half * (elements - 1).to(T)) - tl.load(params) * other
    return one, two


@triton.jit
def _neighbour(x, SHIFT: tl.constexpr, TILE: tl.constexpr):
    """The element before (SHIFT -1) or after (1) each; at the ends of a tile, any."""
    WIDTH: tl.constexpr = TILE.COLS * TILE.VEC
    index = tl.minimum(tl.maximum(tl.arange(0, WIDTH) + SHIFT, 0), WIDTH - 1)
    index = tl.broadcast_to(index[None, :], (TILE.ROWS, WIDTH))
    return tl.reshape(tl.gather(tl.reshape(x, (TILE.ROWS, WIDTH)), index, axis=1), (TILE.ROWS * TILE.COLS, TILE.VEC))


@triton.jit
def pair_in_tile(x, vectors, params, elements, at, KIND: tl.constexpr, TILE: tl.constexpr):
    if KIND == _ROSENBROCK:
        pair = _neighbour(x, -1, TILE), _neighbour(x, 1, TILE)
    elif KIND == _ACKLEY:
        squares, cosines = _terms(x, params, at, KIND, TILE)
        pair = _numbers(sum_of_tile(squares, at, TILE), sum_of_tile(cosines, at, TILE), params, elements, KIND)
    elif KIND == _FUNNEL:
        squares, _ = _terms(x, params, at, KIND, TILE)
        pair = _numbers(sum_of_tile(squares, at, TILE), _lead(x, at, TILE), params, elements, KIND)
    else:
        pair = vectors
    return pair


@triton.jit
def numbers_in_memory(
    pointer, rows, pitch, first, last, sizes, strides, params, elements, KIND: tl.constexpr, T: tl.constexpr, TILE: tl.constexpr
):
    """The part of a pair that all elements of a sample share, from the tiles ``first`` to ``last`` that it is made of."""
    pair = 0, 0
    if KIND != _ROSENBROCK:
        squares, cosines = empty_lanes(T, TILE), empty_lanes(T, TILE)
        for tile in range(first, last):
            at = place(tile, rows, pitch, TILE)
            square, cosine = _terms(read(pointer, at, sizes, strides, TILE, T), params, at, KIND, TILE)
            squares = added(squares, square, at, TILE)
            if KIND == _ACKLEY:
                cosines = added(cosines, cosine, at, TILE)
        if KIND == _ACKLEY:
            other = folded(cosines, TILE)
        else:
            at = place(first, rows, pitch, TILE)
            other = _lead(read(pointer, at, sizes, strides, TILE, T), at, TILE)
        pair = _numbers(folded(squares, TILE), other, params, elements, KIND)
    return pair


@triton.jit
def pair_in_memory(
    numbers, pointer, at, sizes, strides, elements, KIND: tl.constexpr, T: tl.constexpr, TILE: tl.constexpr
):
    pair = numbers
    if KIND == _ROSENBROCK:
        before = read_beside(pointer, at, sizes, strides, -1, elements, TILE, T)
        pair = before, read_beside(pointer, at, sizes, strides, 1, elements, TILE, T)
    return pair


@triton.jit
def score_of(x, pair, params, count, elements, at, KIND: tl.constexpr, TILE: tl.constexpr):
    """The score, (N, VEC), in x's type."""
    T: tl.constexpr = x.dtype
    two = tl.full([], 2.0, T)
    if KIND == _HARMONIC:
        score = tl.load(params) * (tl.load(params + 1) - x)
    elif KIND == _DOUBLE_WELL:
        score = x * (tl.load(params) - tl.load(params + 1) * (x * x))
    elif KIND == _GAUSSIAN:
        mean, precision = pair
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
        before, after = pair
        as_first = (four_b * x) * (after - x * x) + two * (a - x)
        as_second = twice_b * (x - before * before)
        element = element_of(at, TILE)
        nothing = tl.zeros_like(x)
        score = tl.where(element + 1 < elements, as_first, nothing) - tl.where(element > 0, as_second, nothing)
    elif KIND == _ACKLEY:
        pull, turn = pair
        sine, _ = sine_cosine(tl.load(params + 2) * x)
        score = spread(pull, TILE) * x + spread(turn, TILE) * sine
    else:
        of_first, inverse = pair
        score = tl.where(_leading(at, TILE), spread(of_first, TILE), -(spread(inverse, TILE) * x))
    return score
