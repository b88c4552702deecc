"""Energies learnt in the plane by each objective: the data, the recipes, and the likelihood of the
result, by quadrature."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from sklearn.datasets import make_moons
from torch import Tensor, nn

import pyebm
from pyebm.losses import ContrastiveDivergence

from . import eager

REACH = 4.0  # the square [-REACH, REACH]^2 holds practically all of every density here
POINTS = 200  # grid points of the quadrature along each side
# Each use of the seed has its own stream, so that the uses are independent.
DATA, TRAIN, SAMPLE = range(3)


def moons(count: int, seed: int) -> Tensor:
    x, _ = make_moons(count, noise=0.08, random_state=seed)
    return 1.6 * (torch.as_tensor(x, dtype=torch.float32) - torch.tensor([0.5, 0.25]))


def rings(count: int, seed: int) -> Tensor:
    """Two rings; each gets points in proportion to its length."""
    noise = pyebm.Noise(seed, stream=DATA)
    u = noise.rand((count, 2))
    radius = torch.where(u[:, 0] <= 0.3, 1.05, 2.45)
    angle = 2 * math.pi * u[:, 1]
    x = radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    return pyebm.perturb(x, 0.12, noise.at(step=1))


def pinwheel(count: int, seed: int, arms: int = 5) -> Tensor:
    """Gaussians along the arms of a pinwheel, which turn further the farther out they reach."""
    noise = pyebm.Noise(seed, stream=DATA)
    arm = (noise.rand((count, 1), dtype=torch.float64)[:, 0] * arms).long().clamp(max=arms - 1)
    z = noise.at(step=1).randn((count, 2))
    along, across = 1.0 + 0.32 * z[:, 0], 0.1 * z[:, 1]
    turn = 2 * math.pi / arms * arm + 0.55 * along.exp() * 0.75
    return 1.75 * torch.stack(
        [turn.cos() * along - turn.sin() * across, turn.sin() * along + turn.cos() * across], 1
    )


DATA_SETS: dict[str, Callable[[int, int], Tensor]] = {
    "two moons": moons,
    "rings": rings,
    "pinwheel": pinwheel,
}


@dataclass
class Learnt:
    """An energy, and the numbers of its training."""

    energy: pyebm.targets.MLPEnergy
    losses: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    """The training steps after which the likelihood was measured."""
    likelihoods: list[float] = field(default_factory=list)
    seconds: float = 0.0
    eager_seconds: float = 0.0
    """The time that the steps would take in eager PyTorch, estimated from ten of them."""


def network(seed: int, width: int = 64) -> pyebm.targets.MLPEnergy:
    """A network with three hidden layers. The first starts with weights three times as large, since
    the energy must bend within a tenth of a unit."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for inputs in (2, width, width):
            layers += [nn.Linear(inputs, width), nn.SiLU()]
        net = nn.Sequential(*layers, nn.Linear(width, 1))
    with torch.no_grad():
        for parameter in net[0].parameters():
            parameter.mul_(3)
    return pyebm.targets.MLPEnergy(net, quadratic=QUADRATIC)


def grid() -> Tensor:
    """The points of the quadrature, row by row from below."""
    line = (torch.arange(POINTS) + 0.5) * (2 * REACH / POINTS) - REACH
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], 1)


@torch.no_grad()
def log_density(energy: pyebm.targets.MLPEnergy) -> tuple[Tensor, float]:
    """log p at the points of the grid, and log Z by the midpoint rule."""
    at = -energy(grid()).double()
    log_z = float(at.logsumexp(0)) + 2 * math.log(2 * REACH / POINTS)
    return at - log_z, log_z


@torch.no_grad()
def likelihood(energy: pyebm.targets.MLPEnergy, x: Tensor) -> float:
    """The mean log-likelihood of x, in nats."""
    return float(-energy(x).double().mean()) - log_density(energy)[1]


