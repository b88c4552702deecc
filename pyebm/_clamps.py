"""Clamps whose bounds differ between elements. No kernel does them, so they follow the step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.compiler import is_compiling, is_dynamo_compiling

from ._checks import check_dense, check_plain, has_static_value
from ._derivatives import checkable, wanted

Side = float | Tensor | None
Clamp = tuple[Side, Side]


def by_element(clamp: Clamp | None) -> bool:
    """Whether a bound is more than a number: a tensor of several values, or a tensor whose
    derivative is wanted or that is being traced."""
    if clamp is None or not isinstance(clamp, (tuple, list)):
        return False
    return any(
        isinstance(side, Tensor) and (side.numel() != 1 or is_compiling() or bool(wanted(side)))
        for side in clamp
    )


def element_bounds(
    op: str, clamp: Sequence[Side], x: Tensor, mask: Tensor | None = None, x_name: str = "x"
) -> tuple[Tensor, Tensor]:
    """(low, high) in x's dtype, which broadcast to x; infinite where a side is open or the mask
    keeps x as it is.

    A kernel clamps before it rounds, this clamp comes after the rounding. Both give the same bits
    if the bounds are rounded to x's dtype, since rounding keeps the order of numbers.
    """
    if len(clamp) != 2:
        raise TypeError(f"{op}: clamp must be a pair (low, high) or None, got {len(clamp)} bounds")
    low, high = (
        _side(op, side, inf, x, x_name) for side, inf in zip(clamp, (-math.inf, math.inf), strict=True)
    )
    if checkable(low) and checkable(high) and not bool((low <= high).all()):
        raise ValueError(f"{op}: clamp must be (low, high) with low <= high in every element")
    if mask is None:
        return low, high
    return torch.where(mask, low, -math.inf), torch.where(mask, high, math.inf)


def changing(x: Tensor, *limits: float | None) -> list[Tensor | None] | None:
    """The limits as tensors if compiled code treats one of them as a number that changes, else
    None. As plain numbers they would make torch.compile compile again for each value."""
    if not is_dynamo_compiling() or all(limit is None or has_static_value(limit) for limit in limits):
        return None
    return [
        None if limit is None else torch.ones((), dtype=torch.float64, device=x.device) * limit
        for limit in limits
    ]


def _side(op: str, side: Side, inf: float, x: Tensor, x_name: str) -> Tensor:
    if not isinstance(side, Tensor):
        return x.new_full((), inf if side is None else float(side))
    check_plain(op, "clamp", side)
    check_dense(op, "clamp", side)
    if side.device != x.device and side.dim():
        raise ValueError(f"{op}: clamp must be on {x_name}'s device {x.device}, got {side.device}")
    try:
        side.expand(x.shape)
    except RuntimeError:
        shapes = f"{tuple(x.shape)}, got {tuple(side.shape)}"
        raise ValueError(
            f"{op}: clamp must be numbers or tensors that broadcast to {x_name}'s shape {shapes}"
        ) from None
    work = torch.float64 if x.dtype == torch.float64 else torch.float32
    return side.to(x.device, work).to(x.dtype)
