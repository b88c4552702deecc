"""Annealed Langevin dynamics and predictor-corrector sampling: how much the loops cost beside
the network and beside other packages' loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

import pyebm

from .case import NOISE, Setting, Work, benchmark, grid
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
    "AnnealedLangevin, per step, around nothing (a constant score), a network, or an energy's autograd;"
    " parts: the network's own calls, or the bare in-place steps",
    SETTINGS,
)
@torch.no_grad()
def annealed(at: Setting) -> Work:
    x, each = at.randn(), at.steps // len(SIGMAS)
    work = Work(
        x.numel() * at.steps,
        3 * x.nbytes * at.steps,
        at.steps * (at.normal + 4) * x.numel(),
        tolerance=1e-3,
        copied=False,
    )
    constant, score_step = -x, x.clone()
    score: Score = lambda x, sigma: constant  # noqa: E731, ARG005
    if at.variant == "energy":
        score = lambda x, sigma: pyebm.energy_score(lambda x: energy(x, sigma), x)  # noqa: E731
    elif at.variant != "no network":
        score = make(at.variant, x[0].numel()).to(at.device).requires_grad_(False)

    def ours(backend: str | None) -> Run:
        sampler = pyebm.samplers.AnnealedLangevin(
            score, SIGMAS, STEP_LR, each, denoise=False, backend=backend
        )
        return lambda: sampler(x, noise=NOISE)

    def eager() -> Tensor:
        with torch.no_grad():
            return written_out(x, score, each)

    def ebmkit(package: ModuleType) -> Run:
        sampler = package.samplers.AnnealedLangevinDynamics(
            torch.tensor(SIGMAS), step_size=2 * STEP_LR, steps_per_sigma=each
        )
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


SNR, TIMES, LOWEST, HIGHEST = 0.16, 50, 0.05, 3.0
CORRECTED = [
    *grid((64, 2), variant="Gaussian", steps=TIMES, quick=True, headline=True),
    *grid((1024, 2), variant="Gaussian", threads=(2,), steps=TIMES, quick=True, headline=True),
    *grid((4096, 32), variant="Gaussian", threads=(2,), steps=TIMES, headline=True),
    *grid((64, 2), variant="energy", steps=TIMES),
    *grid((64, 2), variant="MLP", steps=TIMES),
]


def corrected_written_out(x: Tensor, score: Score, sigmas: list[float]) -> Tensor:
    """Song et al.'s algorithms 2 and 4 for the VE SDE, as their repository has them: norms
    averaged over the batch, levels as tensors."""
    for sigma, below in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
        levels = torch.full(x.shape[:1], sigma, device=x.device)
        grad, noise = score(x, levels), torch.randn_like(x)
        grad_norm = grad.flatten(1).norm(dim=1).mean()
        noise_norm = noise.flatten(1).norm(dim=1).mean()
        eta = 2 * (SNR * noise_norm / grad_norm) ** 2
        x = x + eta * grad + (2 * eta).sqrt() * noise
        g2 = sigma**2 - below**2
        x = x + g2 * score(x, levels) + math.sqrt(g2) * torch.randn_like(x)
    return x


@benchmark(
    "predictor-corrector",
    "PredictorCorrector for the VE SDE, per time (a corrector's and a predictor's step), around a Gaussian's"
    " score, an energy's autograd, or a network; part: the network's own calls",
    CORRECTED,
)
@torch.no_grad()
def predictor_corrector(at: Setting) -> Work:
    x = HIGHEST * at.randn()
    work = Work(
        x.numel() * at.steps,
        2 * x.nbytes,
        at.steps * 2 * (at.normal + 6) * x.numel(),
        tolerance=1e-3,
        copied=False,
    )
    sde = pyebm.samplers.VE(LOWEST, HIGHEST)
    sigmas = [LOWEST * (HIGHEST / LOWEST) ** (k / (at.steps - 1)) for k in reversed(range(at.steps))]
    score: Score = lambda x, sigma: x / -(1 + sigma[:, None] ** 2)  # noqa: E731
    if at.variant == "energy":
        score = lambda x, sigma: pyebm.energy_score(lambda x: energy(x, sigma), x)  # noqa: E731
    elif at.variant == "MLP":
        score = make(at.variant, x[0].numel()).to(at.device).requires_grad_(False)

    def ours(backend: str | None) -> Run:
        at_time = lambda x, t: score(x, LOWEST * (HIGHEST / LOWEST) ** t)  # noqa: E731
        sampler = pyebm.samplers.PredictorCorrector(
            at_time, sde, at.steps, snr=SNR, denoise=False, backend=backend
        )
        return lambda: sampler(x, noise=NOISE)

    def eager() -> Tensor:
        with torch.no_grad():
            return corrected_written_out(x, score, sigmas)

    def ebmkit(package: ModuleType) -> Run:
        sampler = package.samplers.PredictorCorrector(torch.tensor([*sigmas, 1e-6]), snr=SNR)
        return lambda: sampler.sample(energy, x)

    work.draws = lambda n: (n // 2, 1 - n % 2)  # the corrector's stream comes after the predictor's
    work.ours(ours, at.device).side("eager", eager)
    if at.variant != "MLP":
        return (
            work.rival("ebmkit", ebmkit, "law") if at.variant == "energy" else work
        )  # ebmkit draws further noise for its norm, so its numbers can't be ours

    def network() -> None:
        levels = torch.full(x.shape[:1], HIGHEST, device=x.device)
        with torch.no_grad():
            for _ in range(2 * at.steps):
                score(x, levels)

    return work.part("network (ours)", "pyebm", network).part("network (eager)", "eager", network)


@benchmark(
    "network-loop",
    "Langevin around a network that no kernel takes (LayerNorm), per step; several: ten of our steps in one"
    " compiled graph, whose rounding is the compiler's",
    [*grid((64, 2), steps=100, quick=True), *grid((1024, 2), threads=(2,), steps=100)],
)
def around_a_network(at: Setting) -> Work:
    x, eta, k = at.randn(), 1e-3, 10
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [torch.nn.Linear(2, 64), torch.nn.LayerNorm(64), torch.nn.SiLU(), torch.nn.Linear(64, 2)]
    net = torch.nn.Sequential(*layers).to(at.device).requires_grad_(False)
    elements = x.numel() * at.steps
    work = Work(
        elements, 3 * x.nbytes * at.steps, elements * (at.normal + 4), at.steps, tolerance=1e-3, copied=False
    )

    def ours(backend: str | None) -> Run:
        sampler = pyebm.samplers.Langevin(net, eta, backend=backend)
        return lambda: sampler(x, at.steps, noise=NOISE)

    def eager(steps: int = at.steps) -> Callable[[Tensor], Tensor]:
        def run(x: Tensor) -> Tensor:
            for _ in range(steps):
                x = x + eta * net(x) + (2 * eta) ** 0.5 * torch.randn_like(x)
            return x

        return run

    def some(x: Tensor, noise: pyebm.Noise) -> Tensor:
        for step in range(k):
            x = pyebm.langevin_step(x, net(x), eta, noise.at(step=noise.step + step))
        return x

    def several() -> Run:
        compiled = torch.compile(some)

        def run() -> Tensor:
            now = x
            for step in range(0, at.steps, k):
                now = compiled(now, NOISE.at(step=step))
            return now

        return run

    work.ours(ours, at.device)
    work.side("eager", lambda: eager()(x))
    work.uncounted.add("several")
    return work.side("several", several())
