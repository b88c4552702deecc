"""Independent wells: every element of a sample in the same one-dimensional potential."""

from __future__ import annotations

import torch
from torch import Tensor

from ._target import Target, positive


class Harmonic(Target):
    """``energy(x) = stiffness / 2 * sum_i (x_i - center)^2``: a normal with variance 1 / stiffness, of any shape (B, ...).

    Args:
        stiffness: > 0.
        center: the minimum, the same for all elements.

    Raises ValueError for numbers outside these ranges, TypeError for what is no number.

    Example:
        >>> import torch, pyebm
        >>> pyebm.targets.Harmonic(stiffness=2.0)(torch.ones(1, 3))
        tensor([3.])
    """

    kind = "harmonic"

    def __init__(self, stiffness: float = 1.0, center: float = 0.0) -> None:
        super().__init__()
        self._register("stiffness", stiffness, positive, "be > 0 and finite")
        self._register("center", center)

    def energy(self, x: Tensor) -> Tensor:
        work, of = self._work(x)
        return 0.5 * of("stiffness") * (work - of("center")).square().sum(1)

    def _numbers(self) -> Tensor:
        return torch.stack((self.get_buffer("stiffness"), self.get_buffer("center"))).double()


class DoubleWell(Target):
    """``energy(x) = barrier * sum_i ((x_i / width)^2 - 1)^2``: minima at x_i = -width and width, barriers of that height between.

    With width = 1 it is the double well of torchebm (its default barrier is 2 too). Any shape (B, ...).

    Args:
        barrier: the energy at x_i = 0, > 0.
        width: where the minima are, > 0.

    Raises ValueError for numbers outside these ranges, TypeError for what is no number.

    Example:
        >>> import torch, pyebm
        >>> pyebm.targets.DoubleWell(barrier=3.0)(torch.tensor([[0.0, 1.0], [1.0, -1.0]]))
        tensor([3., 0.])
    """

    kind = "double_well"

    def __init__(self, barrier: float = 2.0, width: float = 1.0) -> None:
        super().__init__()
        self._register("barrier", barrier, positive, "be > 0 and finite")
        self._register("width", width, positive, "be > 0 and finite")

    def energy(self, x: Tensor) -> Tensor:
        work, of = self._work(x)
        return of("barrier") * ((work / of("width")).square() - 1).square().sum(1)

    def _numbers(self) -> Tensor:
        """The score is x (a - b x^2)."""
        square = self.get_buffer("width").double().square()
        linear = 4 * self.get_buffer("barrier").double() / square
        return torch.stack((linear, linear / square))
