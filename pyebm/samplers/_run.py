"""The data of one call of a sampler."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import _ops
from .._checks import Coefficient, checked_number, coefficient
from .._clamps import Clamp
from .._composed.coefficients import require
from .._derivatives import checkable, inside, plain
from ..noise import Noise
from ..targets import Target
from ..targets._numbers import Numbers
from ._extra import check_numbers
from ._state import State

ScoreFn = Callable[..., Tensor]
EnergyFn = Callable[[Tensor], Tensor]
NAN = math.nan  # stands in a number's place when there is one per sample
Bounds = Clamp
Number = tuple[float, Tensor | None]  # a coefficient of an op: a number, or one value per sample


class Run:
    """The data of one call that a body needs: a copy of the state, the noise's seeds and ids, the
    length of the run."""

    call: str
    extra: dict[str, Tensor]
    length: int | None
    n_steps: int
    graph: bool
    followed: bool
    x: Tensor
    noise: Noise
    first: int
    seeds: Tensor | None
    ids: Tensor | None
    may_look: bool
    work: torch.dtype

    def __init__(self, call: str, start: State, length: int | None, n_steps: int, graph: bool) -> None:
        self.call, self.extra, self.length, self.n_steps, self.graph = (
            call,
            start.extra,
            length,
            n_steps,
            graph,
        )
        check_numbers(call, start.extra)
        self.followed = inside()  # whether a transform is active, which samplers can't take part in
        self.x = self.numbers("x0", self.numbers("x0", start.x).detach().clone())
        self.noise = start.noise
        self.first = start.noise.step
        self.seeds, self.ids = start.noise._rows(self.x.shape[0], self.x)
        # Whether the host may read numbers without a wait: they are not on another device, nor
        # traced.
        self.may_look = type(self.x) is Tensor and checkable(self.x)
        self._read: tuple[Target, Numbers] | None = None
        self.work = torch.promote_types(self.x.dtype, torch.float32)  # the dtype of a step's arithmetic

    @property
    def steps(self) -> range:
        """The run's steps, by their numbers in the noise. It is a property, since in compiled code
        it adds a guard on the first step."""
        return range(self.first, self.first + self.n_steps)

    def need_streams(self, count: int) -> None:
        """Checks that the noise's own stream and the count - 1 streams after it exist."""
        if self.noise.stream + count > 2**32:
            raise ValueError(
                f"{self.call}: stream must leave room for {count} streams below 2**32, got"
                f" {self.noise.stream}"
            )

    def kernels(self, backend: str | None) -> dict[str, Callable[..., None]]:
        return _ops.kernels(backend, self.x)

    def column(self, rows: Tensor) -> Tensor:
        """Rows (B,) or (1,) in the shape (B, 1, ...), which broadcasts to x."""
        return rows.reshape(-1, *[1] * (self.x.dim() - 1))

    def name(self, k: int, stream: int = 0) -> Tensor:
        """The name of step k's noise. stream: counted from the noise's own."""
        return self.noise._block(k - self.first, 1, 1 + stream, self.x).squeeze(0).select(0, stream)

    def rows(self, value: float, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.full(self.x.shape[:1], value, dtype=dtype, device=self.x.device)

    def table(self, rows: list[Any], dtype: torch.dtype = torch.float64) -> Tensor:
        """Copies the host's numbers to the device without waiting for it."""
        made = torch.tensor(rows, dtype=dtype, device="cpu")  # whatever the default device
        return made.pin_memory().to(self.x.device, non_blocking=True) if self.x.is_cuda else made

    def numbers(self, name: str, tensor: Tensor) -> Tensor:
        """A user's tensor as a constant, since samplers run under no_grad. A tangent is refused
        (plain)."""
        return plain(self.call, name, tensor) if self.followed else tensor

    def coefficient(self, name: str, value: Coefficient, open_low: bool = False) -> Number:
        if not isinstance(value, Tensor):  # a sampler's number, which may be a constant in compiled code
            return checked_number(self.call, name, value, 0.0, open_low), None
        value = self.numbers(name, value)
        made = coefficient(self.call, name, value, self.x, low=0.0, open_low=open_low)
        # Some kernels check the values too, but each words its message differently.
        if self.may_look and made[1] is not None:
            require(self.call, name, made[1], open_low)
        return made

    def target(self, target: Target) -> Numbers:
        """The target's numbers, which are read once a run."""
        if self._read is None or self._read[0] is not target:
            self._read = target, self.plain(target._numbers_for(self.call, self.x))
        return self._read[1]

    def plain(self, numbers: Numbers) -> Numbers:
        biases = None if numbers.biases is None else self.numbers("the target's condition", numbers.biases)
        return numbers._replace(params=self.numbers("the target", numbers.params), biases=biases)

    def of_step(self, table: Tensor, name: Tensor) -> Tensor:
        """The row of the current step in a table whose first row is the run's first step. In a
        graph only ``name`` holds the step's number."""
        return table.index_select(0, name.narrow(0, 2, 1) - self.first)

    def carried(self, name: str) -> Tensor | None:
        """A copy of the tensor that an earlier run left under this name; None at a chain's first
        step."""
        value = self.extra.get(name)
        return None if value is None else value.to(self.x.device, copy=True)


def number(call: str, name: str, value: Coefficient, low: float = 0.0, open_low: bool = True) -> float:
    """A coefficient that must be one number for all samples."""
    if isinstance(value, Tensor):
        raise TypeError(f"{call}: {name} must be a number, got a tensor")
    return checked_number(call, name, value, low, open_low)
