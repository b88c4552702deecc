"""target_score: the score of a closed-form target, csrc/common/targets.h operation by operation.

A score is a function of the state of a tile, (N, VEC); targets whose elements are coupled have whole samples in it.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from pyebm._ops import TARGETS

from . import dense, host
from .functions import exponential, quotient, root, sine_cosine
from .tile import element_of, inside_of, place, read, rows_of, tiles, write
from .tiling import ELEMENTS, SIZES, Tiling, shape_of

_HARMONIC: tl.constexpr = tl.constexpr(TARGETS.index("harmonic"))
_DOUBLE_WELL: tl.constexpr = tl.constexpr(TARGETS.index("double_well"))
_GAUSSIAN: tl.constexpr = tl.constexpr(TARGETS.index("gaussian"))
_POLYNOMIAL: tl.constexpr = tl.constexpr(TARGETS.index("polynomial"))
_RASTRIGIN: tl.constexpr = tl.constexpr(TARGETS.index("rastrigin"))
_ROSENBROCK: tl.constexpr = tl.constexpr(TARGETS.index("rosenbrock"))
_ACKLEY: tl.constexpr = tl.constexpr(TARGETS.index("ackley"))
_FUNNEL: tl.constexpr = tl.constexpr(TARGETS.index("funnel"))
# How many numbers a target takes, for so many elements (None: any number), and the fewest elements.
_PARAMS = {
    "harmonic": lambda _: 2,
    "double_well": lambda _: 2,
    "gaussian": lambda elements: 2 * elements,
    "polynomial": lambda _: None,
    "rastrigin": lambda _: 1,
    "rosenbrock": lambda _: 3,
    "ackley": lambda _: 4,
    "funnel": lambda _: 1,
}
_LEAST = {"rosenbrock": 2, "ackley": 1, "funnel": 2}
_COUPLED = ("rosenbrock", "ackley", "funnel")
_LANES: tl.constexpr = tl.constexpr(32)  # of a sum, kSumLanes


@triton.jit
def vectors_of(params, elements, at, KIND: tl.constexpr, TILE: tl.constexpr):
    """What a target has for each element: the Gaussian's mean and precision, which a chain reads once."""
    if KIND == _GAUSSIAN:
        inside, element = inside_of(at, TILE), element_of(at, TILE)
        mean = tl.load(params + element, mask=inside, other=0)
        precision = tl.load(params + elements + element, mask=inside, other=0)
    else:
        mean, precision = 0, 0
    return mean, precision


