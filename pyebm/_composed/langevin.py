"""The updates of the affine step and of the Langevin step, from normals that the caller has."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._derivatives import wanted
from .coefficients import clamp, column, require, require_finite, work_of
from .functions import root


def affine_update(
    x: Tensor,
    g: Tensor,
    z: Tensor,
    numbers: tuple[float, float, float],
    a_rows: Tensor | None = None,
    b_rows: Tensor | None = None,
    c_rows: Tensor | None = None,
    mask: Tensor | None = None,
    low: float | None = None,
    high: float | None = None,
    clip: float | None = None,
) -> tuple[Tensor, Tensor]:
    """(mean, value) = (a x + b g, clamp((a x + b g) + c z)); every product and every sum is rounded
    on its own. Differentiable."""
    require_finite("affine_step", a=a_rows, b=b_rows, c=c_rows)
    work = work_of(x)
    a, b, c = (
        column(number, rows, x).to(work.dtype)
        for number, rows in zip(numbers, (a_rows, b_rows, c_rows), strict=True)
    )
    g = clamp(work_of(g).to(work.dtype), None if clip is None else -clip, clip)
    mean = a * work + b * g
    value = clamp(mean + c * z.to(work.dtype), low, high)
    return (mean, value) if mask is None else (torch.where(mask, mean, work), torch.where(mask, value, work))


def langevin_update(
    x: Tensor,
    score: Tensor,
    z: Tensor,
    numbers: tuple[float, float],
    step_size_rows: Tensor | None = None,
    temperature_rows: Tensor | None = None,
    *rest: Any,
) -> tuple[Tensor, Tensor]:
    """The affine update with a = 1, b = eta, c = sqrt(2 eta T)."""
    eta, t = numbers
    if step_size_rows is None and temperature_rows is None:
        return affine_update(x, score, z, (1.0, eta, math.sqrt(2.0 * eta * t)), None, None, None, *rest)
    eta_rows, t_rows = column(eta, step_size_rows, x), column(t, temperature_rows, x)
    require("langevin_step", "step_size", eta_rows, positive=True)
    require("langevin_step", "temperature", t_rows, positive=False)
    c_rows = _spread_of(eta_rows, t_rows)
    return affine_update(
        x, score, z, (1.0, math.nan, math.nan), None, eta_rows.reshape(-1), c_rows.reshape(-1), *rest
    )


def _spread_of(eta: Tensor, t: Tensor) -> Tensor:
    """sqrt(2 eta T). At T = 0 it is 0 whatever eta is, so its derivative by eta is 0 there, though
    the root's derivative is infinite.

    The derivative by T is infinite there too. By convention it is 0, like that of torch's norms at
    0, so that a schedule that ends at a temperature of 0 leaves no NaN in the gradients of the
    tensors that made the schedule.
    """
    square = 2.0 * eta * t
    if not wanted(eta, t):
        return root(square)
    return torch.where(t == 0, 0.0, root(torch.where(t == 0, 1.0, square)))


UPDATES: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "affine_step": affine_update,
    "langevin_step": langevin_update,
}
