"""Clamps whose bounds differ between elements, which the kernels don't do."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ._body import Run, StepOptions


class Clamped:
    """A clamp whose bounds differ between elements, done after a step.

    Rounding keeps the order of numbers. So the bits are those of a kernel, which clamps before it
    rounds, once the bounds are rounded as x is.
    """

    def __init__(self, run: Run, options: StepOptions) -> None:
        mask = options.expanded_mask(run)
        low, high = (self._side(run, side, inf) for side, inf in zip(options.clamp, (-math.inf, math.inf), strict=True))  # type: ignore[arg-type]
        if run.may_look and not bool((low <= high).all()):
            raise ValueError(f"{run.call}: clamp must be (low, high) with low <= high in every element")
        if mask is not None:
            low, high = torch.where(mask, low, -math.inf), torch.where(mask, high, math.inf)
        self.x, self.low, self.high = run.x, low, high

    def __call__(self) -> None:
        torch.clamp(self.x, self.low, self.high, out=self.x)

    @staticmethod
    def _side(run: Run, side: float | Tensor | None, inf: float) -> Tensor:
        x = run.x
        if not isinstance(side, Tensor):
            return x.new_full((), inf if side is None else float(side))
        side = run.numbers("clamp", side)
        if side.device != x.device and side.dim():
            raise ValueError(f"{run.call}: clamp must be on x0's device {x.device}, got {side.device}")
        try:
            side.expand(x.shape)
        except RuntimeError:
            shapes = f"{tuple(x.shape)}, got {tuple(side.shape)}"
            raise ValueError(f"{run.call}: clamp must be numbers or tensors that broadcast to x0's shape {shapes}") from None
        return side.detach().to(x.device, run.work).to(x.dtype)
