"""The scores and energies of the closed-form targets: csrc/common/targets.h in PyTorch, operation
by operation, so the scores are differentiable too.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .._kinds import TARGETS, fits
from .coefficients import work_of
from .dense import gaussian_full, mixture, mixture_diagonal, mixture_diagonal_energy, mixture_energy
from .functions import exponential, root, sine_cosine, sum_of

# Each function takes samples (B, D) and the target's packed parameters, in the same dtype, and
# gives the score (B, D).


def harmonic(x: Tensor, params: Tensor) -> Tensor:
    stiffness, center = params.unbind()
    return stiffness * (center - x)


def double_well(x: Tensor, params: Tensor) -> Tensor:
    linear, cubic = params.unbind()
    return x * (linear - cubic * (x * x))


def gaussian(x: Tensor, params: Tensor) -> Tensor:
    mean, precision = params.reshape(2, -1).unbind()
    return precision * (mean - x)


def polynomial(x: Tensor, params: Tensor) -> Tensor:
    *rest, last = params.unbind()
    value = last.expand_as(x)
    for coefficient in reversed(rest):
        value = value * x + coefficient
    return value


def rastrigin(x: Tensor, params: Tensor) -> Tensor:
    sine, _ = sine_cosine(x)
    return -2.0 * x - params * sine


def rosenbrock(x: Tensor, params: Tensor) -> Tensor:
    a, twice_b, four_b = params.unbind()
    before, after = x[:, :-1], x[:, 1:]
    as_first = (four_b * before) * (after - before * before) + 2.0 * (a - before)
    as_second = twice_b * (after - before * before)
    nothing = torch.zeros_like(x[:, :1])
    return torch.cat((as_first, nothing), 1) - torch.cat((nothing, as_second), 1)


def ackley(x: Tensor, params: Tensor) -> Tensor:
    slope, decay, turns, c = params.unbind()
    elements = torch.full((), x.shape[1], dtype=x.dtype, device=x.device)
    sine, cosine = sine_cosine(turns * x)
    squares, cosines = sum_of(x * x), sum_of(cosine)
    radius = root(squares / elements)
    pull = -(slope * exponential(-(decay * radius))) / (elements * radius)
    pull = torch.where(radius > 0, pull, 0.0)  # at the minimum, a cusp, the score is 0
    turn = -(c * exponential(cosines / elements)) / elements
    return pull.unsqueeze(1) * x + turn.unsqueeze(1) * sine


def funnel(x: Tensor, params: Tensor) -> Tensor:
    v, others = x[:, :1], x[:, 1:]
    squares = sum_of(torch.cat((torch.zeros_like(v), others * others), 1)).unsqueeze(1)
    inverse = exponential(-v)
    first = (0.5 * (inverse * squares) - 0.5 * (x.shape[1] - 1)) - params * v
    return torch.cat((first, -(inverse * others)), 1)


# The energies, up to the constant that Target._constant adds. Each function takes the same
# arguments and the functions that it is made of, and gives (B,).

SPAN = 1024  # so many terms are summed in the dtype of the computation; these sums are added in float64


class Fixed:
    """The functions that the kernels make an energy of, whose bits are promised."""

    exponential, root = staticmethod(exponential), staticmethod(root)

    @staticmethod
    def cosine(t: Tensor) -> Tensor:
        """cos(2 pi t)."""
        return sine_cosine(t)[1]

    @staticmethod
    def sum_of(terms: Tensor, first: int = 0) -> Tensor:
        """The sum over a sample whose elements before ``first`` count as zero."""
        return sum_of(torch.nn.functional.pad(terms, (first, 0)) if first else terms)

    @staticmethod
    def added_up(terms: Tensor, *factors: Tensor | float) -> Tensor:
        """The sum over a sample of its elements' terms times each of the factors."""
        for factor in factors:
            terms = factor * terms
        total = terms.new_zeros(terms.shape[0], dtype=torch.float64)
        for span in terms.split(SPAN, 1):
            total = total + sum_of(span).double()
        return total


class Torch(Fixed):
    """Torch's own functions, which are faster."""

    @staticmethod
    def exponential(x: Tensor) -> Tensor:
        return x.exp()

    @staticmethod
    def root(x: Tensor) -> Tensor:
        return x.sqrt()

    @staticmethod
    def cosine(t: Tensor) -> Tensor:
        return (2 * math.pi * (t - t.detach().round())).cos()  # exact for large t

    @staticmethod
    def sum_of(terms: Tensor, first: int = 0) -> Tensor:
        del first
        return terms.sum(1)

    @staticmethod
    def added_up(terms: Tensor, *factors: Tensor | float) -> Tensor:
        total = terms.sum(1)
        for factor in factors:
            total = factor * total
        return total


