"""The comparison of the energies of two batches, the data and the model's samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._checks import check_plain, check_samples, checked_number
from .._composed import work_of
from .._options import check_callable
from ..energy import check_energy
from ..targets import Target
from ..targets._fused import Terms, fused_loss
from ._reduction import Reduction

EnergyFn = Callable[[Tensor], Tensor]


class Contrast:
    def __init__(
        self, op: str, x_data: Tensor, x_model: Tensor, l2: Any, weight: Any, reduction: str
    ) -> None:
        batches = [check_samples(op, name, x) for name, x in (("x_data", x_data), ("x_model", x_model))]
        check_plain(op, "x_model", x_model)
        if (
            x_data.shape[1:] != x_model.shape[1:]
            or x_data.dtype is not x_model.dtype
            or x_data.device != x_model.device
        ):
            wanted = f"samples like x_data's, {tuple(x_data.shape[1:])}, {x_data.dtype} on {x_data.device}"
            raise ValueError(
                f"{op}: x_model must be {wanted}, got {tuple(x_model.shape[1:])}, {x_model.dtype} on"
                f" {x_model.device}"
            )
        self.l2 = checked_number(op, "l2", l2, 0.0)
        data, model = (x.new_empty(x.shape[:1]) for x in (x_data, x_model))
        self.of_data = Reduction(op, data, weight, reduction)
        if batches[0] != batches[1] and (
            reduction not in ("batchmean", "mean") or self.of_data.rows is not None
        ):
            raise ValueError(
                f"{op}: x_model must have as many samples as x_data for this weight or reduction, got"
                f" {batches}"
            )
        self.of_model = Reduction(op, model, weight, reduction)

    def __call__(self, data: Tensor, model: Tensor) -> Tensor:
        if not self.l2:
            return self.of_data(data) - self.of_model(model)
        return self.of_data(data + self.l2 * data.square()) - self.of_model(model - self.l2 * model.square())


def contrast_by_kernel(
    energy_fn: EnergyFn, x_data: Tensor, x_model: Tensor, reduced: Contrast
) -> Tensor | None:
    """The loss from the kernel; None if the kernel does not take the energy, or if the weight of
    the data or of the model's samples is not one number."""
    of_data, of_model = (one.in_one_sum() for one in (reduced.of_data, reduced.of_model))
    if (
        not isinstance(energy_fn, Target)
        or not x_data.is_cpu
        or of_data is None
        or of_model is None
        or of_data[1] is not None
    ):
        return None
    data, model = of_data[0], of_model[0]
    if reduced.l2 and data != model:  # the kernel has one weight for all squares
        return None
    weights = torch.full((len(x_data) + len(x_model),), data, dtype=work_of(x_data[:0]).dtype, device="cpu")
    weights[len(x_data) :] = -model
    terms = Terms(weight_rows=weights, square=reduced.l2 * data)
    return fused_loss(energy_fn, torch.cat((x_data, x_model)), terms, of_energy=True)


def energies_of_both(op: str, energy_fn: EnergyFn, x_data: Tensor, x_model: Tensor) -> tuple[Tensor, Tensor]:
    check_callable(op, "energy_fn", energy_fn, "a function of x")
    data, model = x_data.shape[0], x_model.shape[0]
    energy = energy_fn(torch.cat((x_data, x_model)))
    check_energy(op, energy, data + model)
    energy = energy.reshape(data + model)
    energy = energy if energy.dtype is torch.float64 else energy.float()
    return energy[:data], energy[data:]
