"""How far a run has come: what it hands back, at its end or when it is interrupted."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .._stretches import clock
from ._body import Body, Run
from ._state import State, Trajectory

_REMEMBER = 1.0  # seconds between two copies of an unfinished run's state


class Reports:
    """What a body reported with each kept state."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Any]] = {}

    def add(self, info: dict[str, Any]) -> None:
        for name, value in info.items():
            self.rows.setdefault(name, []).append(value.clone() if isinstance(value, Tensor) else value)

    def stacked(self, like: Tensor, count: int) -> dict[str, Tensor]:
        """Of the first count kept states."""
        return {
            name: torch.stack(rows[:count])
            if isinstance(rows[0], Tensor)
            else torch.tensor(rows[:count], dtype=torch.float64, device=like.device)
            for name, rows in self.rows.items()
            if count
        }


class Progress:
    """How far a run is, what it has kept, and what it leaves if it is interrupted.

    A signal may come in the middle of a step, whose tensors are then of no use. So a copy is made
    about once a second, of which the making costs less than a hundredth of the time; on a GPU,
    whose memory is dear, none.
    """

    def __init__(self, run: Run, body: Body, start: State, kept: Tensor | None, thin: int | None) -> None:
        self.run, self.body, self.start, self.kept, self.thin = run, body, start, kept, thin
        self.done, self.reports = 0, Reports()
        self.watched = False  # a callback is looking: no step is under way
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
        """Make the copy, if it is time."""
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
