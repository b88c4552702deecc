"""One of each sampler, small, with and without its options, for the tests that run over all
samplers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cases import assert_equal, normal
from learned_cases import mlp
from torch import Tensor

from pyebm import Noise
from pyebm.samplers import (
    HMC,
    MALA,
    VE,
    VP,
    AnnealedLangevin,
    Langevin,
    PredictorCorrector,
    Sampler,
    State,
    SubVP,
    UnderdampedLangevin,
)
from pyebm.targets import DoubleWell, MLPEnergy, MLPScore

STEPS = 12
SIGMAS, EACH, LR = [3.0, 1.0, 0.3], 4, 0.02
MASK = normal(6, 5, seed=9) > 0
MASK_ROW = MASK[:1]  # one row for all samples
KNOWN = normal(1, 5, seed=8).expand(6, 5)


def energy(x: Tensor) -> Tensor:
    """The energy of each sample alone: cosines in a wide bowl, summed over elements."""
    return (0.1 * x.square() - x.cos()).flatten(1).sum(1)


def score(x: Tensor) -> Tensor:
    return -(0.2 * x + x.sin())


def level_score(x: Tensor, sigma: Tensor) -> Tensor:
    assert sigma.shape == x.shape[:1]
    return (-x / (1 + sigma.reshape(-1, *[1] * (x.dim() - 1)) ** 2)).to(x.dtype)


def time_score(x: Tensor, t: Tensor) -> Tensor:
    assert t.shape == x.shape[:1]
    return (-x / (1 + t.reshape(-1, *[1] * (x.dim() - 1)))).to(x.dtype)


def annealed(**options: Any) -> AnnealedLangevin:
    return AnnealedLangevin(level_score, SIGMAS, LR, EACH, **options)


def corrected(sde: Any, **options: Any) -> PredictorCorrector:
    return PredictorCorrector(options.pop("score_fn", time_score), sde, STEPS, **{"per": "sample", **options})


def _with_known(x: Tensor) -> dict[str, Any]:
    return {"mask": MASK_ROW, "known": KNOWN.narrow(0, 0, 1).to(x.dtype).expand_as(x)}


# Each function makes its sampler for a batch x, so that a part of the batch can be run alone.
CASES: dict[str, Callable[[Tensor], Sampler]] = {
    "langevin": lambda _: Langevin(score, 0.3),
    "langevin-options": lambda _: Langevin(
        score, 0.3, temperature=0.5, clamp=(-1, 1), score_clip=0.7, mask=MASK_ROW
    ),
    "langevin-chain": lambda x: Langevin(DoubleWell().to(x.device), 0.05, clamp=(-2, None)),
    "annealed": lambda _: annealed(),
    "annealed-temperature": lambda _: annealed(temperature=[1 / (1 + k) for k in range(STEPS)]),
    "annealed-known": lambda x: annealed(**_with_known(x)),
    "pc-ve": lambda _: corrected(VE(0.1, 5.0), corrector_steps=2),
    "pc-vp-batch": lambda _: corrected(VP(0.1, 6.0), per="batch"),
    "pc-vp-ancestral": lambda _: corrected(VP(0.1, 6.0), predictor="ancestral", clamp=(-3, 3)),
    "pc-subvp-flow-known": lambda x: corrected(
        SubVP(0.1, 6.0), predictor="euler_maruyama", probability_flow=True, **_with_known(x)
    ),
    "pc-network": lambda x: corrected(VE(0.1, 5.0), score_fn=MLPScore(mlp(6, 5), condition=1).to(x.device)),
    "mala-network": lambda x: MALA(MLPEnergy(mlp(5, 1), 0.5).to(x.device), 0.3),
    "underdamped-chain": lambda x: UnderdampedLangevin(
        DoubleWell().to(x.device), 0.05, clamp=(-2, None), mask=MASK_ROW
    ),
    "mala": lambda _: MALA(energy, 0.6),
    "hmc-mask": lambda _: HMC(energy, 0.7, 3, mask=MASK_ROW, temperature=0.5),
    "mala-warmup-mask": lambda _: MALA(energy, 0.6, score_fn=score, warmup=7, mask=MASK_ROW),
    "mala-warmup-batch": lambda _: MALA(energy, 0.6, warmup=7, per="batch"),
    "hmc-warmup": lambda _: HMC(energy, 0.7, 3, warmup=7, jitter=0.2),
    "underdamped": lambda _: UnderdampedLangevin(score, 0.5, 0.7),
    "underdamped-options": lambda _: UnderdampedLangevin(
        score, 0.5, 0.7, temperature=0.5, clamp=(-1, 1), score_clip=0.7, mask=MASK_ROW
    ),
}


def begin(x: Tensor, noise: Noise | None = None) -> State:
    return State(x, Noise(1, step=0, stream=3) if noise is None else noise)


def same(a: State, b: State) -> None:
    assert_equal(a.x, b.x)
    assert_equal(a.extra, b.extra)
    assert repr(a.noise) == repr(b.noise)
