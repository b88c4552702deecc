"""The bases of the predictors and correctors, those of your own too, in place of score_sde's
``sampling.Predictor`` and ``sampling.Corrector``: their noise has a name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

from torch import Tensor

from ..._checks import check_samples, checked_number
from ..._options import check_callable, checked_count, checked_flag
from ...noise import Noise
from .._draws import Draws, Source
from ._scores import ScoreFn


class _Update(ABC):
    sde: Any
    score_fn: ScoreFn

    def __init__(self, sde: Any, score_fn: ScoreFn, noise: Draws | Source) -> None:
        check_callable(type(self).__name__, "score_fn", score_fn)
        self.sde, self.score_fn = sde, score_fn
        self._draws = Draws.shared(noise)

    def normals(self, x: Tensor) -> Tensor:
        """The next normals, like x, in place of ``torch.randn_like(x)``."""
        check_samples(type(self).__name__, "x", x)
        drawn = self._draws(x)
        if isinstance(drawn, Noise):
            return drawn.randn(x.shape, dtype=x.dtype, device=x.device)
        given: Tensor = drawn
        return given

    @abstractmethod
    def update_fn(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The next state, and the same without the noise."""


class Predictor(_Update):
    """A predictor: an ``update_fn`` that takes its normals from ``self.normals(x)``. ``self.rsde``
    is the SDE's own reverse, as in score_sde.

    Example:
        >>> from pyebm.integrations import score_sde
        >>> class Euler(score_sde.Predictor):
        ...     def update_fn(self, x, t):
        ...         drift, diffusion = self.rsde.sde(x, t)
        ...         mean = x - drift / self.rsde.N
        ...         return mean + diffusion[:, None] * self.rsde.N**-0.5 * self.normals(x), mean
    """

    probability_flow: bool

    def __init__(
        self, sde: Any, score_fn: ScoreFn, probability_flow: bool = False, *, noise: Draws | Source = None
    ) -> None:
        super().__init__(sde, score_fn, noise)
        self.probability_flow = checked_flag(type(self).__name__, "probability_flow", probability_flow)

    @cached_property
    def rsde(self) -> Any:
        """The reverse SDE, made where it is asked for: our own predictors do without it."""
        return self.sde.reverse(self.score_fn, self.probability_flow)


class Corrector(_Update):
    """A corrector: an ``update_fn`` that takes its normals from ``self.normals(x)``."""

    snr: float
    n_steps: int

    def __init__(
        self, sde: Any, score_fn: ScoreFn, snr: float, n_steps: int, *, noise: Draws | Source = None
    ) -> None:
        super().__init__(sde, score_fn, noise)
        call = type(self).__name__
        self.snr, self.n_steps = (
            checked_number(call, "snr", snr, 0.0),
            checked_count(call, "n_steps", n_steps),
        )


class NonePredictor(Predictor):
    """The predictor registered as "none": it leaves x as it is."""

    def update_fn(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """x, twice."""
        return x, x


class NoneCorrector(Corrector):
    """The corrector registered as "none": it leaves x as it is."""

    def update_fn(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """x, twice."""
        return x, x
