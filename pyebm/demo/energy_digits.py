"""An energy of the digits: a plain network of 64 inputs, by persistent contrastive divergence.

The density is that of digits with noise, y = x + sigma z, and it is ``exp(-E(y) / sigma^2) / Z``.
Then ``E = |y|^2 / 2 - g(y)``, where grad g(y) is the mean of x given y, as Tweedie's formula
``y + sigma^2 s(y)`` says. So while sigma falls, E keeps its scale, and so do the chains' steps."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

import pyebm
from pyebm.losses import ContrastiveDivergence
from pyebm.samplers import Langevin

from .digits import SHAPE

SIGMA_MAX, SIGMA_MIN = 1.0, 0.2
STEP, CHAIN = 0.5, 5
TRAIN, SAMPLE = range(2)  # the noise's streams


def chain(energy: pyebm.targets.MLPEnergy, sigma: float) -> Langevin:
    """Langevin dynamics of exp(-E / sigma^2), whose step ``y - a grad E + sigma sqrt(a (2 - a)) z``
    keeps the law of a normal of width sigma, which the density is across the digits' directions.
    The ``sqrt(2 a)`` of small steps would make that normal wider."""
    return Langevin(energy, STEP, noise_scale=sigma * math.sqrt(STEP * (2 - STEP)))


def train(
    digits: Tensor,
    steps: int,
    *,
    seed: int,
    width: int = 256,
    batch: int = 128,
    lr: float = 3e-3,
    decay: float = 0.998,
    report: Callable[[int], None] | None = None,
) -> tuple[pyebm.targets.MLPEnergy, pyebm.ReplayBuffer]:
    """Trains the energy; returns it with averaged weights, and the buffer of its chains."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        hidden = (nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        energy = pyebm.targets.MLPEnergy(nn.Sequential(*hidden, nn.Linear(width, 1)), quadratic=0.5)
    average = copy.deepcopy(energy).requires_grad_(False)
    buffer = pyebm.ReplayBuffer(2048, (64,), reinit=0.0)
    cd = ContrastiveDivergence(energy, chain(energy, SIGMA_MAX), CHAIN, buffer)
    optimizer = torch.optim.Adam(energy.parameters(), lr=lr, betas=(0.0, 0.999), fused=True)
    noise, batches = pyebm.Noise(seed, stream=TRAIN), torch.Generator().manual_seed(seed)
    for k in range(steps):
        rate = min(1.0, (k + 1) / 50) * 0.5 * (1 + math.cos(math.pi * k / steps))
        optimizer.param_groups[0]["lr"] = lr * rate
        sigma = SIGMA_MAX * (SIGMA_MIN / SIGMA_MAX) ** min(1.0, k / (0.7 * steps))
        x = digits[torch.randint(len(digits), (batch,), generator=batches)].flatten(1)
        z, cd.sampler = noise.at(step=k), chain(energy, sigma)
        loss = cd(pyebm.perturb(x, sigma, z), z) / sigma**2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate = 1 - min(decay, (1 + k) / (10 + k))  # a short memory first, while the weights still travel
        torch._foreach_lerp_(list(average.parameters()), [p.detach() for p in energy.parameters()], rate)
        if report is not None:
            report(k + 1)
    return average, buffer


@torch.no_grad()
def sample(
    energy: pyebm.targets.MLPEnergy, buffer: pyebm.ReplayBuffer, count: int, steps: int, *, seed: int
) -> Tensor:
    """Moves chains of the buffer on, then takes the noise off, by the mean of x given y."""
    begun = buffer.states[buffer.ages > 0][:count]
    y = chain(energy, SIGMA_MIN)(begun, steps, noise=pyebm.Noise(seed, stream=SAMPLE))
    return (y + energy.score(y)).view(-1, *SHAPE)
