"""A condition c in a network's layers: in a layer of [x; c] it changes only the bias, which is then
the same in every step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .._composed.functions import sum_of
from ._layers import Layer


def rows_of(call: str, c: Tensor, condition: int, batch: int | None = None) -> Tensor:
    """c as (1, C) or (B, C).

    Raises TypeError if c is no floating-point tensor, ValueError for another shape.
    """
    if not isinstance(c, Tensor) or not c.is_floating_point():
        raise TypeError(
            f"{call}: c must be a number or a floating-point tensor, got"
            f" {c.dtype if isinstance(c, Tensor) else c!r}"
        )
    rows = c.reshape(-1, 1) if condition == 1 and c.dim() < 2 else c.reshape(1, -1) if c.dim() < 2 else c
    many = rows.dim() == 2 and rows.shape[1] == condition
    if not many or (batch is not None and rows.shape[0] not in (1, batch)):
        first = "B" if batch is None else batch
        one_each = f", ({first},)" if condition == 1 else ""
        raise ValueError(
            f"{call}: c must have the shape ({condition},){one_each} or ({first}, {condition}), got"
            f" {tuple(c.shape)}"
        )
    return rows


def biases_of(layers: Sequence[Layer], rows: Tensor) -> Tensor:
    """Every layer's ``b + W_c c``, (R, all outputs), for rows (R, C) in the dtype of the
    computation.

    The sum over C has a fixed order, so that the bits of a row don't depend on the other rows.
    """
    biases: list[Tensor] = []
    count, condition = rows.shape
    for at, layer in enumerate(layers):
        bias = rows.new_zeros(layer.weight.shape[0]) if layer.bias is None else layer.bias.to(rows.dtype)
        if at == 0 or layer.skip:
            last = layer.weight[:, -condition:].to(rows.dtype)
            biases.append(sum_of(rows.unsqueeze(1) * last) + bias)
        else:
            biases.append(bias.expand(count, -1))
    return torch.cat(biases, 1)