Loss = Callable[[Tensor, pyebm.Noise, float], Tensor]
# Every objective sees data with added noise, whose standard deviation falls from 1 to SIGMA during
# training. Early noise teaches the energy where no data are, and joins the modes until their
# weights are learnt.
SIGMA = 0.1
STEP, CHAIN = SIGMA**2, 10  # step size and length of the chains; a step must stay well inside SIGMA
QUADRATIC, BATCH = 0.05, 256


def _dsm(energy: pyebm.targets.MLPEnergy) -> Loss:
    return lambda x, noise, sigma: pyebm.denoising_score_matching(energy, x, sigma, noise)


def _sliced(energy: pyebm.targets.MLPEnergy) -> Loss:
    def loss(x: Tensor, noise: pyebm.Noise, sigma: float) -> Tensor:
        return pyebm.sliced_score_matching(energy, pyebm.perturb(x, sigma, noise), noise, weight=sigma**2)

    return loss


def _cd(energy: pyebm.targets.MLPEnergy, buffer: pyebm.ReplayBuffer | None = None) -> Loss:
    cd = ContrastiveDivergence(
        energy, pyebm.samplers.Langevin(energy, STEP), n_steps=CHAIN, buffer=buffer, l2=0.001
    )
    return lambda x, noise, sigma: cd(pyebm.perturb(x, sigma, noise), noise)


def _pcd(energy: pyebm.targets.MLPEnergy) -> Loss:
    prior = pyebm.targets.Gaussian(torch.zeros(2), torch.tensor(1.5))
    return _cd(energy, pyebm.ReplayBuffer(2048, (2,), reinit=0.0, init=prior))


@dataclass(frozen=True)
class Recipe:
    loss: Callable[[pyebm.targets.MLPEnergy], Loss]
    lr: float
    momentum: float = 0.9


# Chains lag behind the energy. With momentum in the optimiser the two would oscillate.
OBJECTIVES = {
    "DSM": Recipe(_dsm, 1e-2),
    "sliced": Recipe(_sliced, 1e-2),
    "CD-10": Recipe(_cd, 5e-3, 0.0),
    "PCD": Recipe(_pcd, 5e-3, 0.0),
}


def learn(objective: str, data: Tensor, held_out: Tensor, steps: int, *, seed: int) -> Learnt:
    """Learns an energy of the data; measures its held-out likelihood on the way."""
    recipe, energy = OBJECTIVES[objective], network(seed)
    loss_of, learnt, lr = recipe.loss(energy), Learnt(energy), recipe.lr
    optimizer = torch.optim.Adam(energy.parameters(), lr=lr, betas=(recipe.momentum, 0.999), fused=True)
    noise, batches = pyebm.Noise(seed, stream=TRAIN), torch.Generator().manual_seed(seed)
    for k in range(steps):
        optimizer.param_groups[0]["lr"] = (
            lr * min(1.0, (k + 1) / 50) * 0.5 * (1 + math.cos(math.pi * k / steps))
        )
        sigma = SIGMA ** min(1.0, k / (0.7 * steps))
        began = time.perf_counter()
        x = data[torch.randint(len(data), (BATCH,), generator=batches)]
        loss = loss_of(x, noise.at(step=k), sigma)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        learnt.seconds += time.perf_counter() - began
        learnt.losses.append(loss.item())
        if (k + 1) % max(steps // 12, 1) == 0:
            learnt.steps.append(k + 1)
            learnt.likelihoods.append(likelihood(energy, held_out))
    one = eager.seconds(objective, network(seed).net, QUADRATIC, data, BATCH, STEP, CHAIN)
    learnt.eager_seconds = steps * one
    return learnt


def sample(energy: pyebm.targets.MLPEnergy, count: int, *, seed: int) -> Tensor:
    """Langevin chains from a wide normal, long enough to find every mode; the temperature falls to
    1."""
    noise = pyebm.Noise(seed, stream=SAMPLE)
    x = 1.5 * noise.at(step=2**31).randn((count, 2))
    cooling = [max(1.0, 4 - 4 * k / 400) for k in range(500)]
    return pyebm.langevin_chain(x, energy, 500, STEP, noise, temperature=cooling)  # type: ignore[return-value]
