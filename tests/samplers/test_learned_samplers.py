"""Samplers around a learned target have the bits of the same sampler around a function, and
samples of known networks have their laws."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from cases import assert_equal, normal
from learned_cases import logistic, mlp, shifted
from scipy import stats

import pyebm
from pyebm import Noise
from pyebm.samplers import (
    HMC,
    MALA,
    VE,
    AnnealedLangevin,
    Langevin,
    PredictorCorrector,
    State,
    UnderdampedLangevin,
)
from pyebm.targets import MLPEnergy, MLPScore

pytestmark = pytest.mark.usefixtures("one_thread")
X = normal(6, 3)
ENERGY = MLPEnergy(mlp(3, 1), 0.5)
LEVEL = MLPScore(mlp(4, 3), condition=1)


def energy(x):
    return ENERGY(x)


def level(x, sigma):
    return LEVEL(x, sigma)


MASK = X > 0
PAIRS = {
    "langevin": lambda e, _: Langevin(e, 0.1, clamp=(-1, 1)),
    "clipped": lambda e, _: Langevin(e, 0.1, score_clip=0.3),
    "schedule": lambda e, _: Langevin(e, [0.1, 0.2, 0.3, 0.2, 0.1, 0.3], temperature=lambda k: 0.5 + 0.1 * k),
    "one a sample": lambda e, _: Langevin(e, torch.linspace(0.1, 0.5, 6).reshape(6, 1)),
    "mask": lambda e, _: Langevin(e, 0.1, mask=MASK),
    "underdamped": lambda e, _: UnderdampedLangevin(e, 0.3),
    "annealed": lambda _, s: AnnealedLangevin(s, [1.0, 0.5, 0.2], 0.05, 2),
    "annealed, options": lambda _, s: AnnealedLangevin(
        s, [1.0, 0.5, 0.2], 0.05, 2, clamp=(-1, 1), score_clip=0.4, temperature=0.5
    ),
    "annealed, known": lambda _, s: AnnealedLangevin(s, [1.0, 0.5, 0.2], 0.05, 2, known=X, mask=MASK),
    "predictor-corrector": lambda _, s: PredictorCorrector(s, VE(0.1, 2.0), 6, per="sample"),
}


@pytest.mark.parametrize("case", PAIRS)
def test_has_the_bits_of_a_function(case):
    made, plain = PAIRS[case](ENERGY, LEVEL), PAIRS[case](lambda x: ENERGY.score(x), level)
    x0 = State(X, Noise(5))
    got, want = made(x0, thin=2, n_steps=6), plain(x0, thin=2, n_steps=6)
    assert_equal(got.states, want.states)
    assert_equal(got.x, want.x)
    assert_equal(made(made(x0, 3), 3).x, want.x)
    if case not in ("one a sample", "mask", "annealed, known"):  # their options are for the whole batch
        assert_equal(made(X[2:4], 6, noise=Noise(5, first_sample=2)), want.x[2:4])


@pytest.mark.parametrize(
    "make", [lambda e: MALA(e, 0.2), lambda e: HMC(e, 0.3, 3), lambda e: HMC(e, 0.3, 2, mass=2.0, warmup=3)]
)
def test_metropolis(make):
    """Around the target, one launch gives energy and score."""
    got, want = make(ENERGY)(X, 6, noise=5, thin=2), make(energy)(X, 6, noise=5, thin=2)
    torch.testing.assert_close(got.states, want.states, rtol=1e-4, atol=1e-4)
    assert_equal(got.info["accepted"], want.info["accepted"])
    torch.testing.assert_close(
        got.info["energy"], ENERGY(got.states.reshape(-1, 3)).double().reshape(3, 6), check_dtype=False
    )


def test_an_energys_levels():
    """Samplers of levels take the score of a conditional energy."""
    target = MLPEnergy(mlp(4, 1), 0.5, condition=1)
    for made, plain in ((target, lambda x, sigma: target.score(x, sigma)),):
        got, want = (AnnealedLangevin(fn, [1.0, 0.5], 0.05, 3)(X, noise=5) for fn in (made, plain))
        assert_equal(got, want)
        got, want = (PredictorCorrector(fn, VE(0.1, 2.0), 4)(X, noise=5) for fn in (made, plain))
        assert_equal(got, want)


def law_of(samples, distribution):
    """The p-value of the Kolmogorov-Smirnov test, for the elements of independent chains."""
    return stats.kstest(samples.double().flatten().numpy(), distribution.cdf).pvalue


@pytest.mark.parametrize(
    ("make", "steps"),
    [
        (lambda e: Langevin(e, 0.02), 400),
        (lambda e: MALA(e, 1.5), 60),
        (lambda e: HMC(e, 1.2, 4), 60),
        (lambda e: UnderdampedLangevin(e, 0.3), 60),
    ],
    ids=["langevin", "mala", "hmc", "underdamped"],
)
def test_law_of_an_energy(make, steps):
    """The network is a logistic distribution; without their test, MALA and HMC would be biased
    at these steps."""
    target = MLPEnergy(logistic(2))
    x = make(target)(torch.zeros(3000, 2), steps, noise=1)
    assert law_of(x, stats.logistic) > 0.001
    assert abs(float(x.var()) / (torch.pi**2 / 3) - 1) < 0.08


def test_a_coarse_step_alone_is_biased():
    """The laws above can therefore tell a biased sampler."""
    x = Langevin(MLPEnergy(logistic(2)), 1.5)(torch.zeros(3000, 2), 60, noise=1)
    assert law_of(x, stats.logistic) < 1e-6


def test_law_of_a_fitted_network():
    """Runs the example, which knows the density that its network should learn; the bound allows
    for the fit's error, not for the samples' alone."""
    learned, exact = _example().main(steps=500, chain_steps=400, chains=2000)
    assert max(stats.ks_2samp(learned[:, k].numpy(), exact[:, k].numpy()).statistic for k in range(2)) < 0.1
    assert abs(learned.norm(dim=1).mean() - exact.norm(dim=1).mean()) < 0.1


def _example():
    path = Path(__file__).parents[2] / "examples" / "learned_energy.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_law_of_the_quadratic():
    target = MLPEnergy(_nothing(3), quadratic=1 / (2 * 1.5**2))
    x = pyebm.langevin_chain(torch.zeros(2000, 3), target, 300, 0.05, Noise(1))
    assert law_of(x, stats.norm(scale=1.5 * (1 - 0.05 / 2 / 1.5**2) ** -0.5)) > 0.001


def _nothing(inputs):
    net = mlp(inputs, 1)
    with torch.no_grad():
        net[-1].weight.zero_()
        net[-1].bias.zero_()
    return net


def test_law_of_a_conditional_score():
    """Each sample's law is N(c, 1) for its own c; annealed sampling ends at the last level,
    which is then the mean."""
    c = torch.linspace(-3, 3, 2000).reshape(-1, 1)
    x = pyebm.langevin_chain(
        torch.zeros(2000, 1), MLPScore(shifted(1), condition=1).given(c), 300, 0.05, Noise(1)
    )
    assert law_of(x - c, stats.norm(scale=(1 - 0.05 / 2) ** -0.5)) > 0.001
    annealed = AnnealedLangevin(MLPScore(shifted(1), condition=1), [5.0, 2.0], 0.05, 150, denoise=False)
    x = annealed(torch.zeros(2000, 1), noise=1)
    assert law_of(x - 2.0, stats.norm(scale=(1 - 0.05 / 2) ** -0.5)) > 0.001
