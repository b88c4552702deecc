"""The samplers' refusals, and their messages."""

from __future__ import annotations

import pytest
import sampler_cases
import torch
from cases import normal
from sampler_cases import CASES, begin, level_score, score

from pyebm import Noise
from pyebm.samplers import HMC, MALA, AnnealedLangevin, Langevin, State, UnderdampedLangevin

SIGMAS, LR, EACH = sampler_cases.SIGMAS, sampler_cases.LR, sampler_cases.EACH
annealed = sampler_cases.annealed


def langevin(**options):
    return Langevin(score, 0.3, **options)


X0 = normal(6, 5)
STATE = begin(X0)
BAD = {
    "x0 int": (lambda: langevin()(X0.int(), 1), TypeError, "Langevin: x0 must .*torch.int32"),
    "x0 list": (lambda: annealed()([1.0]), TypeError, "AnnealedLangevin: x0 must .*list"),
    "n_steps": (lambda: langevin()(X0, -1), ValueError, "Langevin: n_steps must be >= 0, got -1"),
    "annealed n_steps": (
        lambda: annealed()(X0, -1),
        ValueError,
        "AnnealedLangevin: n_steps must be >= 0, got -1",
    ),
    "thin": (lambda: langevin()(X0, 1, thin=0), ValueError, "Langevin: thin must be >= 1 or None, got 0"),
    "noise": (lambda: langevin()(X0, 1, noise="3"), TypeError, "Langevin: noise must be a Noise, .*got str"),
    "annealed noise": (
        lambda: annealed()(X0, noise=True),
        TypeError,
        "AnnealedLangevin: noise must be a Noise, .*got bool",
    ),
    "steps": (
        lambda: langevin()(X0, 2, noise=Noise(0, step=2**32 - 1)),
        ValueError,
        r"steps must stay below 2\*\*32",
    ),
    "beyond": (
        lambda: annealed()(X0, noise=Noise(0, step=13)),
        ValueError,
        "within the schedule's 12 steps, got 13",
    ),
    "step_size": (lambda: Langevin(score, 0.0)(X0, 1), ValueError, "step_size must be > 0 and finite, got 0"),
    "temperature": (
        lambda: langevin(temperature=-1.0)(X0, 1),
        ValueError,
        "temperature must be >= 0 and finite, got -1",
    ),
    "score": (
        lambda: Langevin(lambda x: x[:, :2], 0.1)(X0, 1),
        ValueError,
        r"score must have x's shape \(6, 5\), got \(6, 2\)",
    ),
    "sigmas empty": (
        lambda: AnnealedLangevin(level_score, [], LR, EACH),
        ValueError,
        r"sigmas must .*got \[\]",
    ),
    "sigmas zero": (
        lambda: AnnealedLangevin(level_score, [1.0, 0.0], LR, EACH),
        ValueError,
        r"sigmas must .*got \[1.0, 0.0\]",
    ),
    "sigmas nan": (
        lambda: AnnealedLangevin(level_score, [float("nan")], LR, EACH),
        ValueError,
        r"sigmas must .*got \[nan\]",
    ),
    "sigmas rising": (
        lambda: AnnealedLangevin(level_score, [1.0, 2.0], LR, EACH),
        ValueError,
        "sigmas must not increase",
    ),
    "step_lr": (
        lambda: AnnealedLangevin(level_score, SIGMAS, 0.0, EACH),
        ValueError,
        "step_lr must be > 0 and finite, got 0.0",
    ),
    "n_steps_each": (
        lambda: AnnealedLangevin(level_score, SIGMAS, LR, 0),
        ValueError,
        "n_steps_each must be >= 1, got 0",
    ),
    "noise twice": (
        lambda: Langevin(torch.neg, 0.1)(STATE, 3, noise=Noise(0)),
        ValueError,
        "noise comes with the State",
    ),
    "n_steps None": (
        lambda: Langevin(torch.neg, 0.1)(X0),
        TypeError,
        "Langevin: n_steps must be an int, got None",
    ),
    "n_steps float": (
        lambda: Langevin(torch.neg, 0.1)(X0, 1.5),
        TypeError,
        "Langevin: n_steps must be an int, got 1.5",
    ),
    "thin float": (
        lambda: Langevin(torch.neg, 0.1)(X0, 1, thin=0.5),
        TypeError,
        "thin must be an int or None, got 0.5",
    ),
    "velocity": (
        lambda: UnderdampedLangevin(torch.neg, 0.1)(State(X0, Noise(0), {"velocity": X0[:3]}), 1),
        ValueError,
        r"the State's velocity must have the shape \(6, 5\), got \(3, 5\)",
    ),
    "state version": (lambda: State.from_state_dict({"version": 2}), ValueError, "version 1, got 2"),
    "state keys": (
        lambda: State.from_state_dict({"version": 1}),
        ValueError,
        "keys extra, noise, not_finite, version, x",
    ),
    "batch": (
        lambda: Langevin(torch.neg, 0.1)(X0, 1, noise=Noise(0, sample_ids=[1])),
        ValueError,
        "names 1 samples, got a batch",
    ),
    "ids": (
        lambda: Langevin(torch.neg, 0.1)(X0, 1, noise=Noise(0, first_sample=2**32 - 3)),
        ValueError,
        "sample ids must be in",
    ),
    "streams": (
        lambda: MALA(sampler_cases.energy, 0.1)(X0, 1, noise=Noise(0, stream=2**32 - 1)),
        ValueError,
        "stream .*2 streams",
    ),
    "score_fn": (
        lambda: Langevin(3, 0.1)(X0, 1),
        TypeError,
        "score_fn must be a function or one of pyebm.targets, got int",
    ),
    "annealed score_fn": (
        lambda: AnnealedLangevin(3, [1.0], 0.1, 1),
        TypeError,
        "score_fn must be a function of x and sigma",
    ),
    "energy_fn": (
        lambda: MALA(3, 0.1)(X0, 1),
        TypeError,
        "MALA: energy_fn must be a function or one of pyebm.targets, got int",
    ),
    "energy shape": (
        lambda: MALA(torch.square, 0.1)(X0, 1),
        ValueError,
        r"MALA: energy_fn must return one energy per sample",
    ),
    "mala step_size": (
        lambda: MALA(torch.sum, -1.0)(X0, 1),
        ValueError,
        "MALA: step_size must be > 0 and finite, got -1",
    ),
    "mala temperature": (
        lambda: MALA(lambda x: x.sum(1), 1.0, temperature=0.0)(X0, 1),
        ValueError,
        "temperature must be > 0",
    ),
    "warmup": (lambda: MALA(torch.sum, 1.0, warmup=-1), ValueError, "MALA: warmup must be >= 0, got -1"),
    "target": (
        lambda: HMC(torch.sum, 1.0, 2, target_acceptance=1.0),
        ValueError,
        "target_acceptance must be in .*, got 1.0",
    ),
    "per": (
        lambda: HMC(torch.sum, 1.0, 2, per="chain"),
        ValueError,
        "HMC: per must be one of 'sample', 'batch', got 'chain'",
    ),
    "n_leapfrog": (lambda: HMC(torch.sum, 1.0, 0), ValueError, "HMC: n_leapfrog must be >= 1, got 0"),
    "jitter": (
        lambda: HMC(torch.sum, 1.0, 2, jitter=1.0),
        ValueError,
        r"HMC: jitter must be in \[0, 1\), got 1.0",
    ),
    "friction": (
        lambda: UnderdampedLangevin(torch.neg, 0.1, 0.0),
        ValueError,
        "friction must be > 0 and finite, got 0",
    ),
    "h tensor": (
        lambda: UnderdampedLangevin(torch.neg, X0),
        TypeError,
        "step_size must be a number, got a tensor",
    ),
    "known": (
        lambda: CASES["annealed"](X0).__class__(torch.sum, [1.0], 0.1, 1, known=X0)(X0),
        ValueError,
        "known needs a mask",
    ),
    "sigma_at": (
        lambda: CASES["annealed"](X0).sigma_at(12),
        ValueError,
        r"sigma_at: k must be in \[0, 12\), got 12",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
