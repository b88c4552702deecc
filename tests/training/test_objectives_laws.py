"""Laws that the objectives obey: Vincent's theorem, one minimiser for all of them, densities
that are learnt from data alone."""

from __future__ import annotations

import math

import pytest
import torch
from cases import normal
from learned_cases import mlp
from torch import Tensor, nn

import pyebm
from pyebm import Noise
from pyebm.targets import Gaussian, GaussianMixture, MLPEnergy

pytestmark = pytest.mark.usefixtures("one_thread")
MEANS = torch.tensor([[-1.0, 0.0], [1.0, 0.5]])


def mixture(scale: float) -> GaussianMixture:
    return GaussianMixture(MEANS, scale)


def gradient(loss: Tensor, net: nn.Module) -> Tensor:
    return torch.cat(
        [g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()), materialize_grads=True)]
    )


@pytest.mark.parametrize("kind", ["score", "energy"])
def test_vincents_theorem(kind):
    """To Monte Carlo error, DSM's gradient is that of explicit score matching of the smoothed
    density, on the same noisy samples.

    The two losses' difference has the gradient d/dtheta s(x~) (z / sigma + grad log q(x~)), whose
    mean is 0: its scatter over parts of the samples says how far from 0 it may be.
    """
    sigma, parts = 0.6, 40
    net = mlp(2, 2 if kind == "score" else 1)
    fn = net if kind == "score" else MLPEnergy(net)
    smooth = mixture((0.5**2 + sigma**2) ** 0.5)
    difference, size = [], []
    for part in range(parts):
        noise = Noise(0, step=part)
        x = mixture(0.5).sample(2000, noise.at(stream=1))
        noisy = pyebm.perturb(x, sigma, noise)
        dsm = gradient(pyebm.denoising_score_matching(fn, x, sigma, noise, weight=None), net)
        esm = gradient(pyebm.fisher_divergence(fn, smooth, noisy), net)
        difference.append(dsm - esm)
        size.append(esm)
    each = torch.stack(difference).double()
    scatter = each.std(0) / parts**0.5
    z = each.mean(0)[scatter > 0] / scatter[scatter > 0]
    assert z.abs().max() < 5
    assert float(z.square().mean()) < 2
    assert scatter.norm() < 0.2 * torch.stack(size).mean(0).norm()  # a wrong factor would show


