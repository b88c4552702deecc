"""MALA and HMC as a careful user writes them in eager PyTorch, for bench_mcmc.py."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

LEAPS = 5  # leapfrog steps of a trajectory
EnergyAndScore = Callable[[Tensor], tuple[Tensor, Tensor]]


def acceptance(log_alpha: Tensor) -> float:
    """The mean acceptance of all chains; a trajectory that exploded counts as refused."""
    return float(log_alpha.clamp(max=0).exp().nan_to_num(0).mean())


def dual_averaging(eta: float, target: float) -> Callable[[float], tuple[float, float]]:
    """Hoffman & Gelman (2014): takes a step's mean acceptance; returns the step size to try next
    and the average of the step sizes."""
    gap, average, m = 0.0, math.log(eta), 0

    def learn(acceptance: float) -> tuple[float, float]:
        nonlocal gap, average, m
        m += 1
        gap += (target - acceptance - gap) / (m + 10)
        tried = math.log(10 * eta) - math.sqrt(m) / 0.05 * gap
        average += m**-0.75 * (tried - average)
        return math.exp(tried), math.exp(average)

    return learn


def mala_written_out(
    x: Tensor, energy_and_score: EnergyAndScore, eta: float, steps: int, warm_up: bool
) -> Tensor:
    learn = dual_averaging(eta, 0.574)
    energy, score = energy_and_score(x)
    for _ in range(steps):
        y = x + eta * score + math.sqrt(2 * eta) * torch.randn_like(x)
        energy_y, score_y = energy_and_score(y)
        there = (y - x - eta * score).square().sum(1)
        back = (x - y - eta * score_y).square().sum(1)
        log_alpha = energy - energy_y + (there - back) / (4 * eta)
        accept = torch.rand_like(log_alpha).log() < log_alpha
        x = torch.where(accept[:, None], y, x)
        score = torch.where(accept[:, None], score_y, score)
        energy = torch.where(accept, energy_y, energy)
        if warm_up:
            eta, _ = learn(acceptance(log_alpha))
    return x


def hmc_written_out(
    x: Tensor,
    energy_and_score: EnergyAndScore,
    score_fn: Callable[[Tensor], Tensor],
    eps: float,
    steps: int,
    warm_up: bool,
) -> Tensor:
    learn = dual_averaging(eps, 0.8)
    energy, score = energy_and_score(x)
    for _ in range(steps):
        p = torch.randn_like(x)
        before = energy + 0.5 * p.square().sum(1)
        p = p + 0.5 * eps * score
        y = x + eps * p
        for _ in range(LEAPS - 1):
            p = p + eps * score_fn(y)
            y = y + eps * p
        energy_y, score_y = energy_and_score(y)
        p = p + 0.5 * eps * score_y
        log_alpha = before - energy_y - 0.5 * p.square().sum(1)
        accept = torch.rand_like(log_alpha).log() < log_alpha
        x = torch.where(accept[:, None], y, x)
        score = torch.where(accept[:, None], score_y, score)
        energy = torch.where(accept, energy_y, energy)
        if warm_up:
            eps, _ = learn(acceptance(log_alpha))
    return x
