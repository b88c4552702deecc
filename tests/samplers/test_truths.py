"""Truths in closed form, none of which is computed by our code: the losses' minimisers, and the
chains' laws.

Other tests prove that every backend gives the same bits; here the device decides which one runs.
"""

from __future__ import annotations

import math

import pytest
import torch
from cases import normal

import pyebm
from pyebm import Noise

pytestmark = pytest.mark.usefixtures("one_thread")

CHAINS = 100_000


def within(value, truth, error, times=5.0):
    """Asserts agreement within `times` standard errors (5 are exceeded by chance once in 1.7
    million), elementwise."""
    deviation = ((torch.as_tensor(value) - truth).abs() / error).max().item()
    assert deviation < times, f"{deviation:.1f} standard errors: got {value}, expected {truth}"


def covariance_error(covariance, n):
    """The standard error of each entry of the empirical covariance of n normal vectors."""
    d = covariance.diagonal()
    return ((d[:, None] * d[None] + covariance**2) / n).sqrt()


class TestDenoisingScoreMatching:
    @pytest.mark.parametrize(("t", "sigma"), [(1.0, 0.5), (0.3, 1.0), (2.0, 0.05)])
    @pytest.mark.parametrize("weight", [None, "sigma2", 3.0])
    def test_minimiser_on_a_gaussian(self, t, sigma, weight):
        """For s(x) = -a x on N(0, t^2), the minimiser is a = 1 / (t^2 + sigma^2), whatever the
        weight."""
        x, noise = t * normal(1_000_000, 1, dtype=torch.float64), Noise(1)
        noisy = pyebm.perturb(x, sigma, noise)

        def slope(a):  # the loss's derivative in a is linear: two points give its zero
            a = torch.tensor(a, dtype=torch.float64, requires_grad=True)
            return torch.autograd.grad(pyebm.dsm_loss(-a * noisy, sigma, noise, weight=weight), a)[0].item()

        minimiser = slope(0.0) / (slope(0.0) - slope(1.0))
        truth = 1 / (t**2 + sigma**2)
        # Regression of z / sigma on x~: the residual is independent of x~ with variance t^2 /
        # (sigma^2 (t^2 + sigma^2)).
        error = math.sqrt(t**2 / sigma**2) / (t**2 + sigma**2) / math.sqrt(len(x))
        within(minimiser, truth, error)

    @pytest.mark.parametrize("sigma", [0.2, 1.0])
    def test_gradient_is_that_of_explicit_score_matching(self, sigma):
        """Vincent (2011): on a Gaussian mixture both objectives have the same gradient in the
        model's parameters."""
        n, noise = 400_000, Noise(2)
        means = torch.tensor([[-1.0, 0.5], [1.5, 0.0], [0.0, -2.0]], dtype=torch.float64)
        spread = torch.tensor([0.3, 0.6, 0.9], dtype=torch.float64)
        component = torch.randint(3, (n,), generator=torch.Generator().manual_seed(0))
        x = means[component] + spread[component, None] * normal(n, 2, dtype=torch.float64)
        noisy = pyebm.perturb(x, sigma, noise)

        variance = spread**2 + sigma**2  # of a component of the perturbed mixture
        away = noisy[:, None] - means
        share = (-0.5 * away.square().sum(2) / variance - variance.log()).softmax(1)
        true_score = -(share / variance)[:, None] @ away

        hidden = torch.tanh(noisy @ normal(2, 8, dtype=torch.float64, seed=1))
        head = normal(8, 2, dtype=torch.float64, seed=2, grad=True)
        got = torch.autograd.grad(pyebm.dsm_loss(hidden @ head, sigma, noise), head)[0]
        explicit = torch.autograd.grad(0.5 * (hidden @ head - true_score[:, 0]).square().sum(1).mean(), head)[
            0
        ]

        z = noise.randn(x.shape)
        per_sample = hidden[:, :, None] * (
            true_score + (z / sigma)[:, None]
        )  # the difference of the two gradients
        within(got, explicit, per_sample.std(0) / math.sqrt(n))
        assert (
            explicit.abs() > 20 * per_sample.std(0) / math.sqrt(n)
        ).any()  # the gradient is larger than the error

    def test_value_at_the_true_score(self):
        """The loss of the perturbed density's own score is the part that denoising can't
        predict: t^2 / (2 sigma^2 (t^2 + sigma^2))."""
        t, sigma, x, noise = 1.0, 0.5, normal(1_000_000, 1), Noise(3)
        losses = pyebm.dsm_loss(
            -pyebm.perturb(x, sigma, noise) / (t**2 + sigma**2), sigma, noise, reduction="sample"
        )
        within(losses.mean(), t**2 / (2 * sigma**2 * (t**2 + sigma**2)), losses.std() / math.sqrt(len(x)))


def chain(score, x, eta, steps, **options):
    for k in range(steps):
        x = pyebm.langevin_step_(x, score(x), eta, Noise(4, step=k), **options)
    return x


