"""The progress of a run, and the result that it returns at its end or when it is interrupted."""

from __future__ import annotations

import math
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from .._stretches import clock
from ._body import Body
from ._run import Run
from ._state import State, Trajectory

_REMEMBER = 1.0  # seconds between two copies of an unfinished run's state


class Reports:
    """The info that a body reported with each kept state."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Any]] = {}

    def add(self, infos: dict[str, Any]) -> None:
        """Take in the reports of some states (:meth:`Body.infos`)."""
        for name, values in infos.items():
            self.rows.setdefault(name, []).append(values)

    def stacked(self, like: Tensor, count: int) -> dict[str, Tensor]:
        """The reports of the first ``count`` kept states, stacked by name."""
        return {
            name: torch.cat(rows).narrow(0, 0, count)
            if isinstance(rows[0], Tensor)
            else torch.tensor([*chain(*rows)][:count], dtype=torch.float64, device=like.device)
            for name, rows in self.rows.items()
            if count
        }


class Progress:
    """The steps done, the states kept, and the result that a run leaves if it is interrupted.

    A signal may come in the middle of a step, when the state's tensors are half written. So the
    state is copied about once a second, which costs less than a hundredth of the time. On a GPU,
    where memory is scarce, no copy is made.
    """

    def __init__(self, run: Run, body: Body, start: State, kept: Tensor | None, thin: int | None) -> None:
        self.run, self.body, self.start, self.kept, self.thin = run, body, start, kept, thin
        self.done, self.reports = 0, Reports()
        self.watched = False  # whether a callback is running, so that no step is under way
        self.copied = start
        self.due = clock() + _REMEMBER if run.may_look else math.inf

    def state(self) -> State:
        run = self.run
        return State(run.x, self.start.noise.at(step=run.first + self.done), self.body.carried(self.done))

    def trajectory(self, state: State, done: int, totals: dict[str, Tensor]) -> Trajectory:
        assert self.kept is not None and self.thin is not None  # noqa: PT018
        count = done // self.thin
        return Trajectory(
            self.kept.narrow(0, 0, count), state, self.reports.stacked(self.run.x, count) | totals, self.thin
        )

    def remember(self) -> None:
        """Copy the state, if the last copy is old enough."""
        if self.done == self.run.n_steps or (now := clock()) < self.due:
            return
        state = self.state()
        self.copied = State(
            state.x.clone(), state.noise, {name: value.clone() for name, value in state.extra.items()}
        )
        after = clock()
        self.due = after + max(_REMEMBER, 100 * (after - now))

    def so_far(self) -> State | Trajectory:
        state = self.state() if self.watched else self.copied
        return state if self.thin is None else self.trajectory(state, state.noise.step - self.run.first, {})
