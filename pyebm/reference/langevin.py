"""The affine step and the Langevin step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .._arguments import entry
from .._composed import affine_update, langevin_update
from .._schemas import AffineStep, LangevinStep, PredictedStep
from .noise import normals


@entry(AffineStep)
def affine_step(args: AffineStep) -> None:
    _step(affine_update, args, (args.a, args.b, args.c), (args.a_rows, args.b_rows, args.c_rows))


@entry(LangevinStep)
def langevin_step(args: LangevinStep) -> None:
    _step(
        langevin_update,
        args,
        (args.step_size, args.temperature),
        (args.step_size_rows, args.temperature_rows),
    )


@entry(PredictedStep)
def predicted_step(args: PredictedStep) -> None:
    zeros = torch.zeros(args.x.shape, device=args.x.device)
    predicted = args.x, args.score, zeros, (args.a, args.b, 0.0)
    args.x0.copy_(affine_update(*predicted, low=args.low, high=args.high)[1])
    z = normals(args.x.shape, args.name, args.seeds, args.ids)
    args.out.copy_(affine_update(args.x, args.x0, z, (args.of_x, args.of_x0, args.c))[1])


def _step(
    update: Callable[..., tuple[Tensor, Tensor]],
    args: AffineStep | LangevinStep,
    numbers: tuple[float, ...],
    rows: tuple[Tensor | None, ...],
) -> None:
    x, options = args.out if args.x is None else args.x, args.options
    z = normals(x.shape, args.name, options.seeds, options.ids)
    mean, value = update(
        x, args.score, z, numbers, *rows, options.mask, options.low, options.high, options.score_clip
    )
    if options.mean is not None:
        options.mean.copy_(mean)
    args.out.copy_(value)
