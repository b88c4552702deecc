"""The scores of a tile's elements, (N, VEC), for the closed-form targets, and the terms of the
energies that are sums over the elements: csrc/common/targets.h operation by operation.

A score's inputs besides the element are called *given*: the Gaussian's mean and precision,
Rosenbrock's elements before and after, and two numbers of the sample, made from sums over it, for
Ackley and the funnel. They come from the tile where it holds whole samples, else from memory, where
the whole sample lies. KIND is the target's row of pyebm/_kinds.py.
"""

import triton
import triton.language as tl

from .functions import exponential, quotient, root, sine_cosine
from .sample_sums import added, empty_lanes, folded, spread, sum_of_tile
from .tile import element_of, inside_of, place, read, read_beside


@triton.jit
def unpacked(params, KIND: tl.constexpr):
    """The target's parameters as a tuple: a branch that takes fewer or more doesn't compile."""
    numbers = (tl.load(params),)
    for k in tl.static_range(1, KIND.numbers):
        numbers = numbers + (tl.load(params + k),)  # noqa: RUF005  Triton has no starred tuples
    return numbers


@triton.jit
def vectors_of(params, elements, at, KIND: tl.constexpr, TILE: tl.constexpr):
    """The Gaussian's mean and precision. They do not depend on the state, so a chain reads them
    once."""
    if KIND.name == "gaussian":
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
def _pull(squares, params, elements, KIND: tl.constexpr):
    """Ackley's first number, from the sum of squares, (ROWS,)."""
    slope, decay, _, _ = unpacked(params, KIND)
    d = tl.zeros_like(squares) + elements.to(squares.dtype)
    radius = root(quotient(squares, d))
    smooth = radius > 0  # the minimum is a cusp
    pull = quotient(-(slope * exponential(-(decay * radius))), tl.where(smooth, d * radius, d))
    return tl.where(smooth, pull, tl.zeros_like(pull))


@triton.jit
def _turn(cosines, params, elements, KIND: tl.constexpr):
    """Ackley's second number, from the sum of cosines, (ROWS,)."""
    _, _, _, c = unpacked(params, KIND)
    d = tl.zeros_like(cosines) + elements.to(cosines.dtype)
    return quotient(-(c * exponential(quotient(cosines, d))), d)


@triton.jit
def _sine_and_cosine(x, params, KIND: tl.constexpr):
    """The sine and the cosine of c x, for Ackley."""
    _, _, turns, _ = unpacked(params, KIND)
    return sine_cosine(turns * x)


@triton.jit
def _funnel_numbers(v, squares, params, elements, KIND: tl.constexpr):
    """The score of v, and e^-v."""
    (precision,) = unpacked(params, KIND)
    half = tl.full([], 0.5, v.dtype)
    inverse = exponential(-v)
    return (half * (inverse * squares) - half * (elements - 1).to(v.dtype)) - precision * v, inverse


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
    if KIND.name == "rosenbrock":
        given = _neighbour(x, -1, TILE), _neighbour(x, 1, TILE)
    elif KIND.name == "ackley":
        sine, cosine = _sine_and_cosine(x, params, KIND)
        pull = _pull(sum_of_tile(x * x, at, TILE), params, elements, KIND)
        given = pull, _turn(sum_of_tile(cosine, at, TILE), params, elements, KIND), sine
    elif KIND.name == "funnel":
        squares = sum_of_tile(_squares_of_others(x, at, TILE), at, TILE)
        given = _funnel_numbers(_lead(x, at, TILE), squares, params, elements, KIND)
    else:
        given = vectors
    return given


@triton.jit
def sums_in_memory(
    pointer,
    rows,
    pitch,
    first,
    last,
    sizes,
    strides,
    params,
    KIND: tl.constexpr,
    T: tl.constexpr,
    TILE: tl.constexpr,
):
    """Ackley's sums of squares and of cosines; the funnel's sum of squares, and v: (ROWS,) each.
    The tiles from ``first`` up to ``last`` make up the sample."""
    tl.static_assert(KIND.name == "ackley" or KIND.name == "funnel")
    squares, cosines = empty_lanes(T, TILE), empty_lanes(T, TILE)
    for tile in range(first, last):
        at = place(tile, rows, pitch, TILE)
        x = read(pointer, at, sizes, strides, TILE, T)
        if KIND.name == "ackley":
            _, cosine = _sine_and_cosine(x, params, KIND)
            cosines = added(cosines, cosine, at, TILE)
            squares = added(squares, x * x, at, TILE)
        else:
            squares = added(squares, _squares_of_others(x, at, TILE), at, TILE)
    if KIND.name == "ackley":
        sums = folded(squares, TILE), folded(cosines, TILE)
    else:
        at = place(first, rows, pitch, TILE)
        sums = folded(squares, TILE), _lead(read(pointer, at, sizes, strides, TILE, T), at, TILE)
    return sums


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
    """The given numbers that all elements of a sample share (sums_in_memory)."""
    if KIND.name == "rosenbrock":
        numbers = 0, 0
    else:
        squares, other = sums_in_memory(
            pointer, rows, pitch, first, last, sizes, strides, params, KIND, T, TILE
        )
        if KIND.name == "ackley":
            pull = _pull(squares, params, elements, KIND)
            numbers = pull, _turn(other, params, elements, KIND)
        else:
            numbers = _funnel_numbers(other, squares, params, elements, KIND)
    return numbers


