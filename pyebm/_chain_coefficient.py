"""A chain's step size or temperature: one number, or values by sample or by step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor

from ._checks import Coefficient, checked_number, coefficient, rows_of


class ChainCoefficient(NamedTuple):
    """A step size or a temperature as the op takes it: a number, or one value per sample or per
    step."""

    number: float
    rows: Tensor | None = None
    per_step: bool | None = None

    def at(self, k: int) -> Coefficient:
        if self.rows is None:
            return self.number
        return self.rows[k] if self.per_step else self.rows

    def given(self, rows: Tensor | None) -> Coefficient | Sequence[float]:
        """The argument as a caller would give it, with other rows of the same kind."""
        if rows is None:
            return self.number
        return cast("list[float]", rows.tolist()) if self.per_step else rows.reshape(-1, 1)

    def part(self, first: int, count: int) -> ChainCoefficient:
        """The row of the steps first, ..., first + count - 1."""
        if self.rows is None or not self.per_step:
            return self
        return self._replace(rows=self.rows.narrow(0, first, count))


def chain_coefficient(
    op: str, name: str, value: Coefficient | Sequence[float], x: Tensor, n_steps: int, open_low: bool = False
) -> ChainCoefficient:
    if type(value) is float:
        return ChainCoefficient(*coefficient(op, name, value, x, low=0.0, open_low=open_low))
    if isinstance(value, (list, tuple)):
        if len(value) != n_steps:
            raise ValueError(
                f"{op}: {name} must have one number per step, {n_steps} of them, got {len(value)}"
            )
        numbers = [checked_number(op, f"{name}[{k}]", one, 0.0, open_low) for k, one in enumerate(value)]
        return ChainCoefficient(math.nan, torch.tensor(numbers, dtype=torch.float64, device=x.device), True)
    if isinstance(value, Tensor) and value.dim() == 1 and value.shape[0] == n_steps != 1:
        if n_steps == x.shape[0]:
            raise ValueError(
                f"{op}: {name} of shape ({n_steps},) could be one value per sample or one per step; "
                f"give ({n_steps}, 1) for one per sample, or a list for one per step"
            )
        return ChainCoefficient(math.nan, rows_of(op, name, value, x, n_steps, "step"), True)
    if isinstance(value, Tensor) and value.dim() == 1 and value.shape[0] not in (1, x.shape[0]):
        raise ValueError(
            f"{op}: {name} must have one value per sample, ({x.shape[0]},), or per step, ({n_steps},), got"
            f" {tuple(value.shape)}"
        )
    return ChainCoefficient(*coefficient(op, name, cast(Coefficient, value), x, low=0.0, open_low=open_low))