class Affine(nn.Module):
    """The score (m - x) / v, a family that holds every Gaussian's score."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        self.precision = nn.Parameter(torch.ones(2, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return (self.mean - x) * self.precision


SIGMA = 0.4
OBJECTIVES = {
    "explicit": lambda fn, x: pyebm.fisher_divergence(fn, Gaussian(x.mean(0), x.std(0, correction=0)), x),
    "exact": lambda fn, x: pyebm.score_matching(fn, x),
    "hutchinson": lambda fn, x: pyebm.score_matching(fn, x, "hutchinson", noise=Noise(1)),
    "sliced": lambda fn, x: pyebm.sliced_score_matching(fn, x, Noise(1), 4, "sphere"),
    "sliced, not reduced": lambda fn, x: pyebm.sliced_score_matching(
        fn, x, Noise(1), 4, variance_reduced=False
    ),
    "denoising": lambda fn, x: pyebm.denoising_score_matching(fn, x, SIGMA, Noise(1)),
}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_on_a_gaussian_every_minimiser_is_its_mean_and_variance(objective):
    """In closed form, m is the samples' mean and v their variance (DSM adds sigma^2 and Monte
    Carlo error)."""
    x = torch.tensor([0.5, -1.0]) + torch.tensor([0.8, 1.3]) * normal(20_000, 2, dtype=torch.float64)
    fn = Affine()
    optimiser = torch.optim.LBFGS(
        fn.parameters(), max_iter=60, line_search_fn="strong_wolfe", tolerance_grad=1e-9
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = OBJECTIVES[objective](fn, x)
        loss.backward()
        return loss

    optimiser.step(closure)
    exact = objective in ("explicit", "exact", "hutchinson")
    near = {"rtol": 1e-4, "atol": 1e-4} if exact else {"rtol": 0.06, "atol": 0.06}
    torch.testing.assert_close(fn.mean.data, x.mean(0), **near)
    variance = x.var(0, correction=0) + (SIGMA**2 if objective == "denoising" else 0.0)
    torch.testing.assert_close(1 / fn.precision.data, variance, **near)


@pytest.mark.parametrize("objective", ["exact", "sliced", "denoising", "explicit"])
def test_on_a_mixture_they_meet_at_its_score(objective):
    """At a mixture's exact score, the gradients in the amounts of added bends are 0, to Monte
    Carlo error."""
    scale, parts = 0.6, 60
    sigma = 0.05 if objective == "denoising" else 0.0
    exact = mixture((scale**2 + sigma**2) ** 0.5)
    amount = torch.zeros(3, requires_grad=True)

    def bent(x: Tensor) -> Tensor:
        bends = torch.stack([x.sin(), x.flip(1), torch.ones_like(x)])
        return exact.score(x) + (amount[:, None, None] * bends).sum(0)

    def loss(x: Tensor, noise: Noise) -> Tensor:
        if objective == "exact":
            return pyebm.score_matching(bent, x)
        if objective == "sliced":
            return pyebm.sliced_score_matching(bent, x, noise)
        if objective == "denoising":
            return pyebm.denoising_score_matching(bent, x, sigma, noise, weight=None)
        return pyebm.fisher_divergence(bent, exact, x)

    each = []
    for part in range(parts):
        noise = Noise(2, step=part)
        x = mixture(scale).sample(1000, noise.at(stream=1))
        each.append(torch.autograd.grad(loss(x, noise), amount)[0])
    gradients = torch.stack(each).double()
    assert (gradients.mean(0).abs() <= 4 * gradients.std(0) / parts**0.5 + 1e-6).all()


def learnt(objective: str, steps: int = 400) -> float:
    """Returns the KL divergence, by quadrature, from the true (smoothed) density of a mixture to
    the learnt energy's density."""
    sigma = 0.2
    truth = mixture((0.5**2 + sigma**2) ** 0.5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        energy = MLPEnergy(
            nn.Sequential(nn.Linear(2, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 1)),
            quadratic=0.1,
        )
    start = Gaussian(torch.zeros(2), torch.tensor(1.5))
    buffer = pyebm.ReplayBuffer(1024, (2,), reinit=0.0, init=start) if objective == "PCD" else None
    cd = pyebm.losses.ContrastiveDivergence(energy, pyebm.samplers.Langevin(energy, 0.05), 10, buffer)

    def loss_of(x: Tensor, noise: Noise) -> Tensor:
        if objective == "denoising":
            return pyebm.denoising_score_matching(energy, x, sigma, noise)
        noisy = pyebm.perturb(x, sigma, noise)
        if objective == "exact":
            return pyebm.score_matching(energy, noisy)
        return (
            pyebm.sliced_score_matching(energy, noisy, noise) if objective == "sliced" else cd(noisy, noise)
        )

    lr, momentum = (5e-3, 0.0) if "CD" in objective else (1e-2, 0.9)
    optimiser = torch.optim.Adam(energy.parameters(), lr=lr, betas=(momentum, 0.999))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for k in range(steps):
        noise = Noise(4, step=k)
        loss = loss_of(mixture(0.5).sample(256, noise.at(stream=1)), noise)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    line = torch.linspace(-5, 5, 201)
    points = torch.cartesian_prod(line, line)
    with torch.no_grad():
        log_p, minus_e = truth.log_prob(points).double(), -energy(points).double()
    log_q = minus_e - minus_e.logsumexp(0) - 2 * math.log(0.05)
    return float((log_p.exp() * (log_p - log_q)).sum() * 0.05**2)


@pytest.mark.parametrize(
    ("objective", "most"),
    [("denoising", 0.01), ("exact", 0.01), ("sliced", 0.01), ("CD", 0.05), ("PCD", 0.08)],
)
def test_a_density_is_learnt(objective, most):
    kl = learnt(objective)
    assert 0 <= kl < most
