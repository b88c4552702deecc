"""An energy of the digits: a plain network of 64 inputs, by persistent contrastive divergence."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

import pyebm
from pyebm.losses import ContrastiveDivergence

from .digits import SHAPE

# The noise on the digits falls from SIGMA_MAX to SIGMA during training. The chains' step size is
# half the square of SIGMA.
SIGMA_MAX, SIGMA = 1.0, 0.2
STEP, CHAIN = 0.5 * SIGMA**2, 20
TRAIN, SAMPLE = range(2)  # the noise's streams


def train(
    digits: Tensor,
    steps: int,
    *,
    seed: int,
    width: int = 256,
    batch: int = 128,
    lr: float = 2e-3,
    report: Callable[[int], None] | None = None,
) -> ContrastiveDivergence:
    """Trains the energy; returns the objective, with its buffer and its history."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        hidden = (nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        energy = pyebm.targets.MLPEnergy(nn.Sequential(*hidden, nn.Linear(width, 1)), quadratic=0.1)
    buffer = pyebm.ReplayBuffer(2048, (64,), reinit=0.0)
    sampler = pyebm.samplers.Langevin(energy, STEP)
    cd = ContrastiveDivergence(energy, sampler, CHAIN, buffer, l2=0.001)
    optimizer = torch.optim.Adam(energy.parameters(), lr=lr, betas=(0.0, 0.999), fused=True)
    noise, batches = pyebm.Noise(seed, stream=TRAIN), torch.Generator().manual_seed(seed)
    for k in range(steps):
        rate = min(1.0, (k + 1) / 50) * 0.5 * (1 + math.cos(math.pi * k / steps))
        optimizer.param_groups[0]["lr"] = lr * rate
        sigma = SIGMA_MAX * (SIGMA / SIGMA_MAX) ** min(1.0, k / (0.7 * steps))
        x = digits[torch.randint(len(digits), (batch,), generator=batches)].flatten(1)
        z = noise.at(step=k)
        loss = cd(pyebm.perturb(x, sigma, z), z)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if report is not None:
            report(k + 1)
    return cd


@torch.no_grad()
def sample(cd: ContrastiveDivergence, count: int, steps: int, *, seed: int) -> Tensor:
    """Moves the buffer's chains on, then removes the noise that was learnt with the digits: given
    y = x + sigma z, the mean of x is ``y + sigma^2 s(y)`` (Tweedie's formula)."""
    assert cd.buffer is not None
    energy, begun = cd.energy, cd.buffer.states[cd.buffer.ages > 0]
    assert isinstance(energy, pyebm.targets.MLPEnergy)
    x = pyebm.langevin_chain(begun[:count], energy, steps, STEP, pyebm.Noise(seed, stream=SAMPLE))
    assert isinstance(x, Tensor)
    return (x + SIGMA**2 * energy.score(x)).view(-1, *SHAPE)
