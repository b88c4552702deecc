"""The scores and energies of the closed-form targets, written into tensors."""

from __future__ import annotations

import math

from torch import Tensor

from .._composed import ENERGIES, score_of, work_of
from .._composed.targets import Fixed
from .._kinds import TARGETS


def target_energy(
    energy: Tensor, score: Tensor, x: Tensor, target: int, params: Tensor, constant: float
) -> None:
    target_score(score, x, target, params)
    if not x.numel():
        energy.fill_(constant)
        return
    work = work_of(x).reshape(x.shape[0], math.prod(x.shape[1:]))
    energy.copy_(ENERGIES[TARGETS[target]](work, params, Fixed).double() + constant)


def target_score(out: Tensor, x: Tensor, target: int, params: Tensor) -> None:
    out.copy_(score_of(x, target, params))
