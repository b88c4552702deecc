"""Score matching where it can be seen: a density in the plane whose energy, score and smoothed
score are known exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import pyebm

SIGMA = 0.5  # the noise level at which the score is learnt


@dataclass(frozen=True)
class Mixture:
    """Gaussians with weights (K,), means (K, 2) and covariances (K, 2, 2): p(x) = exp(-E(x))."""

    weights: Tensor
    means: Tensor
    covariances: Tensor

    def energy(self, x: Tensor) -> Tensor:
        """E at (B, 2), one number per point."""
        offset = x[:, None] - self.means
        inverse = torch.linalg.inv(self.covariances)
        distance = torch.einsum("bki,kij,bkj->bk", offset, inverse, offset)
        log_normaliser = 0.5 * torch.logdet(2 * math.pi * self.covariances)
        energy: Tensor = -torch.logsumexp(self.weights.log() - 0.5 * distance - log_normaliser, 1)
        return energy

    def score(self, x: Tensor) -> Tensor:
        return pyebm.energy_score(self.energy, x)

    def smoothed(self, sigma: float) -> Mixture:
        """The law of x + sigma z: Gaussian noise only widens Gaussians."""
        return Mixture(self.weights, self.means, self.covariances + sigma**2 * torch.eye(2))

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        which = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        z = torch.randn(count, 2, 1, generator=generator)
        x: Tensor = self.means[which] + (torch.linalg.cholesky(self.covariances)[which] @ z)[..., 0]
        return x


def petals(count: int = 5) -> Mixture:
    """Long Gaussians around the origin, like the petals of a pinwheel; every other one is
    deeper."""
    around = torch.arange(count) * (2 * math.pi / count) + 0.5 * math.pi
    along = around + 0.9
    axes = torch.stack(
        [torch.stack([along.cos(), -along.sin()], 1), torch.stack([along.sin(), along.cos()], 1)], 1
    )
    covariance = axes @ torch.diag(torch.tensor([0.62, 0.22]).square()) @ axes.mT
    weights = 1.0 + torch.arange(count) % 2
    return Mixture(weights / weights.sum(), 1.75 * torch.stack([around.cos(), around.sin()], 1), covariance)


def learn_score(
    mixture: Mixture, steps: int, *, seed: int, sigma: float = SIGMA, batch: int = 512, lr: float = 5e-3
) -> nn.Module:
    """Trains a network as for the digits, at one noise level. It sees points and noise, never the
    density."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator, noise = torch.Generator().manual_seed(seed), pyebm.Noise(seed)
    for k in range(steps):
        x, z = mixture.sample(batch, generator), noise.at(step=k)
        loss = pyebm.dsm_loss(net(pyebm.perturb(x, sigma, z)), sigma, z, weight="sigma2")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.requires_grad_(False)


def relative_error(net: nn.Module, mixture: Mixture, *, seed: int, sigma: float = SIGMA) -> float:
    """E |s - s*|^2 / E |s*|^2 over the noisy points, for s* the exact score of the smoothed
    density."""
    x = mixture.smoothed(sigma).sample(4096, torch.Generator().manual_seed(seed + 1))
    exact = mixture.smoothed(sigma).score(x)
    return float((net(x) - exact).square().sum() / exact.square().sum())


def chains(
    mixture: Mixture, count: int, steps: int, *, seed: int, step_size: float = 0.003, radius: float = 2.9
) -> Tensor:
    """Langevin chains from a circle around the modes: the starts and every state after, (steps + 1,
    count, 2)."""
    angle = torch.arange(count) * (2 * math.pi / count)
    x0 = radius * torch.stack([angle.cos(), angle.sin()], 1)
    sampler = pyebm.samplers.Langevin(mixture.score, step_size)
    return torch.cat([x0[None], sampler(x0, steps, noise=pyebm.Noise(seed, stream=1), thin=1).states])
