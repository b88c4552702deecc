"""Langevin: the unadjusted Langevin algorithm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .._checks import Coefficient
from ..langevin import Clamp
from ._body import Body, Run, StepOptions, score_of, step_size_and_temperature
from ._loop import Sampler


class Langevin(Sampler):
    """The unadjusted Langevin algorithm: ``x <- x + eta s(x) + sqrt(2 eta T) z``, n times (Roberts & Tweedie 1996).

    Around a closed-form target it runs :func:`pyebm.langevin_chain`, one launch from one callback to the next; the bits are those
    of the loop of steps. Without Metropolis' test its law is biased by O(eta); :class:`MALA` is not.

    Args:
        score_fn: maps x (B, ...) to grad log p(x); or one of :mod:`pyebm.targets`. For an energy:
            ``functools.partial(pyebm.energy_score, energy_fn)``.
        step_size: eta > 0, a number or a tensor (), (B,) or (B, 1, ...).
        temperature, clamp, score_clip, mask, backend: as in :func:`pyebm.langevin_step`.

    Called as every sampler (docs/samplers.md); a run of n + m steps equals, bit for bit, a run of n from ``noise`` followed by one
    of m from its result with ``noise.at(step=noise.step + n)``. Draws from the noise's own stream.

    Raises as :func:`pyebm.langevin_step`.

    Example:
        >>> import torch, pyebm
        >>> sampler = pyebm.samplers.Langevin(lambda x: -x, step_size=0.1)
        >>> x = sampler(torch.zeros(1000, 2), 100, noise=pyebm.Noise(0))
        >>> bool((x.var() - 1 / (1 - 0.1 / 2)).abs() < 0.1)  # the closed-form stationary variance
        True
    """

    def __init__(
        self,
        score_fn: Any,
        step_size: Coefficient,
        *,
        temperature: Coefficient = 1.0,
        clamp: Clamp | None = None,
        score_clip: float | None = None,
        mask: Tensor | None = None,
        backend: str | None = None,
    ) -> None:
        self.score_fn, self.step_size = score_fn, step_size
        self.options = StepOptions(temperature, clamp, score_clip, mask, backend)

    def _body(self, run: Run) -> Body:
        return _Steps(run, self)


class _Steps(Body):
    def __init__(self, run: Run, sampler: Langevin) -> None:
        super().__init__(run)
        options = sampler.options
        (eta, eta_rows), (t, t_rows) = step_size_and_temperature(run, sampler.step_size, options.temperature)
        self.score_fn = score_of(run.call, sampler.score_fn, options.backend)
        self.kernel = run.kernels(options.backend)["langevin_step"]
        self.numbers, self.tail = (eta, t), options.tail(run, eta_rows, t_rows)

    def step(self, names: Sequence[Tensor], k: int | None) -> None:
        del k
        self.kernel(self.x, None, self.fits(self.score_fn(self.x)), *self.numbers, names[0], *self.tail)
