"""Step sizes and temperatures that change from step to step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .._checks import Coefficient, as_rows
from .._options import shown
from ._run import NAN, Number, Run

Schedule = Coefficient | Sequence[float] | Callable[[int], float]


class Scheduled:
    """A coefficient: one number, one per sample, or one per step (a list, a tensor, or a function
    of the step).

    Steps are counted as in the noise, so a run that goes on from ``noise.at(step=k)`` goes on in
    the schedule too; the first number of a list belongs to step 0. Numbers of a list are checked
    before a run, those of a function when they are computed.

    Args:
        open_low: the numbers must be > 0, else >= 0.
        by_sample: whether there may be one number per sample.
    """

    run: Run
    name: str
    open_low: bool
    varies: bool

    def __init__(
        self, run: Run, name: str, value: Schedule, open_low: bool = False, by_sample: bool = True
    ) -> None:
        self.run, self.name, self.open_low = run, name, open_low
        self.table: Tensor | None
        self.numbers: Sequence[float] | None = None
        self.function: Callable[[int], float] | None = None
        self.constant: Number = (NAN, None)
        self.varies, self.table = False, None
        if type(value) is float:
            self.constant = self._checked(name, value)
            if by_sample:  # else the kernel takes only a number
                self.constant = as_rows(self.constant[0], run.x)
            return
        if isinstance(value, Tensor) and is_schedule(value):
            value = value if self._one_a_sample(value, by_sample) else self._on_host(value)
        if isinstance(value, (list, tuple)):
            self.numbers = self._listed(value)
        elif callable(value) and not isinstance(value, Tensor):
            self.function = value
        elif isinstance(value, Tensor) and not by_sample and (value.is_nested or value.numel() != 1):
            raise TypeError(f"{run.call}: {name} must be a number or one per step, got {shown(value)}")
        else:
            number, rows = self._checked(name, value)  # type: ignore[arg-type]
            # A coefficient that all samples share goes into further arithmetic, so it is float64,
            # as a Python number is.
            self.constant = number, rows if by_sample or rows is None else rows.double()
        self.varies = self.numbers is not None or self.function is not None
        if run.graph and self.varies:
            self.table = run.table([self.number(k) for k in run.steps])

    def at(self, k: int) -> Number:
        return (self.number(k), None) if self.varies else self.constant

    def number(self, k: int) -> float:
        """The schedule's number at step k."""
        if self.numbers is not None:
            return self.numbers[k]
        assert self.function is not None
        return self._one(f"{self.name}({k})", self.function(k))

    def part(self, first: int, count: int) -> tuple[float, Tensor | None, bool | None]:
        """(number, rows, per_step) for the op ``langevin_chain`` and the steps first, ...,
        first + count - 1."""
        if not self.varies:
            return *self.constant, None
        return NAN, self.run.table([self.number(k) for k in range(first, first + count)]), True

    def on_device(self, name: Tensor) -> Number:
        """The coefficient in a graph, for the step that the noise's ``name`` holds."""
        return self.constant if self.table is None else (NAN, self.run.of_step(self.table, name))

    def _one_a_sample(self, value: Tensor, by_sample: bool) -> bool:
        """Whether a tensor (K,) has one number per sample rather than per step: it does if K is the
        batch size."""
        run, count = self.run, value.shape[0]
        if count == run.x.shape[0] and not by_sample:
            raise ValueError(
                f"{run.call}: {self.name} can't differ between samples; for one per step give a list, "
                f"got a tensor of shape ({count},) for {count} samples"
            )
        return count == run.x.shape[0]

    def _on_host(self, value: Tensor) -> list[float]:
        if not value.is_cpu:
            raise ValueError(
                f"{self.run.call}: {self.name} with one value per step must be on the CPU, got {value.device}"
            )
        numbers: list[float] = self.run.numbers(self.name, value).detach().to(torch.float64).tolist()
        return numbers

    def _listed(self, values: Sequence[float]) -> list[float]:
        run = self.run
        if run.first + run.n_steps > len(values):
            raise ValueError(
                f"{run.call}: {self.name} must have one number for each of the noise's steps from 0 to "
                f"{run.first + run.n_steps - 1}, got {len(values)}"
            )
        numbers = [math.nan] * len(values)
        for k in range(
            run.first, min(run.first + run.n_steps + 1, len(values))
        ):  # some samplers read one step ahead
            numbers[k] = self._one(f"{self.name}[{k}]", values[k])
        return numbers

    def _one(self, name: str, value: Any) -> float:
        if isinstance(value, Tensor):
            if value.numel() != 1 or not value.is_cpu:
                got = f"a tensor {tuple(value.shape)} on {value.device}"
                raise TypeError(f"{self.run.call}: {name} must be a number, got {got}")
            value = self.run.numbers(name, value).item()
        return self._checked(name, value)[0]

    def _checked(self, name: str, value: Coefficient) -> Number:
        return self.run.coefficient(name, value, self.open_low)


def is_schedule(value: object) -> bool:
    """Whether its numbers can be checked only in a run: a list, a function, or a tensor (K,), of
    steps or of samples."""
    if isinstance(value, Tensor):
        return value.dim() == 1 and value.numel() != 1
    return callable(value) or isinstance(value, (list, tuple))
