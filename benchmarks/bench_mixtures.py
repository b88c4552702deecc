"""Chains on mixtures of Gaussians, as the exact score of a smoothed data set needs them, beside
the matrix form, which keeps a (B, M) matrix in memory."""

from __future__ import annotations

import torch
from torch import Tensor

import pyebm

from .case import NOISE, Setting, Work, benchmark, grid
from .rivals import Missing
from .timing import Run

SIGMA = 0.5
COMPONENT = 12  # operations of a component's weight per sample: exponential, running maximum, sums
SETTINGS = [
    *grid((256, 64), variant="1797 digits", threads=(2,), steps=20, quick=True, headline=True),
    *grid((256, 2), variant="10000 components", threads=(2,), steps=10, quick=True, headline=True),
    *grid((256, 64), variant="1797 digits", threads=(1,), steps=20),
    *grid((16, 64), (64, 64), (1024, 64), (4096, 64), variant="1797 digits", threads=(2,), steps=5),
    *grid((256, 2), variant="10000 components", threads=(1,), steps=10),
    *grid((4096, 2), variant="10000 components", threads=(2,), steps=2),
    *grid((64, 3072), variant="10000 components", threads=(2,), steps=1),
    *grid((1, 64), variant="1797 digits", threads=(1, 2), steps=100),
    *grid((1, 2), variant="10000 components", threads=(2,), steps=50),
    *grid((1, 3072), variant="10000 components", threads=(2,), steps=1),
]


def means_of(at: Setting) -> Tensor:
    if at.variant == "1797 digits":
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise Missing("the digits are scikit-learn's: pip install 'pyebm-kernels[demo]'") from error
        return torch.as_tensor(load_digits().data, dtype=torch.float32) / 8 - 1
    return 3 * torch.rand(int(at.variant.split()[0]), at.shape[1], generator=torch.Generator().manual_seed(0))


@benchmark(
    "mixture",
    "langevin_chain on a mixture of isotropic Gaussians, per step, beside the matrix products and softmax"
    " that one writes; operations are counted as the matrix form does them",
    SETTINGS,
)
def mixture(at: Setting) -> Work:
    means = means_of(at).to(at.device)
    (batch, dim), count = at.shape, len(means)
    x = means[torch.arange(batch, device=at.device) % count] + SIGMA * at.randn()
    target, eta = pyebm.targets.GaussianMixture(means, SIGMA).to(at.device), 0.05
    operations = at.steps * (batch * count * (4 * dim + COMPONENT) + at.normal * x.numel())
    work = Work(x.numel() * at.steps, 2 * x.nbytes + means.nbytes, operations, tolerance=5e-3)
    halves = 0.5 * means.square().sum(1) / SIGMA**2

    def ours(backend: str | None) -> Run:
        return lambda: pyebm.langevin_chain(x, target, at.steps, eta, NOISE, backend=backend)

    def eager() -> Tensor:
        state = x
        for _ in range(at.steps):
            weights = torch.softmax(torch.addmm(-halves, state, means.mT, alpha=1 / SIGMA**2), 1)
            score = (weights @ means - state) / SIGMA**2
            state = state + eta * score + (2 * eta) ** 0.5 * torch.randn_like(state)
        return state

    return work.ours(ours, at.device).side("eager", eager)
