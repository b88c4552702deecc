"""A scheduler's step as affine passes: the predicted sample x0, and the sample that follows."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .._draws import UNUSED, Normals, step
from .._fits import broadcast


def together(sample: Tensor, model_output: Tensor) -> tuple[Tensor, Tensor]:
    """Both, of one shape, with sample's dtype the wider one."""
    shape = broadcast("step", "model_output", model_output, sample)
    wide = torch.promote_types(sample.dtype, model_output.dtype)
    return sample.to(wide).expand(shape), model_output.expand(shape)


def mixed(x: Tensor, a: float, y: Tensor, b: float, limit: float | None = None) -> Tensor:
    """``a x + b y``, clamped to [-limit, limit]."""
    return step(x, y, a, b, 0.0, UNUSED, clamp=None if limit is None else (-limit, limit))


def with_noise(mean: Tensor, scale: float, std: float, normals: Normals) -> Tensor:
    """``scale mean + std z``."""
    return step(mean, mean, scale, 0.0, std, normals)


def of_alphas(kind: str, abar: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """((a, b), (c, d)): x0 = a x + b output, and epsilon = c x + d output, for a network that
    predicts ``kind`` at ``x = sqrt(abar) x0 + sqrt(1 - abar) epsilon``. Not finite where that does
    not say them."""
    root, noise = math.sqrt(abar), math.sqrt(1 - abar)
    if kind == "epsilon":
        return (_over(1.0, root), _over(-noise, root)), (0.0, 1.0)
    if kind == "sample":
        return (0.0, 1.0), (_over(1.0, noise), _over(-root, noise))
    if kind == "v_prediction":
        return (root, -noise), (noise, root)
    raise ValueError(f"step: prediction_type must be epsilon, sample or v_prediction, got {kind!r}")


def of_sigma(kind: str, sigma: float, sigma_hat: float) -> tuple[float, float]:
    """(a, b): x0 = a x + b output, for a network that predicts ``kind`` at
    ``x = x0 + sigma epsilon``, raised to sigma_hat."""
    if kind == "epsilon":
        return 1.0, -sigma_hat
    if kind == "v_prediction":
        return 1 / (sigma**2 + 1), -sigma / math.sqrt(sigma**2 + 1)
    if kind in ("sample", "original_sample"):
        return 0.0, 1.0
    raise ValueError(f"step: prediction_type must be epsilon, sample or v_prediction, got {kind!r}")


def limit_of(scheduler: Any) -> float | None:
    """The range that x0 is clipped to, or None."""
    config = scheduler.config
    return config.clip_sample_range if config.clip_sample and not config.thresholding else None


def _over(a: float, b: float) -> float:
    return a / b if b else math.copysign(math.inf, a)
