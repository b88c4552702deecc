"""One Langevin step, given the score: in place and out of place, with plain numbers and with the
caller's own coefficients."""

from __future__ import annotations

import torch
from torch import Tensor

import pyebm

from .bench_noise import EVERYWHERE, small
from .case import NOISE, TOLERANCE, Setting, Work, benchmark, grid

ETA = 1e-3
SCALE = (2 * ETA) ** 0.5
FORMS = [
    *grid((64, 2), variant="affine_step", headline=True),
    *grid((64, 2), (256, 3, 64, 64), threads=(2,), variant="eta (B,)"),
]


def written_out(x: Tensor, score: Tensor) -> Tensor:
    return x + ETA * score + SCALE * torch.randn_like(x)


@benchmark("step", "langevin_step_: x + eta score + sqrt(2 eta) z, in place", [*EVERYWHERE, *FORMS])
def step(at: Setting) -> Work:
    x, score = at.randn(0), at.randn(1)
    state = x.clone()
    work = Work(x.numel(), 3 * x.nbytes, (at.normal + 4) * x.numel(), tolerance=TOLERANCE[at.dtype])
    work.reset = lambda: state.copy_(x)
    if at.variant == "affine_step":
        work.ours(
            lambda backend: lambda: pyebm.affine_step(x, score, 0.9, 0.1, 0.2, NOISE, backend=backend),
            at.device,
        )
        return work.side("eager", lambda: 0.9 * x + 0.1 * score + 0.2 * torch.randn_like(x))
    if at.variant == "eta (B,)":
        rows = at.rows(0.5 * ETA, 2 * ETA)
        column = rows.view(-1, *[1] * (x.dim() - 1)).to(x.dtype)
        work.ours(
            lambda backend: lambda: pyebm.langevin_step_(state, score, rows, NOISE, backend=backend),
            at.device,
        )
        return work.side("eager", lambda: x + column * score + (2 * column).sqrt() * torch.randn_like(x))
    run = lambda backend: lambda: pyebm.langevin_step_(state, score, ETA, NOISE, backend=backend)  # noqa: E731
    work.ours(run, at.device, reference=small(at))
    return work.eager(written_out, lambda step: lambda: step(x, score), compiled=at.compiled)
