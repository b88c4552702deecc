"""The affine step and the Langevin step."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .._arguments import entry
from .._composed import affine_update, langevin_update
from .._schemas import AffineStep, LangevinStep
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
