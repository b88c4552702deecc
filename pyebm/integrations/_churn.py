"""The steps of algorithm 2 of Karras et al. (2022), each in one pass or two: EDM's samplers and
k-diffusion's share them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .._checks import bound
from ..noise import Noise
from ._draws import Draws, step

_UNUSED = Noise(0)  # for steps in which the coefficient of z is 0


def checked_range(call: str, lower: tuple[str, Any], upper: tuple[str, Any]) -> tuple[float, float]:
    """The levels between which noise is added; (name, value) of both."""
    low, high = bound(call, *lower), bound(call, *upper)
    for (name, _), level in ((lower, low), (upper, high)):
        if math.isnan(level):
            raise ValueError(f"{call}: {name} must be a noise level or infinite, got nan")
    return low, high


def churned(x: Tensor, sigma: float, sigma_hat: float, s_noise: float, draws: Draws) -> Tensor:
    """x lifted from level sigma to sigma_hat by noise. The k-th step has the k-th draw, whether it
    needs it or not."""
    drawn = draws(x)
    if not sigma_hat > sigma:
        return x
    # The sign of s_noise is the sign of z.
    return step(x, x, 1.0, 0.0, math.sqrt(sigma_hat**2 - sigma**2) * s_noise, drawn)


def euler(x: Tensor, denoised: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """``x + (sigma_next - sigma) d`` with ``d = (x - denoised) / sigma``."""
    kept = sigma_next / sigma
    return blend(x, kept, denoised, 1 - kept)


def second_order(
    x: Tensor, x_2: Tensor, denoised_2: Tensor, sigma_2: float, change: float, share: float = 1.0
) -> Tensor:
    """``x + change d_2`` with the slope d_2 at (x_2, sigma_2). Heun's mean of both slopes is
    share = 1/2: x_2 is then x plus ``change`` times the first slope."""
    r = share * change / sigma_2
    return blend(x, share, blend(x_2, 1 - share + r, denoised_2, -r), 1.0)


def blend(x: Tensor, a: float, y: Tensor, b: float) -> Tensor:
    """``a x + b y``, in the wider of their dtypes."""
    return step(x.to(torch.promote_types(x.dtype, y.dtype)), y, a, b, 0.0, _UNUSED)
