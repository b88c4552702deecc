"""The options that the samplers' steps share."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .._clamps import Clamp
from .._step_options import step_options
from ..targets import Target
from ._clamped import Clamped
from ._run import Bounds, Run


class StepOptions:
    """The options of :func:`pyebm.langevin_step` besides the step size; also clamps by element."""

    temperature: Any
    clamp: Bounds | None
    score_clip: float | None
    mask: Tensor | None
    backend: str | None

    def __init__(
        self,
        temperature: Any = 1.0,
        clamp: Bounds | None = None,
        score_clip: float | None = None,
        mask: Tensor | None = None,
        backend: str | None = None,
    ) -> None:
        self.temperature, self.clamp, self.score_clip, self.mask, self.backend = (
            temperature,
            clamp,
            score_clip,
            mask,
            backend,
        )

    def tail(self, run: Run, *rows: Tensor | None) -> tuple[Any, ...]:
        """The arguments of an update after its noise's name: rows, mean, mask, low, high,
        score_clip, seeds, ids; empty if all of them are None."""
        options = step_options(run.call, run.x, self._numbers(), self.score_clip, self.mask)
        tail = (*rows, None, *options, run.seeds, run.ids)
        return tail if any(value is not None for value in tail) else ()

    def of_a_chain(self, run: Run) -> tuple[Tensor | None, float | None, float | None, float | None]:
        """(mask, low, high, score_clip) as a chain's op takes them; the clamp only if it is one
        that the kernels do."""
        return step_options(run.call, run.x, self._numbers(), self.score_clip, self.mask)

    def fits_a_chain(self, target: Target, run: Run) -> bool:
        """Whether the target has a chain's op here, and that op has all the options asked for."""
        limited = self.mask is not None or self.score_clip is not None
        return (self.clamp is None or self._numbers() is not None) and target._has_chain(
            self.backend, run.x, limited
        )

    def after(self, run: Run) -> Clamped | None:
        """The clamp that must be done after a step, or None."""
        return None if self.clamp is None or self._numbers() is not None else Clamped(run, self)

    def _numbers(self) -> Clamp | None:
        """The clamp if it is a pair of numbers, else None."""
        clamp = self.clamp
        if isinstance(clamp, (tuple, list)) and len(clamp) == 2:
            return None if any(isinstance(side, Tensor) and side.numel() != 1 for side in clamp) else clamp
        return clamp  # anything else goes to step_options, which says what is wrong

    def expanded_mask(self, run: Run) -> Tensor | None:
        return step_options(run.call, run.x, mask=self.mask)[0]
