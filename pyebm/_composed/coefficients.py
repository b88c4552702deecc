"""Coefficients, numbers or rows of values, with their checks; and the dtype of the arithmetic."""

from __future__ import annotations

import torch
from torch import Tensor

from .._derivatives import checkable


def work_of(x: Tensor) -> Tensor:
    """x in the dtype of the arithmetic: half precisions are computed in float32 and rounded once,
    at the store."""
    return x if x.dtype == torch.float64 else x.float()


def column(number: float, rows: Tensor | None, like: Tensor) -> Tensor:
    """A coefficient in float64, shaped to go with ``like``.

    Each of n rows serves ``like.numel() / n`` consecutive elements, in logical order: there is one
    row for all, or one per sample, per token of each sample, or per element.
    """
    if rows is None:
        rows = torch.tensor([number], dtype=torch.float64, device=like.device)
    count = rows.numel()
    if count in (1, like.shape[0]):
        return rows.double().reshape(-1, *[1] * (like.dim() - 1))
    return rows.double().reshape(count, 1).expand(count, like.numel() // max(count, 1)).reshape(like.shape)


def require(op: str, name: str, value: Tensor, positive: bool, one: str = "sample") -> None:
    """Checks the values of a coefficient before anything is written, as the kernels do; only on the
    CPU, since elsewhere the check would wait for the device."""
    if checkable(value):
        ok = torch.isfinite(value) & ((value > 0) if positive else (value >= 0))
        if not ok.all():
            worst = int((~ok.flatten()).nonzero()[0])
            bound = ">" if positive else ">="
            raise ValueError(
                f"{op}: {name} must be {bound} 0 and finite, got {float(value.flatten()[worst]):g} for {one}"
                f" {worst}"
            )


def require_finite(op: str, **rows: Tensor | None) -> None:
    """Checks that coefficients without a bound are finite; the public calls check numbers."""
    for name, row in rows.items():
        if row is not None and checkable(row) and (bad := ~row.isfinite().flatten()).any():
            worst = int(bad.nonzero()[0])
            raise ValueError(
                f"{op}: {name} must be finite, got {row.detach().flatten()[worst].item():g} for sample"
                f" {worst}"
            )


def clamp(x: Tensor, low: float | None, high: float | None) -> Tensor:
    return x if low is None and high is None else x.clamp(low, high)
