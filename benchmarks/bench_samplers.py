"""Annealed Langevin dynamics around a score: what the loop costs beside the network, and beside loops of others."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

import pyebm

from .case import NOISE, Setting, Work, benchmark, grid
from .machine import NORMAL
from .networks import make
from .timing import Run

SIGMAS, STEP_LR = [1.0, 0.6, 0.3, 0.1], 1e-4
SETTINGS = [
    *grid((64, 2), variant="no network", steps=200, quick=True),
    *grid((64, 2), variant="MLP", steps=200, quick=True, headline=True),
    *grid((128, 1, 8, 8), variant="U-Net", threads=(2,), steps=8, quick=True, headline=True),
    *grid((1024, 2), variant="energy", steps=80, quick=True),
    *grid((256, 3, 64, 64), variant="no network", threads=(2,), steps=8),
    *grid((64, 2), variant="energy", steps=80),
    *grid((1024, 2), variant="MLP", threads=(2,), steps=80),
]
Score = Callable[[Tensor, Tensor], Tensor]


def energy(x: Tensor, sigma: Tensor) -> Tensor:
    return 0.5 * x.square().sum(1) / (1 + sigma**2)


def written_out(x: Tensor, score: Score, each: int) -> Tensor:
    """Song & Ermon's algorithm as their repositories write it, without the norms they print."""
    for sigma in SIGMAS:
        levels = torch.full(x.shape[:1], sigma, device=x.device)
        eta = STEP_LR * (sigma / SIGMAS[-1]) ** 2
        for _ in range(each):
            x = x + eta * score(x, levels) + (2 * eta) ** 0.5 * torch.randn_like(x)
    return x


@benchmark(
    "annealed",
    "AnnealedLangevin, per step, around nothing (a constant score), a network, or an energy's autograd; parts: the network's own "
    "calls, or the bare in-place steps",
    SETTINGS,
)
@torch.no_grad()
def annealed(at: Setting) -> Work:
    x, each = at.randn(), at.steps // len(SIGMAS)
    work = Work(x.numel() * at.steps, 3 * x.nbytes * at.steps, at.steps * (NORMAL + 4) * x.numel(), tolerance=1e-3, copied=False)
    constant, score_step = -x, x.clone()
    score: Score = lambda x, sigma: constant  # noqa: E731, ARG005
    if at.variant == "energy":
        score = lambda x, sigma: pyebm.energy_score(lambda x: energy(x, sigma), x)  # noqa: E731
    elif at.variant != "no network":
        score = make(at.variant, x[0].numel()).to(at.device).requires_grad_(False)

    def ours(backend: str | None) -> Run:
        sampler = pyebm.samplers.AnnealedLangevin(score, SIGMAS, STEP_LR, each, denoise=False, backend=backend)
        return lambda: sampler(x, noise=NOISE)

    def eager() -> Tensor:
        with torch.no_grad():
            return written_out(x, score, each)

    def ebmkit(package: ModuleType) -> Run:
        sampler = package.samplers.AnnealedLangevinDynamics(torch.tensor(SIGMAS), step_size=2 * STEP_LR, steps_per_sigma=each)
        return lambda: sampler.sample(energy, x)

    work.ours(ours, at.device)
    work.side("eager", eager)
    if at.variant == "energy":
        return work.rival("ebmkit", ebmkit)

    def network() -> None:
        levels = torch.full(x.shape[:1], SIGMAS[0], device=x.device)
        with torch.no_grad():
            for _ in range(at.steps):
                score(x, levels)

    def steps() -> None:
        for noise in NOISE._walk(at.steps, x):
            pyebm.langevin_step_(score_step, constant, STEP_LR, noise)

    if at.variant == "no network":
        return work.part("langevin_step_ alone", "pyebm", steps)
    return work.part("network (ours)", "pyebm", network).part("network (eager)", "eager", network)