Functions = type[Fixed]
Score = Callable[[Tensor, Tensor], Tensor]
Energy = Callable[[Tensor, Tensor, Functions], Tensor]


def harmonic_energy(x: Tensor, params: Tensor, by: Functions) -> Tensor:
    stiffness, center = params.unbind()
    far = x - center
    return by.added_up(far * far, stiffness, 0.5)


def double_well_energy(x: Tensor, params: Tensor, by: Functions) -> Tensor:
    linear, cubic = params.unbind()
    beyond = x * x - linear / cubic  # 0 at the minima
    return by.added_up(beyond * beyond, 0.25 * cubic)


def gaussian_energy(x: Tensor, params: Tensor, by: Functions) -> Tensor:
    mean, precision = params.reshape(2, -1).unbind()
    far = x - mean
    return by.added_up(precision * (far * far), 0.5)


def polynomial_energy(x: Tensor, params: Tensor, by: Functions) -> Tensor:
    powers = torch.arange(-1, -params.numel() - 1, -1, dtype=params.dtype, device=params.device)
    *rest, last = (params / powers).unbind()
    value = last * x
    for coefficient in reversed(rest):
        value = (value + coefficient) * x
    return by.added_up(value)


def rastrigin_energy(x: Tensor, params: Tensor, by: Functions) -> Tensor:
    return by.added_up(x * x + (params * (0.5 / math.pi)) * (1.0 - by.cosine(x)))


def rosenbrock_energy(x: Tensor, params: Tensor, by: Functions) -> Tensor:
    a, twice_b, _ = params.unbind()
    before, after = x[:, :-1], x[:, 1:]
    valley, far = after - before * before, a - before
    return by.added_up((0.5 * twice_b) * (valley * valley) + far * far)


def ackley_energy(x: Tensor, params: Tensor, by: Functions) -> Tensor:
    slope, decay, turns, _ = params.unbind()
    elements = torch.full((), x.shape[1], dtype=x.dtype, device=x.device)
    squares, cosines = by.sum_of(x * x), by.sum_of(by.cosine(turns * x))
    bowl = (slope / decay) * (1.0 - by.exponential(-(decay * by.root(squares / elements))))
    return bowl + (math.e - by.exponential(cosines / elements))


def funnel_energy(x: Tensor, params: Tensor, by: Functions) -> Tensor:
    v, others = x[:, 0], x[:, 1:]
    squares = by.sum_of(others * others, 1)
    bowl = 0.5 * (params * (v * v)) + (0.5 * (x.shape[1] - 1)) * v
    return bowl + 0.5 * (by.exponential(-v) * squares)


_FORMULAS: dict[str, tuple[Score, Energy | None]] = {
    "harmonic": (harmonic, harmonic_energy),
    "double_well": (double_well, double_well_energy),
    "gaussian": (gaussian, gaussian_energy),
    "polynomial": (polynomial, polynomial_energy),
    "rastrigin": (rastrigin, rastrigin_energy),
    "rosenbrock": (rosenbrock, rosenbrock_energy),
    "ackley": (ackley, ackley_energy),
    "funnel": (funnel, funnel_energy),
    "mixture": (mixture, mixture_energy),
    "mixture_diagonal": (mixture_diagonal, mixture_diagonal_energy),
    "gaussian_full": (gaussian_full, None),
}
SCORES = {name: _FORMULAS[name][0] for name in TARGETS}
ENERGIES = {name: energy for name, (_, energy) in _FORMULAS.items() if energy is not None}


def score_of(x: Tensor, target: int, params: Tensor) -> Tensor:
    """The score at x (B, ...), in x's dtype."""
    if not x.numel():
        return x.clone()
    work = work_of(x)
    elements = work.numel() // work.shape[0]
    name = TARGETS[target]
    if not fits(name, elements, params.numel()):
        raise ValueError(
            f"params: the target {name} with {params.numel()} parameters has no samples of {elements}"
            " elements"
        )
    score = SCORES[name](work.reshape(work.shape[0], elements), params)
    return score.reshape(x.shape).to(x.dtype)
