"""Chains on the other closed-form targets, beside a loop that differentiates their energies by
autograd."""

from __future__ import annotations

import torch
from torch import Tensor

import pyebm

from .case import NOISE, Setting, Work, benchmark, grid
from .timing import Run

STEPS = 20
# (target, step size, approximate operations of its score per element, with exp, sine and cosine
# counted).
TARGETS = {
    "Harmonic": (pyebm.targets.Harmonic, 0.01, 2),
    "Gaussian": (pyebm.targets.Gaussian, 0.01, 2),
    "Rosenbrock": (pyebm.targets.Rosenbrock, 1e-5, 10),
    "Rastrigin": (pyebm.targets.Rastrigin, 1e-4, 20),
    "Ackley": (pyebm.targets.Ackley, 1e-3, 30),
    "Funnel": (pyebm.targets.Funnel, 1e-4, 4),
}
SETTINGS = [
    setting
    for name in TARGETS
    for setting in grid((1024, 32), threads=(2,), variant=name, steps=STEPS, quick=name == "Ackley")
]


@benchmark(
    "targets",
    "langevin_chain on the other elementwise targets, per step; eager's gradient is autograd's of their"
    " energy",
    SETTINGS,
)
def targets(at: Setting) -> Work:
    make, eta, score = TARGETS[at.variant]
    target, x = make().to(at.device), at.randn()
    work = Work(x.numel() * STEPS, 2 * x.nbytes, STEPS * (at.normal + score + 4) * x.numel(), tolerance=1e-3)

    def ours(backend: str | None) -> Run:
        return lambda: pyebm.langevin_chain(x, target, STEPS, eta, NOISE, backend=backend)

    def eager() -> Tensor:
        state = x
        for _ in range(STEPS):
            state = (
                state + eta * pyebm.energy_score(target, state) + (2 * eta) ** 0.5 * torch.randn_like(state)
            )
        return state

    return work.ours(ours, at.device, reference=True).side("eager", eager)