class TestUnadjustedChain:
    """The chain's law on a Gaussian is Gaussian at every step: the law of the discretisation,
    not the target's."""

    @pytest.mark.parametrize(
        ("eta", "temperature"), [(0.1, 1.0), (0.5, 1.0), (1.5, 1.0), (0.5, 0.25), (1.0, 4.0)]
    )
    def test_stationary_variance(self, eta, temperature):
        """The variance is T / (1 - eta / 2) on N(0, 1), from a start that is far away."""
        steps = math.ceil(14 / -math.log(abs(1 - eta) + 1e-9)) + 1  # e^-14 of the start remains
        x = chain(torch.neg, torch.full((CHAINS,), 3.0), eta, steps, temperature=temperature)
        truth = temperature / (1 - eta / 2)
        within(x.double().var(), truth, truth * math.sqrt(2 / CHAINS))
        within(x.double().mean(), 0.0, math.sqrt(truth / CHAINS))

    @pytest.mark.parametrize("steps", [1, 2, 5, 20])
    def test_law_after_k_steps(self, steps):
        """x_k = (1 - eta)^k x_0 + noise of variance 2 eta T (1 + q + ... + q^(k-1)) with q = (1 -
        eta)^2."""
        eta, temperature, start = 0.3, 0.5, 2.0
        x = chain(torch.neg, torch.full((CHAINS,), start), eta, steps, temperature=temperature).double()
        variance = 2 * eta * temperature * sum((1 - eta) ** (2 * j) for j in range(steps))
        within(x.mean(), start * (1 - eta) ** steps, math.sqrt(variance / CHAINS))
        within(x.var(), variance, variance * math.sqrt(2 / CHAINS))
        standard = (x - start * (1 - eta) ** steps) / math.sqrt(variance)
        within((standard**4).mean(), 3.0, math.sqrt(96 / CHAINS))

    def test_correlated_gaussian(self):
        """Precision P: the stationary covariance is (P - eta P^2 / 2)^-1."""
        precision = torch.tensor([[2.0, -0.8, 0.0], [-0.8, 1.0, 0.3], [0.0, 0.3, 0.5]], dtype=torch.float64)
        eta = 0.4
        x = chain(lambda x: -x @ precision.float(), torch.zeros(CHAINS, 3), eta, 60).double()
        truth = torch.linalg.inv(precision - eta / 2 * precision @ precision)
        within(x.T.cov(), truth, covariance_error(truth, CHAINS))
        assert (truth - torch.linalg.inv(precision)).abs().max() > 20 * covariance_error(
            truth, CHAINS
        ).max()  # it differs from the target's

    def test_step_sizes_and_temperatures_per_chain(self):
        eta, temperature = torch.tensor([0.2, 0.5, 1.0, 0.5]), torch.tensor([1.0, 1.0, 1.0, 0.1])
        x = chain(torch.neg, torch.zeros(4, 50_000), eta, 60, temperature=temperature).double()
        truth = (temperature / (1 - eta / 2)).double()
        within(x.var(1), truth, truth * math.sqrt(2 / 50_000))

    def test_autocovariance(self):
        """Steps draw independently: Cov(x_k, x_{k+1}) = (1 - eta) Var."""
        eta, truth = 0.5, 1 / (1 - 0.5 / 2)
        x = chain(torch.neg, torch.zeros(CHAINS), eta, 30)
        y = pyebm.langevin_step(x, -x, eta, Noise(4, step=30))
        products = x.double() * y.double()
        within(products.mean(), (1 - eta) * truth, products.std() / math.sqrt(CHAINS))

    def test_annealed_chain(self):
        """Follows the whole schedule variance by variance on N(0, t^2) smoothed at each level,
        with the final denoising."""
        t, sigmas, step_lr, each = 0.7, [2.0, 1.0, 0.4], 0.02, 7
        sampler = pyebm.samplers.AnnealedLangevin(lambda x, s: -x / (t**2 + s**2), sigmas, step_lr, each)
        x = sampler(3 * normal(CHAINS), noise=Noise(5)).double()
        variance = 9.0
        for sigma in sigmas:
            eta = step_lr * (sigma / sigmas[-1]) ** 2
            for _ in range(each):
                variance = (1 - eta / (t**2 + sigma**2)) ** 2 * variance + 2 * eta
        variance *= (1 - sigmas[-1] ** 2 / (t**2 + sigmas[-1] ** 2)) ** 2
        within(x.var(), variance, variance * math.sqrt(2 / CHAINS))


def test_an_energy_network_learns_the_energy():
    """DSM through the energy's own gradient, on N(0, 1), makes it x^2 / (2 (1 + sigma^2)) up to
    a constant: mind the sign."""
    sigma = 0.5
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(1, 32), torch.nn.Softplus(), torch.nn.Linear(32, 1))
    optimiser = torch.optim.Adam(net.parameters(), lr=0.03)
    steps = 300
    for step in range(steps):
        x, noise = normal(1024, 1, seed=step), Noise(6, step=step)
        noisy = pyebm.perturb(x, sigma, noise)
        loss = pyebm.dsm_loss(pyebm.energy_score(net, noisy, create_graph=True), sigma, noise)
        optimiser.param_groups[0]["lr"] = 0.03 * (1 - step / steps)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    x = torch.linspace(-2, 2, 41)[:, None]
    energy = net(x).detach().flatten()
    truth = x.flatten() ** 2 / (2 * (1 + sigma**2))
    assert ((energy - energy.mean()) - (truth - truth.mean())).abs().max() < 0.1  # the energy's range is 1.6
