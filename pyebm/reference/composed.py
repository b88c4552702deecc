"""The references of the composed ops: the same operations, with the reference's own noise, sums and
steps in them."""

from __future__ import annotations

from collections.abc import Callable

from .._composed import around
from .langevin import langevin_step
from .losses import denoising_loss
from .noise import uniform_

OPS = around({"uniform_": uniform_, "denoising_loss": denoising_loss, "langevin_step": langevin_step})

corrector_step: Callable[..., None] = OPS["corrector_step"]
leapfrog: Callable[..., None] = OPS["leapfrog"]
metropolis: Callable[..., None] = OPS["metropolis"]
dual_averaging: Callable[..., None] = OPS["dual_averaging"]
