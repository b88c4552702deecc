"""Every sampler on every closed-form target: runs, splits and threads, and one chain of each
against exact samples."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, normal
from scipy import stats

from pyebm import Noise, targets
from pyebm.samplers import HMC, MALA, Langevin, UnderdampedLangevin

COVARIANCE = torch.tensor([[1.0, 0.6, 0.0], [0.6, 2.0, -0.3], [0.0, -0.3, 0.5]])
TARGETS = {
    "harmonic": lambda: targets.Harmonic(),
    "double well": lambda: targets.DoubleWell(),
    "gaussian": lambda: targets.Gaussian(torch.zeros(3), torch.tensor([0.5, 1.0, 2.0])),
    "covariance": lambda: targets.Gaussian(covariance=COVARIANCE),
    "mixture": lambda: targets.GaussianMixture(normal(50, 3, seed=1), 0.5),
    "ackley": lambda: targets.Ackley(),
    "rastrigin": lambda: targets.Rastrigin(),
    "rosenbrock": lambda: targets.Rosenbrock(),
    "funnel": lambda: targets.Funnel(3),
}
SAMPLERS = {
    "langevin": lambda t: Langevin(t, 1e-4),
    "langevin-mask": lambda t: Langevin(t, 1e-4, mask=torch.tensor([True, False, True])),
    "underdamped": lambda t: UnderdampedLangevin(t, 0.01),
    "mala": lambda t: MALA(t, 1e-3),
    "hmc": lambda t: HMC(t, 0.02, 3),
}


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("target", TARGETS)
def test_neither_batch_nor_threads_matter(threads, target, sampler):
    run = SAMPLERS[sampler](TARGETS[target]())
    x0 = 0.5 * normal(700, 3)
    whole = run(x0, 7, noise=Noise(0), thin=3)
    part = run(x0[300:305], 7, noise=Noise(0, first_sample=300), thin=3)
    assert whole.x.isfinite().all()
    assert_equal(part.x, whole.x[300:305])
    assert_equal(part.states, whole.states[:, 300:305])
    if "acceptance" in whole.info:
        assert_equal(part.info["acceptance"], whole.info["acceptance"][300:305])
        assert whole.info["acceptance"].mean() > 0.05
    torch.set_num_threads(3 - threads)
    assert_equal(run(x0, 7, noise=Noise(0)), whole.x)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("target", ["double well", "rastrigin"])
def test_threads_that_share_one_sample(target):
    """One chain has so many elements that torch would sum its energy in parts; energies,
    decisions and states are the same."""
    runs = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        run = MALA(TARGETS[target](), 1e-6)(normal(1, 200_001), 4, noise=Noise(0), thin=1)
        runs.append((run.states, run.info))
    assert_equal(*runs)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("target", ["covariance", "mixture", "gaussian"])
@pytest.mark.parametrize("sampler", ["mala", "hmc", "underdamped"])
def test_against_exact_samples(target, sampler):
    """A chain that starts from exact samples must keep their law; one that starts far away must
    reach it."""
    exact = TARGETS[target]()
    run = {
        "mala": MALA(exact, 0.15),
        "hmc": HMC(exact, 0.3, 5, jitter=0.3),
        "underdamped": UnderdampedLangevin(exact, 0.25),
    }[sampler]
    steps = {"mala": 250, "hmc": 40, "underdamped": 120}[sampler]
    direct = exact.sample(2000, Noise(1))
    for x0 in (exact.sample(2000, Noise(2)), torch.full((2000, 3), 1.5)):
        x = run(x0, steps, noise=Noise(3))
        for i in range(3):
            assert stats.ks_2samp(x[:, i].numpy(), direct[:, i].numpy()).pvalue > 1e-4
