"""The noise levels of Karras et al. (2022), table 1, in float64: as functions of time, and as the
ladders that its samplers go down."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple


class Schedule(NamedTuple):
    """sigma(t), its derivative, its inverse, and whether x is scaled by 1 / sqrt(1 + sigma^2)."""

    sigma: Callable[[float], float]
    derivative: Callable[[float], float]
    time: Callable[[float], float]
    scaled: bool

    def scale(self, time: float) -> float:
        """s(t)."""
        return 1 / math.sqrt(1 + self.sigma(time) ** 2) if self.scaled else 1.0

    def slope(self, time: float) -> tuple[float, float]:
        """(a, b) of the probability flow ``dx/dt = a x - b D(x / s)`` (eq. 81)."""
        sigma, derivative, s = self.sigma(time), self.derivative(time), self.scale(time)
        of_scale = -sigma * derivative * s**2 if self.scaled else 0.0  # s' / s
        return derivative / sigma + of_scale, derivative * s / sigma


def schedule_of(name: str, scaling: str, low: float | None, high: float | None, eps: float) -> Schedule:
    """The schedule, for VP with the betas that reach ``high`` at t = 1 and ``low`` at t = eps; with
    None those of Song et al. (2021)."""
    scaled = scaling == "vp"
    if name == "linear":
        return Schedule(lambda t: t, lambda _: 1.0, lambda sigma: sigma, scaled)
    if name == "ve":
        return Schedule(math.sqrt, lambda t: 0.5 / math.sqrt(t), lambda sigma: sigma**2, scaled)
    beta_d, beta_min = (19.1, 0.1) if low is None or high is None else _betas(low, high, eps)

    def sigma(t: float) -> float:
        return math.sqrt(math.expm1(0.5 * beta_d * t**2 + beta_min * t))

    def derivative(t: float) -> float:
        return 0.5 * (beta_min + beta_d * t) * (sigma(t) + 1 / sigma(t))

    def time(sigma: float) -> float:
        return (math.sqrt(beta_min**2 + 2 * beta_d * math.log1p(sigma**2)) - beta_min) / beta_d

    return Schedule(sigma, derivative, time, scaled)


def _betas(low: float, high: float, eps: float) -> tuple[float, float]:
    beta_d = 2 * (math.log1p(low**2) / eps - math.log1p(high**2)) / (eps - 1)
    return beta_d, math.log1p(high**2) - 0.5 * beta_d


def ladder(
    name: str,
    steps: int,
    low: float,
    high: float,
    *,
    rho: float = 7.0,
    eps: float = 1e-3,
    M: int = 1000,
    C_1: float = 0.001,
    C_2: float = 0.008,
) -> list[float]:
    """The levels from ``high`` down to ``low``, without the 0 at the end."""
    shares = [i / max(steps - 1, 1) for i in range(steps)]
    if name == "vp":
        sigma = schedule_of("vp", "none", low, high, eps).sigma
        return [sigma(1 + share * (eps - 1)) for share in shares]
    if name == "ve":
        return [high * (low / high) ** share for share in shares]
    if name == "edm":
        start, end = high ** (1 / rho), low ** (1 / rho)
        return [(start + share * (end - start)) ** rho for share in shares]

    def abar(j: int) -> float:
        return math.sin(0.5 * math.pi * j / M / (C_2 + 1)) ** 2

    u = [0.0]  # the levels from M down to 0
    for j in range(M, 0, -1):
        u.append(math.sqrt((u[-1] ** 2 + 1) / max(abar(j - 1) / abar(j), C_1) - 1))
    kept = [level for level in reversed(u) if low <= level <= high]
    if not kept:
        raise ValueError(f"ablation_sampler: M must give levels between {low} and {high}, got {M}")
    spacing = (len(kept) - 1) / max(steps - 1, 1)
    return [kept[round(spacing * i)] for i in range(steps)]
