"""An energy network trained by denoising score matching, and sampled in one launch.

    python examples/learned_energy.py

The data are a mixture of normals, so the density that the network should learn is known: the
mixture, blurred by the noise.
"""

from __future__ import annotations

import math

import torch
from torch import nn

import pyebm

SIGMA = 0.3  # standard deviation of the loss's noise
MODES, SPREAD = 5, 0.2


def mixture(spread: float) -> pyebm.targets.GaussianMixture:
    angles = 2 * math.pi * torch.arange(MODES) / MODES
    return pyebm.targets.GaussianMixture(1.5 * torch.stack((angles.cos(), angles.sin()), 1), spread)


def train(steps: int) -> pyebm.targets.MLPEnergy:
    net = nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))
    energy = pyebm.targets.MLPEnergy(
        net, quadratic=1 / (2 * 2.0**2)
    )  # far out, the density falls off like a normal of standard deviation 2
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    data = mixture(SPREAD)
    for step in range(steps):
        x, z = data.sample(256, pyebm.Noise(1, step=step)), pyebm.Noise(2, step=step)
        score = energy.score(pyebm.perturb(x, SIGMA, z))  # differentiable in the network's parameters
        loss = pyebm.dsm_loss(score, SIGMA, z, weight="sigma2")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return energy


def main(steps: int = 2000, chain_steps: int = 2000, chains: int = 4000) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns samples of the learned energy and of the density that it should have learned,
    (chains, 2) each."""
    torch.manual_seed(0)
    energy, truth = train(steps), mixture(math.hypot(SPREAD, SIGMA))
    x0 = 2 * pyebm.Noise(3).randn((chains, 2))
    learned = pyebm.langevin_chain(x0, energy, chain_steps, 0.01, pyebm.Noise(4))  # one launch
    exact = truth.sample(chains, pyebm.Noise(5))
    for name, samples in (("learned", learned), ("exact", exact)):
        shares = torch.cdist(samples, truth.means.float()).argmin(1).bincount(minlength=MODES) / len(samples)
        print(
            f"{name}: radius {samples.norm(dim=1).mean():.3f}, share of each mode",
            *(f"{share:.3f}" for share in shares),
        )
    return learned, exact


if __name__ == "__main__":
    main()
