"""The scores and energies of the closed-form targets: csrc/common/targets.h in PyTorch, operation
by operation, so the scores are differentiable too.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .._schemas import TARGETS
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


SCORES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    score.__name__: score
    for score in (
        *(harmonic, double_well, gaussian, polynomial, rastrigin, rosenbrock, ackley, funnel),
        *(mixture, mixture_diagonal, gaussian_full),
    )
}


# The kernels of these targets differ from these scores by rounding (dense.py).
DENSE = frozenset({"mixture", "mixture_diagonal", "gaussian_full"})


def score_of(x: Tensor, target: int, params: Tensor) -> Tensor:
    """The score at x (B, ...), in x's dtype."""
    if not x.numel():
        return x.clone()
    work = work_of(x)
    elements = work.numel() // work.shape[0]
    kind = TARGETS[target]
    try:
        score = SCORES[kind](work.reshape(work.shape[0], elements), params)
    except ValueError as error:  # the number of parameters does not fit this target
        message = (
            f"params: the target {kind} with {params.numel()} parameters has no samples of {elements}"
            " elements"
        )
        raise ValueError(message) from error
    return score.reshape(x.shape).to(x.dtype)


# The energies, up to the constant that Target._constant adds. Each function takes the same
# arguments and gives (B,) in float64.

SPAN = 1024  # so many terms are summed in the dtype of the computation; these sums are added in float64


def added_up(terms: Tensor) -> Tensor:
    total = terms.new_zeros(terms.shape[0], dtype=torch.float64)
    for span in terms.split(SPAN, 1):
        total = total + sum_of(span).double()
    return total


def harmonic_energy(x: Tensor, params: Tensor) -> Tensor:
    stiffness, center = params.unbind()
    return added_up(0.5 * (stiffness * ((x - center) * (x - center))))


def double_well_energy(x: Tensor, params: Tensor) -> Tensor:
    linear, cubic = params.unbind()
    beyond = x * x - linear / cubic  # 0 at the minima
    return added_up((0.25 * cubic) * (beyond * beyond))


def gaussian_energy(x: Tensor, params: Tensor) -> Tensor:
    mean, precision = params.reshape(2, -1).unbind()
    return added_up(0.5 * (precision * ((x - mean) * (x - mean))))


def polynomial_energy(x: Tensor, params: Tensor) -> Tensor:
    *rest, last = (c / -(k + 1.0) for k, c in enumerate(params.unbind()))
    value = last.expand_as(x)
    for coefficient in [*reversed(rest), torch.zeros_like(last)]:
        value = value * x + coefficient
    return added_up(value)


def rastrigin_energy(x: Tensor, params: Tensor) -> Tensor:
    _, cosine = sine_cosine(x)
    return added_up(x * x + (params * (0.5 / math.pi)) * (1.0 - cosine))


def rosenbrock_energy(x: Tensor, params: Tensor) -> Tensor:
    a, twice_b, _ = params.unbind()
    before, after = x[:, :-1], x[:, 1:]
    valley = after - before * before
    terms = (0.5 * twice_b) * (valley * valley) + (a - before) * (a - before)
    return added_up(torch.cat((terms, torch.zeros_like(x[:, :1])), 1))


def ackley_energy(x: Tensor, params: Tensor) -> Tensor:
    slope, decay, turns, _ = params.unbind()
    elements = torch.full((), x.shape[1], dtype=x.dtype, device=x.device)
    squares, cosines = sum_of(x * x), sum_of(sine_cosine(turns * x)[1])
    bowl = (slope / decay) * (1.0 - exponential(-(decay * root(squares / elements))))
    return (bowl + (math.e - exponential(cosines / elements))).double()


def funnel_energy(x: Tensor, params: Tensor) -> Tensor:
    v, others = x[:, :1], x[:, 1:]
    squares, v = sum_of(torch.cat((torch.zeros_like(v), others * others), 1)), x[:, 0]
    bowl = 0.5 * (params * (v * v)) + (0.5 * (x.shape[1] - 1)) * v
    return (bowl + 0.5 * (exponential(-v) * squares)).double()


ENERGIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    energy.__name__.removesuffix("_energy"): energy
    for energy in (
        *(
            harmonic_energy,
            double_well_energy,
            gaussian_energy,
            polynomial_energy,
            rastrigin_energy,
            rosenbrock_energy,
        ),
        *(ackley_energy, funnel_energy, mixture_energy, mixture_diagonal_energy),
    )
}