@triton.jit
def _in_order(total, terms, ROWS: tl.constexpr, J: tl.constexpr):
    """total + terms[..., 0] + terms[..., 1] + ..., from the left; terms (ROWS, lanes, J)."""
    if J == 1:
        total = total + tl.reshape(terms, (ROWS, _LANES))
    else:
        halves = tl.permute(tl.reshape(terms, (ROWS, _LANES, 2, J // 2)), (0, 1, 3, 2))
        first, second = tl.split(halves)
        total = _in_order(_in_order(total, first, ROWS, J // 2), second, ROWS, J // 2)
    return total


@triton.jit
def _halved(total, ROWS: tl.constexpr, LEFT: tl.constexpr):
    if LEFT > 1:  # a sum of two has one order only
        total = _halved(tl.sum(tl.reshape(total, (ROWS, 2, LEFT // 2)), axis=1), ROWS, LEFT // 2)
    return total


@triton.jit
def _sum(terms, at, TILE: tl.constexpr):
    """The sum over each sample, (ROWS,), in the order of csrc/common/targets.h: element i goes to lane i mod 32, then the upper
    half of the lanes is added to the lower one, until one is left."""
    WIDTH: tl.constexpr = TILE.COLS * TILE.VEC
    terms = tl.where(inside_of(at, TILE), terms, tl.zeros_like(terms))
    total = tl.reshape(terms, (TILE.ROWS, WIDTH))
    if WIDTH > _LANES:
        lanes = tl.permute(tl.reshape(total, (TILE.ROWS, WIDTH // _LANES, _LANES)), (0, 2, 1))
        total = _in_order(tl.zeros([TILE.ROWS, _LANES], terms.dtype), lanes, TILE.ROWS, WIDTH // _LANES)
    return tl.reshape(_halved(total, TILE.ROWS, WIDTH if WIDTH < _LANES else _LANES), (TILE.ROWS,))


@triton.jit
def _spread(values, TILE: tl.constexpr):
    """One value a sample, (ROWS,), to its elements, (N, VEC)."""
    wide = tl.broadcast_to(values[:, None], (TILE.ROWS, TILE.COLS * TILE.VEC))
    return tl.reshape(wide, (TILE.ROWS * TILE.COLS, TILE.VEC))


@triton.jit
def _neighbour(x, SHIFT: tl.constexpr, TILE: tl.constexpr):
    """The element before (SHIFT -1) or after (1) each; at the ends of a tile, any."""
    WIDTH: tl.constexpr = TILE.COLS * TILE.VEC
    index = tl.minimum(tl.maximum(tl.arange(0, WIDTH) + SHIFT, 0), WIDTH - 1)
    index = tl.broadcast_to(index[None, :], (TILE.ROWS, WIDTH))
    return tl.reshape(tl.gather(tl.reshape(x, (TILE.ROWS, WIDTH)), index, axis=1), (TILE.ROWS * TILE.COLS, TILE.VEC))


@triton.jit
def score_of(x, params, count, elements, vectors, at, KIND: tl.constexpr, TILE: tl.constexpr):
    """The score, (N, VEC), in x's type."""
    T: tl.constexpr = x.dtype
    two = tl.full([], 2.0, T)
    half = tl.full([], 0.5, T)
    if KIND == _HARMONIC:
        score = tl.load(params) * (tl.load(params + 1) - x)
    elif KIND == _DOUBLE_WELL:
        score = x * (tl.load(params) - tl.load(params + 1) * (x * x))
    elif KIND == _GAUSSIAN:
        mean, precision = vectors
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
        before, after = _neighbour(x, -1, TILE), _neighbour(x, 1, TILE)
        as_first = (four_b * x) * (after - x * x) + two * (a - x)
        as_second = twice_b * (x - before * before)
        element = element_of(at, TILE).to(tl.int32)
        nothing = tl.zeros_like(x)
        score = tl.where(element + 1 < elements, as_first, nothing) - tl.where(element > 0, as_second, nothing)
    elif KIND == _ACKLEY:
        slope, decay, turns, c = tl.load(params), tl.load(params + 1), tl.load(params + 2), tl.load(params + 3)
        sine, cosine = sine_cosine(turns * x)
        d = tl.zeros([TILE.ROWS], T) + elements.to(T)
        radius = root(quotient(_sum(x * x, at, TILE), d))
        smooth = radius > 0  # the minimum is a cusp
        pull = quotient(-(slope * exponential(-(decay * radius))), tl.where(smooth, d * radius, d))
        pull = tl.where(smooth, pull, tl.zeros_like(pull))
        turn = quotient(-(c * exponential(quotient(_sum(cosine, at, TILE), d))), d)
        score = _spread(pull, TILE) * x + _spread(turn, TILE) * sine
    else:
        precision = tl.load(params)
        first = element_of(at, TILE) == 0
        v = _sum(tl.where(first, x, tl.zeros_like(x)), at, TILE)
        squares = _sum(tl.where(first, tl.zeros_like(x), x * x), at, TILE)
        inverse = exponential(-v)
        others = (elements - 1).to(T)
        of_first = (half * (inverse * squares) - half * others) - precision * v
        score = tl.where(first, _spread(of_first, TILE), -(_spread(inverse, TILE) * x))
    return score


@triton.jit(do_not_specialize=[*SIZES, "param_count", "elements"])
def score_kernel(
    out,
    x,
    numbers,  # params; Triton's launcher has a variable of that name
    param_count,
    elements,
    samples,
    pitch,
    parts,
    turns,
    sizes,
    strides,
    KIND: tl.constexpr,
    T: tl.constexpr,
    TILE: tl.constexpr,
):
    rows = rows_of(samples, TILE)
    first, last = tiles(rows, parts, turns, TILE)
    for tile in range(first, last):
        at = place(tile, rows, pitch, TILE)
        state = read(x, at, sizes, strides[1], TILE, T)
        vectors = vectors_of(numbers, elements, at, KIND, TILE)
        write(out, at, sizes, strides[0], TILE, score_of(state, numbers, param_count, elements, vectors, at, KIND, TILE))


def checked(op: str, x: Tensor, target: int, params: Tensor) -> tuple[int, int, bool]:
    """(how many parameters, elements of a sample, whether they are coupled) of a target that fits x."""
    if not 0 <= target < len(TARGETS):
        raise ValueError(f"{op}: target must be in [0, {len(TARGETS)}), got {target}")
    kind = TARGETS[target]
    if kind not in _PARAMS:
        raise NotImplementedError(f"{op}: the Triton kernels do not have the target {kind} yet; backend='reference' runs it")
    _, elements = shape_of(x)
    count = _PARAMS[kind](elements)
    dtype = host.compute_dtype(x.dtype)
    wrong = params.numel() == 0 if count is None else params.numel() != count
    if params.dtype != dtype or not params.is_contiguous() or wrong or elements < _LEAST.get(kind, 0):
        raise ValueError(
            f"{op}: params must be the contiguous {dtype} numbers of {kind} for samples of {elements} elements, "
            f"got {params.numel()} of {params.dtype}"
        )
    return params.numel(), elements, kind in _COUPLED


def target_score(out: Tensor, x: Tensor, target: int, params: Tensor) -> None:
    if not x.numel():
        return
    if dense.has(target):
        dense.target_score(out, x, target, params)
        return
    count, elements, coupled = checked("target_score", x, target, params)
    tiling = Tiling(out, x, most=ELEMENTS // 2, whole="target_score" if coupled else None)
    with host.on(x.device):
        score_kernel[tiling.grid](out, x, params, count, elements, KIND=target, T=host.work_type(x.dtype), **tiling.arguments)
