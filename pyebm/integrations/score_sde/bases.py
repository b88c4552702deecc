"""Bases for predictors and correctors of your own, with noise that has a name: in place of
score_sde's ``sampling.Predictor`` and ``sampling.Corrector``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor

from ..._checks import check_samples
from ...noise import Noise
from .._draws import Draws, Source
from ._scores import ScoreFn


class _Update(ABC):
    sde: Any
    score_fn: ScoreFn
    _draws: Draws

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

    sde: Any
    score_fn: ScoreFn
    rsde: Any

    def __init__(
        self, sde: Any, score_fn: ScoreFn, probability_flow: bool = False, *, noise: Draws | Source = None
    ) -> None:
        self.sde, self.score_fn = sde, score_fn
        self.rsde = sde.reverse(score_fn, probability_flow)
        self._draws = Draws.shared(noise)


class Corrector(_Update):
    """A corrector: an ``update_fn`` that takes its normals from ``self.normals(x)``."""

    sde: Any
    score_fn: ScoreFn
    snr: float
    n_steps: int

    def __init__(
        self, sde: Any, score_fn: ScoreFn, snr: float, n_steps: int, *, noise: Draws | Source = None
    ) -> None:
        self.sde, self.score_fn, self.snr, self.n_steps = sde, score_fn, snr, n_steps
        self._draws = Draws.shared(noise)
