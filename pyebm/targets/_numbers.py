"""A target in the form that a chain takes."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor


class Numbers(NamedTuple):
    """A target in the form that a chain takes: the op that knows the target, and that op's
    arguments."""

    op: str
    which: int | Tensor
    params: Tensor
    biases: Tensor | None = None
    biases_per_step: bool | None = None

    @property
    def score_op(self) -> str:
        return "target_score" if self.op == "langevin_chain" else "network_score"

    @property
    def density(self) -> tuple[int, Tensor, Tensor | None, Tensor | None]:
        """The target in the form of the ops that take both kinds (_schemas.Density)."""
        if isinstance(self.which, Tensor):
            return 0, self.params, self.which, self.biases
        return self.which, self.params, None, None

    def tail(self) -> tuple[Any, ...]:
        """The arguments after those that all chains have."""
        return () if self.op == "langevin_chain" else (self.biases, self.biases_per_step)
