"""The scores of the closed-form targets: csrc/common/targets.h in PyTorch, operation by operation, so differentiable too."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .._ops import TARGETS
from .steps import work_of

# Each takes samples (B, D) and the target's packed parameters, in the same dtype, and gives the score (B, D).


def harmonic(x: Tensor, params: Tensor) -> Tensor:
    stiffness, center = params.unbind()
    return stiffness * (center - x)


def double_well(x: Tensor, params: Tensor) -> Tensor:
    linear, cubic = params.unbind()
    return x * (linear - cubic * (x * x))


SCORES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {score.__name__: score for score in (harmonic, double_well)}


def score_of(x: Tensor, target: int, params: Tensor) -> Tensor:
    """The score at x (B, ...), in x's dtype."""
    work = work_of(x)
    elements = work.numel() // max(work.shape[0], 1)
    return SCORES[TARGETS[target]](work.reshape(work.shape[0], elements), params).reshape(x.shape).to(x.dtype)


# --- the op ---


def target_score(out: Tensor, x: Tensor, target: int, params: Tensor) -> None:
    out.copy_(score_of(x, target, params))
