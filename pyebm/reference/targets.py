"""The scores of the closed-form targets: csrc/common/targets.h in PyTorch, operation by operation, so differentiable too."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .._schemas import TARGETS
from .dense import gaussian_full, mixture, mixture_diagonal
from .functions import exponential, root, sine_cosine, sum_of
from .steps import work_of

# Each takes samples (B, D) and the target's packed parameters, in the same dtype, and gives the score (B, D).


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
    pull = torch.where(radius > 0, pull, 0.0)  # the minimum is a cusp
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


def score_of(x: Tensor, target: int, params: Tensor) -> Tensor:
    """The score at x (B, ...), in x's dtype."""
    if not x.numel():
        return x.clone()
    work = work_of(x)
    elements = work.numel() // work.shape[0]
    return SCORES[TARGETS[target]](work.reshape(work.shape[0], elements), params).reshape(x.shape).to(x.dtype)


# --- the op ---


def target_score(out: Tensor, x: Tensor, target: int, params: Tensor) -> None:
    out.copy_(score_of(x, target, params))
