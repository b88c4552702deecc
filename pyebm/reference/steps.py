"""The perturbation and the affine (Langevin) step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._name import readable
from .noise import normals, sqrt64


def work_of(x: Tensor) -> Tensor:
    """Half precisions are computed in float32 and rounded once, at the store."""
    return x if x.dtype == torch.float64 else x.float()


def column(number: float, rows: Tensor | None, like: Tensor) -> Tensor:
    """A coefficient in float64, one row per sample (or one for all), shaped to go with ``like``."""
    if rows is None:
        rows = torch.tensor([number], dtype=torch.float64, device=like.device)
    return rows.double().reshape(-1, *[1] * (like.dim() - 1))


def require(op: str, name: str, value: Tensor, positive: bool, one: str = "sample") -> None:
    """The kernels check coefficients before they write; so does their twin (on the CPU: no wait for a device)."""
    if value.is_cpu and readable(value):
        ok = torch.isfinite(value) & ((value > 0) if positive else (value >= 0))
        if not ok.all():
            worst = int((~ok.flatten()).nonzero()[0])
            bound = ">" if positive else ">="
            raise ValueError(f"{op}: {name} must be {bound} 0 and finite, got {float(value.flatten()[worst]):g} for {one} {worst}")


def clamp(x: Tensor, low: float | None, high: float | None) -> Tensor:
    return x if low is None and high is None else x.clamp(low, high)


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
    """(mean, value) = (a x + b g, clamp((a x + b g) + c z)), every product and sum rounded by itself; differentiable."""
    work = work_of(x)
    a, b, c = (column(number, rows, x).to(work.dtype) for number, rows in zip(numbers, (a_rows, b_rows, c_rows), strict=True))
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
    c_rows = sqrt64(2.0 * eta_rows * t_rows)
    return affine_update(x, score, z, (1.0, math.nan, math.nan), None, eta_rows.flatten(), c_rows.flatten(), *rest)


UPDATES: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {"affine_step": affine_update, "langevin_step": langevin_update}


def perturb(
    out: Tensor,
    x: Tensor,
    alpha: float,
    sigma: float,
    name: Tensor,
    alpha_rows: Tensor | None = None,
    sigma_rows: Tensor | None = None,
    seeds: Tensor | None = None,
    ids: Tensor | None = None,
) -> None:
    work = work_of(x)
    a, c = column(alpha, alpha_rows, x), column(sigma, sigma_rows, x)
    require("perturb", "sigma", c, positive=True)
    z = normals(x.shape, name, seeds, ids).to(work.dtype)
    out.copy_(a.to(work.dtype) * work + c.to(work.dtype) * z)


def affine_step(out: Tensor, x: Tensor | None, g: Tensor, a: float, b: float, c: float, name: Tensor, *tail: Any) -> None:
    _step(affine_update, out, x, g, (a, b, c), name, *(tail or (None,) * 10))


def langevin_step(
    out: Tensor, x: Tensor | None, score: Tensor, step_size: float, temperature: float, name: Tensor, *tail: Any
) -> None:
    _step(langevin_update, out, x, score, (step_size, temperature), name, *(tail or (None,) * 9))


def _step(
    update: Callable[..., tuple[Tensor, Tensor]],
    out: Tensor,
    x: Tensor | None,
    g: Tensor,
    numbers: tuple[float, ...],
    name: Tensor,
    *tail: Any,
) -> None:
    *rows, mean, mask, low, high, clip, seeds, ids = tail
    x = out if x is None else x
    new_mean, value = update(x, g, normals(x.shape, name, seeds, ids), numbers, *rows, mask, low, high, clip)
    if mean is not None:
        mean.copy_(new_mean)
    out.copy_(value)
