"""Whole Langevin chains on a closed-form target: our one kernel for all steps, beside the
packages' loops and loops written by hand."""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

import pyebm

from . import in_jax
from .case import BFLOAT, DOUBLE, FLOAT, HALF, NOISE, Setting, Work, benchmark, grid
from .timing import Run

ETA, BARRIER = 0.005, 2.0
SCALE = (2 * ETA) ** 0.5
SCORE = 6  # operations of the double well's score per element; the update takes as many again
MAIN = [
    setting
    for threads, headline in ((2, True), (1, False))
    for setting in (
        *grid(
            (64, 2),
            (1024, 2),
            steps=200,
            threads=(threads,),
            headline=headline,
            quick=headline,
            compiled=headline,
        ),
        *grid((4096, 32), steps=50, threads=(threads,), headline=headline, quick=headline, compiled=headline),
    )
]


def written_out(x: Tensor) -> Tensor:
    """One step with the gradient derived by hand, as a careful user writes it."""
    return x - ETA * (4 * BARRIER) * x * (x * x - 1) + SCALE * torch.randn_like(x)


def energy(x: Tensor) -> Tensor:
    return BARRIER * (x.square() - 1).square().flatten(1).sum(1)


def _work(at: Setting) -> tuple[Work, Tensor]:
    x = at.randn()
    work = Work(
        x.numel() * at.steps, 2 * x.nbytes, at.steps * (at.normal + 2 * SCORE) * x.numel(), tolerance=1e-3
    )
    target = pyebm.targets.DoubleWell(barrier=BARRIER).to(at.device)
    small = at.dtype == FLOAT and x.numel() * at.steps <= 2**16

    def ours(backend: str | None) -> Run:
        return lambda: pyebm.langevin_chain(x, target, at.steps, ETA, NOISE, backend=backend)

    return work.ours(ours, at.device, reference=small), x


def _loop(at: Setting, x: Tensor, step: object) -> Run:
    def run() -> Tensor:
        state = x
        for _ in range(at.steps):
            state = step(state)  # type: ignore[operator]
        return state

    return run


@benchmark(
    "chain",
    "langevin_chain on the double well, per step; eager's gradient is written by hand, the packages' by"
    " autograd; JAX is jit, lax.scan and grad",
    MAIN,
)
def chain(at: Setting) -> Work:
    work, x = _work(at)
    work.eager(written_out, lambda step: _loop(at, x, step), compiled=at.compiled)

    def torchebm(package: ModuleType) -> Run:
        model = package.core.DoubleWellModel(barrier_height=BARRIER, device=at.device)
        sampler = package.samplers.LangevinDynamics(model, step_size=ETA, noise_scale=1.0, device=at.device)
        return lambda: sampler.sample(x=x, n_steps=at.steps)

    def ebmkit(package: ModuleType) -> Run:
        sampler = package.samplers.LangevinDynamics(step_size=ETA, steps=at.steps)
        return lambda: sampler.sample(energy, x)

    def jax(package: ModuleType) -> Run:
        return in_jax.chain(package, lambda x: BARRIER * ((x * x - 1) ** 2).sum(), x, at.steps, ETA)

    if at.device == "cpu" and at.threads > 1:  # XLA has no number of threads to set
        work.rival("JAX", jax, "law")
    return work.rival("torchebm", torchebm).rival("ebmkit", ebmkit)


GROWTH = [
    *grid((64, 2), quick=True, steps=20),
    *[s for n in (1, 10, 100, 1000) for s in grid((1024, 2), threads=(2,), steps=n, variant="steps")],
    *grid((64, 2), (512, 2), (4096, 2), (32768, 2), (262144, 2), threads=(2,), steps=20, variant="samples"),
    *grid(
        (1024, 2),
        (1024, 8),
        (1024, 32),
        (1024, 128),
        (1024, 512),
        threads=(2,),
        steps=20,
        variant="dimensions",
    ),
    *grid((4096, 32), dtypes=(BFLOAT, HALF, DOUBLE), threads=(2,), steps=20, variant="dtype"),
]


@benchmark(
    "chain-growth", "the same over steps, samples, dimensions and dtypes, beside the eager loop", GROWTH
)
def growth(at: Setting) -> Work:
    work, x = _work(at)
    check = (
        "law" if at.dtype in (BFLOAT, HALF) else "noise"
    )  # half precisions round differently at every step and drift apart
    return work.side("eager", _loop(at, x, written_out), check)