@triton.jit
def sums_by_tile(x, params, at, KIND: tl.constexpr, TILE: tl.constexpr):
    """The same sums (sums_in_memory) for a tile of whole samples."""
    if KIND.name == "ackley":
        _, cosine = _sine_and_cosine(x, params, KIND)
        sums = sum_of_tile(x * x, at, TILE), sum_of_tile(cosine, at, TILE)
    else:
        sums = sum_of_tile(_squares_of_others(x, at, TILE), at, TILE), _lead(x, at, TILE)
    return sums


@triton.jit
def given_in_memory(
    x, numbers, pointer, at, sizes, strides, params, elements, KIND: tl.constexpr, TILE: tl.constexpr
):
    """The given values for x, a tile of a longer sample that lies at ``pointer``."""
    if KIND.name == "rosenbrock":
        before = read_beside(pointer, at, sizes, strides, -1, elements, TILE, x.dtype)
        given = before, read_beside(pointer, at, sizes, strides, 1, elements, TILE, x.dtype)
    elif KIND.name == "ackley":
        sine, _ = _sine_and_cosine(x, params, KIND)
        given = numbers[0], numbers[1], sine
    else:
        given = numbers
    return given


@triton.jit
def score_of(x, given, params, count, elements, at, KIND: tl.constexpr, TILE: tl.constexpr):
    """The score, (N, VEC), in x's type."""
    T: tl.constexpr = x.dtype
    two = tl.full([], 2.0, T)
    if KIND.name == "harmonic":
        stiffness, center = unpacked(params, KIND)
        score = stiffness * (center - x)
    elif KIND.name == "double_well":
        linear, cubic = unpacked(params, KIND)
        score = x * (linear - cubic * (x * x))
    elif KIND.name == "gaussian":
        mean, precision = given
        score = precision * (mean - x)
    elif KIND.name == "polynomial":
        score = tl.zeros_like(x) + tl.load(params + count - 1)
        for k in range(1, count):
            score = score * x + tl.load(params + count - 1 - k)
    elif KIND.name == "rastrigin":
        (amplitude,) = unpacked(params, KIND)
        sine, _ = sine_cosine(x)
        score = -two * x - amplitude * sine
    elif KIND.name == "rosenbrock":
        a, twice_b, four_b = unpacked(params, KIND)
        before, after = given
        as_first = (four_b * x) * (after - x * x) + two * (a - x)
        as_second = twice_b * (x - before * before)
        element = element_of(at, TILE)
        nothing = tl.zeros_like(x)
        score = tl.where(element + 1 < elements, as_first, nothing) - tl.where(
            element > 0, as_second, nothing
        )
    elif KIND.name == "ackley":
        pull, turn, sine = given
        score = spread(pull, TILE) * x + spread(turn, TILE) * sine
    else:
        tl.static_assert(KIND.name == "funnel", "the Triton kernels lack this target")
        of_first, inverse = given
        score = tl.where(_leading(at, TILE), spread(of_first, TILE), -(spread(inverse, TILE) * x))
    return score


@triton.jit
def energy_terms(x, given, params, count, elements, at, KIND: tl.constexpr, TILE: tl.constexpr):
    """The terms whose sum over a sample is its energy, (N, VEC), in x's type."""
    T: tl.constexpr = x.dtype
    half = tl.full([], 0.5, T)
    if KIND.name == "harmonic":
        stiffness, center = unpacked(params, KIND)
        terms = half * (stiffness * ((x - center) * (x - center)))
    elif KIND.name == "double_well":
        linear, cubic = unpacked(params, KIND)
        beyond = x * x - quotient(linear, cubic)
        terms = (half * half * cubic) * (beyond * beyond)
    elif KIND.name == "gaussian":
        mean, precision = given
        terms = half * (precision * ((x - mean) * (x - mean)))
    elif KIND.name == "polynomial":
        power = count.to(T)
        terms = tl.zeros_like(x) + quotient(tl.load(params + count - 1), -power)
        for k in range(1, count):
            power -= 1.0
            terms = terms * x + quotient(tl.load(params + count - 1 - k), -power)
        terms = terms * x
    elif KIND.name == "rastrigin":
        (amplitude,) = unpacked(params, KIND)
        _, cosine = sine_cosine(x)
        terms = x * x + (amplitude * tl.full([], 0.15915494309189535, T)) * (tl.full([], 1.0, T) - cosine)
    else:
        tl.static_assert(KIND.name == "rosenbrock", "the Triton kernels lack this target's energy")
        a, twice_b, _ = unpacked(params, KIND)
        _, after = given
        valley = after - x * x
        terms = (half * twice_b) * (valley * valley) + (a - x) * (a - x)
        terms = tl.where(element_of(at, TILE) + 1 < elements, terms, tl.zeros_like(x))
    return terms
