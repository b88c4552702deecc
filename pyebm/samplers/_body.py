"""One run of a sampler. Everything that its steps share is checked once, so that a step is only its
arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from .._checks import check_like
from .._derivatives import plain
from ._run import Run


class Body:
    """A sampler's step, with the tensors it works on. Their addresses never change, so that a graph
    can replay the step."""

    run: Run
    x: Tensor

    streams = 1  # draws per step; draw j takes the noise's stream + j
    fused = False  # whether it has an ``advance``, many steps in one kernel
    keeps = False  # whether ``advance`` keeps the thinned states too
    by_step = 0  # steps at the beginning of the run that ``advance`` can't take
    takes_names = True  # whether its steps need the names of their noise

    def __init__(self, run: Run) -> None:
        self.run, self.x = run, run.x
        self._shape, self._dtype, self._device = run.x.shape, run.x.dtype, run.x.device

    def at_once(self) -> int:
        """The steps of the first call of ``advance``; its time decides how many the next calls
        take."""
        return 16

    def step(self, names: Sequence[Tensor], k: int | None) -> None:
        """Advance ``x`` in place. k is the step's number in the noise, or None in a graph, where
        only names[0][2] holds it."""
        raise NotImplementedError

    def advance(self, done: int, count: int, kept: Tensor | None, thin: int | None) -> None:
        """Take ``count`` steps at once. A body that ``keeps`` writes the states after multiples of
        thin to ``kept``, if given."""
        raise NotImplementedError

    def finish(self) -> None:
        """Do what follows the last step of a schedule, such as the final denoising."""

    @property
    def tells(self) -> bool:
        """Whether :meth:`info` ever returns anything."""
        return type(self).info is not Body.info

    def info(self, k: int) -> dict[str, Any]:
        """Numbers and tensors on the device, for callbacks and trajectories, after the last call's
        last step, k."""
        del k
        return {}

    def infos(self, steps: range) -> dict[str, Any]:
        """The same after each of these steps of the last call, stacked by name; numbers as a list.
        A body that ``keeps`` states inside a call, and whose info does not depend on the step's
        number alone, defines it."""
        each = [self.info(k) for k in steps]
        return {name: stacked([info[name] for info in each]) for name in each[0]}

    def totals(self, done: int) -> dict[str, Tensor]:
        """Tensors that describe the whole run, for trajectories."""
        del done
        return {}

    def look_back(self, done: int) -> None:
        """Warn, at the run's end, of anything that went wrong, if the host can read it without a
        wait."""

    def carried(self, done: int) -> dict[str, Tensor]:
        """The tensors of the state beyond x, by name."""
        del done
        return {}

    def fits(self, score: Tensor, name: str = "score", at: Tensor | None = None) -> Tensor:
        """Checks that the score goes with x, since a kernel reads as many elements as x has;
        returns it.

        at: the tensor that the score function was given, if it is not x.
        """
        given = self.x if at is None else at
        if given.shape != self._shape or given.dtype is not self._dtype:
            raise ValueError(
                f"{self.run.call}: a score function or callback must leave the state's shape and dtype as"
                f" they are, {tuple(self._shape)} and {self._dtype}, got {tuple(given.shape)} and"
                f" {given.dtype}"
            )
        if self.run.followed and isinstance(score, Tensor):
            score = plain(self.run.call, name, score)
        if type(score) is Tensor and score.layout is torch.strided and score.dtype is self._dtype:
            if not is_compiling() and score._is_zerotensor():  # autograd's zero tensors have no memory
                score = score.clone()
            if score.shape == self._shape and score.device == self._device:
                return score
        return check_like(self.run.call, name, score, "x", self.x)


def stacked(values: list[Any]) -> Any:
    """The tensors as one; numbers as they are."""
    return torch.stack(values) if isinstance(values[0], Tensor) else values
