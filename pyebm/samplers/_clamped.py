"""Clamps whose bounds differ between elements; the kernels don't do them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .._clamps import element_bounds

if TYPE_CHECKING:
    from ._run import Run
    from ._step_options import StepOptions


class Clamped:
    """A clamp whose bounds differ between elements, done after a step."""

    x: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, run: Run, options: StepOptions) -> None:
        sides = [
            run.numbers("clamp", side).detach() if isinstance(side, Tensor) else side
            for side in options.clamp or ()
        ]
        self.x = run.x
        self.low, self.high = element_bounds(run.call, sides, run.x, options.expanded_mask(run), "x0")

    def __call__(self) -> None:
        torch.clamp(self.x, self.low, self.high, out=self.x)
