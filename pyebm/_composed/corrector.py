"""The Langevin step that chooses its own size: the corrector of score-based models (Song et al.
2021, algorithms 4 and 5)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from .. import _schemas
from .functions import sqrt64
from .metropolis import mean

_SAMPLE = _schemas.REDUCTIONS["sample"]


def corrector_step(
    x: Tensor,
    score: Tensor,
    factor: float | Tensor,
    name: Tensor,
    together: bool,
    mask: Tensor | None = None,
    low: float | None = None,
    high: float | None = None,
    seeds: Tensor | None = None,
    ids: Tensor | None = None,
    *,
    kernels: Mapping[str, Callable[..., None]],
) -> None:
    """The op ``corrector_step``, without waiting for the device; here ``factor`` may also be a
    tensor, as in a CUDA graph."""
    if not x.shape[0]:  # an empty batch has no mean
        return
    sums = torch.empty(
        (2, x.shape[0]), dtype=torch.float64 if x.dtype == torch.float64 else torch.float32, device=x.device
    )
    of_noise, of_score = sums.unbind()
    rows, loss = (None, None, None, None), kernels["denoising_loss"]
    # The sums of squares of the normals, which the kernel makes and does not store, and of the
    # score.
    loss(of_noise, None, score, 0.0, 1.0, 0.0, 1.0, 1.0, False, _SAMPLE, name, *rows, None, None, seeds, ids)
    loss(of_score, None, score, 1.0, 0.0, 0.0, 1.0, 1.0, False, _SAMPLE, None, *rows, score)
    norm2 = sums.double()
    if together:
        norm2 = mean(sqrt64(norm2)).square_().unsqueeze(1)
    z, g = norm2.unbind()
    step_size = (z / g).mul_(factor)
    kernels["langevin_step"](
        x, None, score, math.nan, 1.0, name, step_size, None, None, mask, low, high, None, seeds, ids
    )
