"""The scores and energies of the closed-form targets, written into tensors."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .._composed import ENERGIES, score_of, work_of
from .._schemas import TARGETS


def target_energy(
    energy: Tensor, score: Tensor, x: Tensor, target: int, params: Tensor, constant: float
) -> None:
    target_score(score, x, target, params)
    work = work_of(x)
    work = work.reshape(work.shape[0], math.prod(work.shape[1:]))
    energy.copy_(
        ENERGIES[TARGETS[target]](work, params) + constant if x.numel() else torch.full_like(energy, constant)
    )


def target_score(out: Tensor, x: Tensor, target: int, params: Tensor) -> None:
    out.copy_(score_of(x, target, params))
