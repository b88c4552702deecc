"""The options of a step besides its size, checked and as the ops take them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ._checks import bound, check_dense, check_plain
from ._clamps import Clamp
from ._options import shown


def step_options(
    op: str,
    x: Tensor,
    clamp: Clamp | None = None,
    score_clip: float | None = None,
    mask: Tensor | None = None,
) -> tuple[Tensor | None, float | None, float | None, float | None]:
    """(mask, low, high, score_clip) as the ops take them, checked."""
    low = high = None
    if clamp is not None:
        low, high = bounds(op, clamp)
    if score_clip is not None:
        score_clip = bound(op, "score_clip", score_clip, " or None")
        if not score_clip > 0:
            raise ValueError(f"{op}: score_clip must be > 0 or None, got {score_clip}")
    return (None if mask is None else expanded_mask(op, mask, x)), low, high, score_clip


def bounds(op: str, clamp: Clamp) -> tuple[float, float]:
    """A clamp as two numbers, infinite where a side is open."""
    try:
        low, high = clamp
    except (TypeError, ValueError):
        raise TypeError(f"{op}: clamp must be a pair (low, high) or None, got {shown(clamp)}") from None
    low, high = (
        -math.inf if low is None else bound(op, "clamp", low),
        math.inf if high is None else bound(op, "clamp", high),
    )
    if not low <= high:
        raise ValueError(f"{op}: clamp must be (low, high) with low <= high, got ({low}, {high})")
    return low, high


def expanded_mask(op: str, mask: Tensor, x: Tensor) -> Tensor:
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        raise TypeError(
            f"{op}: mask must be a bool tensor, got"
            f" {mask.dtype if isinstance(mask, Tensor) else type(mask).__name__}"
        )
    check_plain(op, "mask", mask)
    check_dense(op, "mask", mask)
    if mask.device != x.device:
        raise ValueError(f"{op}: mask must be on x's device {x.device}, got {mask.device}")
    try:
        return mask.expand(x.shape)
    except RuntimeError:
        raise ValueError(
            f"{op}: mask must broadcast to x's shape {tuple(x.shape)}, got {tuple(mask.shape)}"
        ) from None
