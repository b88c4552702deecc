"""The law of the chains' states: at every step, where it is known in closed form or by
quadrature, and in the limit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from target_cases import make

import pyebm
from pyebm import Noise, targets

CHAINS = 40_000
CERTAIN = 1e-4  # a smaller p-value is a fault: the seeds are fixed, so none comes by chance


def fits(samples, x, density):
    """The p-value of the samples under a density given on the grid x."""
    distribution = integrate.cumulative_trapezoid(density.numpy(), x.numpy(), initial=0)
    assert distribution[-1] == pytest.approx(1, abs=1e-6)
    return stats.kstest(np.interp(samples.numpy(), x.numpy(), distribution), "uniform").pvalue


@pytest.mark.parametrize(
    "step_size", [0.1, [0.3, 0.05, 0.2, 0.6, 0.1, 0.1, 0.01, 0.4]], ids=["constant", "schedule"]
)
@pytest.mark.parametrize("temperature", [1.0, 0.4])
def test_a_gaussian_at_every_step(step_size, temperature):
    """From a point, the unadjusted chain stays normal, with mean m + prod(1 - eta_j p) (x0 - m) and
    a variance that has its own recursion.

    The covariance of two steps is the earlier step's variance times the factors between them;
    elements and chains are independent.
    """
    steps = 8
    target = targets.Gaussian(torch.tensor([0.3, -1.0, 2.0]), torch.tensor([0.7, 1.0, 2.0]))
    x0 = torch.tensor([2.0, -1.0, 0.0], dtype=torch.float64)
    _, states = pyebm.langevin_chain(
        x0.expand(CHAINS, 3), target, steps, step_size, Noise(1), temperature=temperature, thin=1
    )
    etas = [step_size] * steps if isinstance(step_size, float) else step_size
    mean, variance, factors = x0, torch.zeros(3, dtype=torch.float64), []
    for k, eta in enumerate(etas):
        factor = 1 - eta / target.std**2
        mean = target.mean + factor * (mean - target.mean)
        variance = factor**2 * variance + 2 * eta * temperature
        factors.append(factor)
        x = (states[k] - mean) / variance.sqrt()
        # The sample's mean and covariance matrix are off by no more than a few of their own
        # standard deviations.
        assert (x.mean(0).abs() < 4.5 / math.sqrt(CHAINS)).all(), k
        assert ((x.T @ x / CHAINS - torch.eye(3)).abs() < 4.5 * math.sqrt(2 / CHAINS)).all(), k
        assert min(stats.kstest(x[:, i].numpy(), "norm").pvalue for i in range(3)) > CERTAIN, k
        if k >= 2:
            between = factors[k] * factors[k - 1]
            earlier = states[k - 2] - states[k - 2].mean(0)
            later = states[k] - states[k].mean(0)
            want = between * earlier.square().mean(0)
            spread = (earlier.square().mean(0) * variance / CHAINS).sqrt()
            assert ((earlier * later).mean(0) - want < 4.5 * spread).all(), k
            assert ((earlier * later).mean(0) - want > -4.5 * spread).all(), k


@pytest.mark.parametrize("kind", ["double_well", "polynomial", "rastrigin", "harmonic"])
def test_a_well_after_each_of_a_few_steps(kind):
    """Computes the density after k steps by quadrature: p_{k+1}(y) = integral of p_k(x) N(y; x +
    eta s(x), 2 eta T) dx."""
    eta, t, x0 = 0.03, 0.8, 0.4
    target = make(kind, 1)
    _, states = pyebm.langevin_chain(
        torch.full((CHAINS, 1), x0), target, 40, eta, Noise(2), temperature=t, thin=1
    )
    x = torch.linspace(-6, 6, 2001, dtype=torch.float64)
    width = math.sqrt(2 * eta * t)
    score = target.score(x.unsqueeze(1)).squeeze(1)

    def after(at, slope):
        return torch.exp(-(((x - (at + eta * slope)) / width) ** 2) / 2) / (width * math.sqrt(2 * math.pi))

    density = after(x0, target.score(torch.tensor([[x0]], dtype=torch.float64)).item())
    kernel = after(x.unsqueeze(1), score.unsqueeze(1))  # (from, to)
    for k in range(40):
        if k in (0, 1, 4, 39):
            assert fits(states[k, :, 0], x, density) > CERTAIN, k
        density = (density @ kernel) * float(x[1] - x[0])


def test_the_double_wells_stationary_law():
    """Small steps, and many of them, reach exp(-E / T) / Z, normalised by quadrature; the test
    can't see the bias of such a step."""
    target, t = targets.DoubleWell(1.5, 1.2), 0.9
    x = pyebm.langevin_chain(torch.full((10_000, 2), 1.2), target, 4000, 0.003, Noise(3), temperature=t)
    grid = torch.linspace(-4, 4, 8001, dtype=torch.float64)
    density = torch.exp(-target(grid.unsqueeze(1)) / t)
    density /= torch.trapezoid(density, grid)
    assert min(fits(x[:, i], grid, density) for i in range(2)) > CERTAIN


@pytest.mark.parametrize("step_size", [0.5, 0.1])
def test_the_gaussians_stationary_law(step_size):
    """The recursion's limit is T / (p (1 - eta p / 2)): coarse steps are biased by exactly that
    much."""
    target = targets.Harmonic(1.5, -0.4)
    x = pyebm.langevin_chain(torch.zeros(CHAINS, 1), target, 200, step_size, Noise(4), temperature=0.6)
    deviation = math.sqrt(0.6 / (1.5 * (1 - step_size * 1.5 / 2)))
    assert stats.kstest(((x + 0.4) / deviation).flatten().numpy(), "norm").pvalue > CERTAIN
