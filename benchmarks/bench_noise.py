"""The normals by themselves (Noise.randn), and added to samples (perturb)."""

from __future__ import annotations

import importlib

import torch

import pyebm

from . import in_jax
from .case import BFLOAT, DOUBLE, FLOAT, HALF, NOISE, TOLERANCE, Setting, Work, benchmark, grid

SIGMA = 0.5
SIZES = ((1024, 2), (4096, 32), (64, 3, 32, 32), (64, 3, 256, 256))
IMAGES = (256, 3, 64, 64)
NARROW = ((10**6, 1), (500_000, 2), (300_000, 3))
EVERYWHERE = [
    *grid((64, 2), quick=True, headline=True),
    *grid(IMAGES, threads=(2,), quick=True, headline=True, compiled=True),
    *grid(IMAGES, threads=(1,)),
    *grid(*SIZES, threads=(2,)),
    *grid(IMAGES, dtypes=(BFLOAT, HALF, DOUBLE), threads=(2,)),
]


@benchmark("noise", "Noise.randn: standard normals", EVERYWHERE)
def noise(at: Setting) -> Work:
    shape, options = at.shape, {"dtype": at.dtype, "device": at.device}
    example = torch.empty(shape, dtype=at.dtype)
    work = Work(example.numel(), example.nbytes, at.normal * example.numel())
    work.ours(
        lambda backend: lambda: NOISE.randn(shape, backend=backend, **options), at.device, reference=small(at)
    )
    if at.device == "cuda":
        _stateless(work, at)
    elif at.dtype == FLOAT and at.threads > 1:  # XLA has no number of threads to set
        work.rival("JAX", lambda jax: in_jax.normals(jax, shape), "law")
    return work.eager(lambda: torch.randn(shape, **options), lambda draw: draw, compiled=at.compiled)


def _stateless(work: Work, at: Setting) -> None:
    """Adds PyTorch's own stateless generator, which is private and has no kernel on the CPU."""
    try:
        own = importlib.import_module("torch.func._random")
    except ImportError:
        work.missing["torch.func._random"] = f"torch {torch.__version__} does not have it"
        return
    key = own.key(0, device=torch.device(at.device))
    work.side("torch.func._random", lambda: own.normal(key, *at.shape, dtype=at.dtype), "law")


@benchmark(
    "perturb",
    "perturb: x + sigma z, one sigma for all or one a sample",
    [*EVERYWHERE, *grid((64, 2), *NARROW, variant="sigma (B,)")],
)
def perturb(at: Setting) -> Work:
    x = at.randn()
    work = Work(x.numel(), 2 * x.nbytes, (at.normal + 2) * x.numel(), tolerance=TOLERANCE[at.dtype])
    if at.variant:
        rows = at.rows(0.1, 1.0)
        column = rows.view(-1, *[1] * (x.dim() - 1)).to(x.dtype)
        work.ours(lambda backend: lambda: pyebm.perturb(x, rows, NOISE, backend=backend), at.device)
        return work.side("eager", lambda: x + column * torch.randn_like(x))
    work.ours(
        lambda backend: lambda: pyebm.perturb(x, SIGMA, NOISE, backend=backend),
        at.device,
        reference=small(at),
    )
    return work.eager(lambda: x + SIGMA * torch.randn_like(x), lambda draw: draw, compiled=at.compiled)


def small(at: Setting) -> bool:
    """True where the reference stands beside the kernels; it is some two orders of magnitude
    slower."""
    return torch.Size(at.shape).numel() <= 2**17 and at.dtype == FLOAT
