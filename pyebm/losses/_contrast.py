"""The comparison of the energies of two batches, the data and the model's samples."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._checks import check_plain, check_samples, checked_number
from .._modes import in_mode
from .._options import check_callable
from ..energy import check_energy
from ..targets import Target
from ..targets._fused import Terms, fused_loss
from ..targets._kept import readable
from ._reduction import reduction_of

EnergyFn = Callable[[Tensor], Tensor]


class Contrast:
    def __init__(
        self, op: str, x_data: Tensor, x_model: Tensor, l2: Any, weight: Any, reduction: str
    ) -> None:
        self.sizes = [check_samples(op, name, x) for name, x in (("x_data", x_data), ("x_model", x_model))]
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
        self.l2, self.device = checked_number(op, "l2", l2, 0.0), x_data.device
        self.of_data = reduction_of(op, x_data, weight, reduction, by_sample=True)
        if self.sizes[0] != self.sizes[1] and (
            reduction not in ("batchmean", "mean") or self.of_data.rows is not None
        ):
            raise ValueError(
                f"{op}: x_model must have as many samples as x_data for this weight or reduction, got"
                f" {self.sizes}"
            )
        self.of_model = self.of_data
        if self.sizes[0] != self.sizes[1]:
            self.of_model = reduction_of(op, x_model, weight, reduction, by_sample=True)

    def __call__(self, energies: Tensor) -> Tensor:
        """The loss, from the energies (B + M,) of the data and the model's samples."""
        weights = self.weights()
        if weights is not None:
            # Autograd's node for an operation costs as much as a small batch's numbers, so the
            # operations are few. The weights are rounded as the kernel rounds them.
            of_data, of_model = (part.to(energies.dtype).double() for part in weights)
            work = energies.double()
            weighted = work * torch.cat((of_data, -of_model))
            if self.l2:
                weighted = weighted + self.l2 * torch.cat((of_data, of_model)) * work.square()
            return weighted.sum().to(energies.dtype)
        data, model = energies.split(self.sizes)
        if not self.l2:
            return self.of_data(data) - self.of_model(model)
        return self.of_data(data + self.l2 * data.square()) - self.of_model(model - self.l2 * model.square())

    def weights(self) -> tuple[Tensor, Tensor] | None:
        """The weights of the data's energies (B,) and of the model's (M,), float64; None where the
        loss is no single number."""
        data, model = self.of_data.weights, self.of_model.weights
        if data is None or model is None or not self.of_data.is_number:
            return None
        of_data, of_model = (
            torch.full((size,), number, dtype=torch.float64, device=self.device) if rows is None else rows
            for size, (number, rows) in zip(self.sizes, (data, model), strict=True)
        )
        return of_data, of_model


def contrast(
    op: str, energy_fn: EnergyFn, x_data: Tensor, x_model: Tensor, l2: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss, and the mean energies of the data and of the model's samples as constants."""
    reduced = Contrast(op, x_data, x_model, l2, None, "batchmean")
    if not l2:  # then a sample's loss is its energy over the number of samples
        losses = x_data.new_empty(sum(reduced.sizes), dtype=torch.float64)
        fused = contrast_by_kernel(energy_fn, x_data, x_model, reduced, losses)
        if fused is not None:
            of_data, of_model = losses.split(reduced.sizes)
            return fused, of_data.sum(), -of_model.sum()
    energies = energies_of_both(op, energy_fn, x_data, x_model)
    of_data, of_model = energies.detach().split(reduced.sizes)
    return reduced(energies), of_data.mean(), of_model.mean()


def contrast_by_kernel(
    energy_fn: EnergyFn, x_data: Tensor, x_model: Tensor, reduced: Contrast, losses: Tensor | None = None
) -> Tensor | None:
    """The loss from the kernel; None if the kernel does not take the energy, or if the weight of
    the data or of the model's samples is not one number. losses are as in :func:`fused_loss`."""
    if not isinstance(energy_fn, Target) or not x_data.is_cpu or reduced.of_data.rows is not None:
        return None
    # The kernel has one weight for all squares.
    if reduced.l2 and x_data.shape[0] != x_model.shape[0]:
        return None
    data, model = reduced.of_data.weights, reduced.of_model.weights
    if data is None or model is None or not reduced.of_data.is_number or not readable((x_data, x_model)):
        return None
    signed = _signed(*reduced.sizes, data[0], model[0])
    terms = Terms(weight_rows=signed, square=reduced.l2 * data[0])
    return fused_loss(energy_fn, torch.cat((x_data, x_model)), terms, of_energy=True, losses=losses)


@functools.lru_cache(maxsize=8)
def _signed(of_data: int, of_model: int, data: float, model: float) -> Tensor:
    """The weights of both batches' energies, float64, which nothing writes to. They are kept, since
    to make them takes as long as a fifth of a small network's kernel."""

    def made() -> Tensor:
        numbers = [data] * of_data + [-model] * of_model
        return torch.tensor(numbers, dtype=torch.float64, device="cpu")

    return in_mode(made, grad=False)


def energies_of_both(op: str, energy_fn: EnergyFn, x_data: Tensor, x_model: Tensor) -> Tensor:
    """The energies (B + M,) in float32, or float64 for float64 energies, from one evaluation."""
    check_callable(op, "energy_fn", energy_fn, "a function of x")
    count = x_data.shape[0] + x_model.shape[0]
    energy = energy_fn(torch.cat((x_data, x_model)))
    check_energy(op, energy, count)
    energy = energy.reshape(count)
    return energy if energy.dtype is torch.float64 else energy.float()
