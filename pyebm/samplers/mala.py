"""MALA: the Metropolis-adjusted Langevin algorithm."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .._checks import Coefficient
from ._body import Body, EnergyFn, Number, Run, ScoreFn, StepOptions
from ._loop import Sampler
from ._metropolis import Metropolis, Names, check_warmup


class MALA(Sampler):
    """Langevin steps that are accepted or rejected, so that the law is exact at any step size (Roberts & Tweedie 1996).

    The proposal is :class:`Langevin`'s step; it is taken with probability
    ``min(1, p(y) q(x|y) / (p(x) q(y|x)))``, for p^(1/T) at temperature T. A chain whose proposal has no finite energy stays.

    Args:
        energy_fn: E: (B, ...) -> (B,), for p(x) = exp(-E(x)) / Z, or one of :mod:`pyebm.targets`. A sample's energy must depend on
            that sample alone.
        step_size: eta > 0, a number or a tensor (), (B,) or (B, 1, ...).
        score_fn: -grad E, where there is something better than autograd; targets bring their own.
        temperature: T > 0, a number.
        warmup: for so many steps the step size is adapted to ``target_acceptance``, by dual averaging (Hoffman & Gelman 2014),
            then held. States of the warm-up are not samples of p: drop them.
        target_acceptance: 0.574 is best for MALA in high dimension (Roberts & Rosenthal 1998).
        per: "sample" adapts each chain on its own, so that it does not depend on its batch; "batch" all chains together.
        mask, backend: as in :func:`pyebm.langevin_step`; the chain lives on the elements where the mask is True.

    Called as every sampler (docs/samplers.md); with ``warmup`` resume from a State, which carries the adaptation. Draws the
    proposal from the noise's own stream, the uniform of the test from stream + 1, element 0 of each sample.

    Raises TypeError and ValueError for arguments that are not so.

    Example:
        >>> import torch, pyebm
        >>> sampler = pyebm.samplers.MALA(lambda x: 0.5 * x.square().sum(1), step_size=1.0)
        >>> chains = sampler(torch.zeros(500, 2), 100, noise=pyebm.Noise(0), thin=10)
        >>> bool(0.5 < chains.info["acceptance"].mean() < 0.9 and 0.9 < chains.x.std() < 1.1)
        True
    """

    def __init__(
        self,
        energy_fn: EnergyFn,
        step_size: Coefficient,
        *,
        score_fn: ScoreFn | None = None,
        temperature: float = 1.0,
        warmup: int = 0,
        target_acceptance: float = 0.574,
        per: str = "sample",
        mask: Tensor | None = None,
        backend: str | None = None,
    ) -> None:
        check_warmup("MALA", warmup, target_acceptance, per)
        self.energy_fn, self.score_fn, self.step_size = energy_fn, score_fn, step_size
        self.warmup, self.target_acceptance, self.per = warmup, target_acceptance, per
        self.options = StepOptions(temperature, mask=mask, backend=backend)

    def _body(self, run: Run) -> Body:
        return _Steps(run, self)


class _Steps(Metropolis):
    def __init__(self, run: Run, sampler: Any) -> None:
        super().__init__(run, sampler)
        self.tail = sampler.options.tail(run, self.eta[1], None)
        self.fixed = None if self.adapted else self._scale()

    def _scale(self) -> Number:
        """4 eta T."""
        (eta, rows), four = self.eta, 4.0 * self.temperature
        return four * eta, None if rows is None else four * rows.double()

    def step(self, names: Names, k: int | None) -> None:
        y = self.proposal
        self.kernels["langevin_step"](y, self.x, self.score, self.eta[0], self.temperature, names[0], *self.tail)
        energy, score = self.both(y)
        # (|y - x - eta s(x)|^2 - |x - y - eta s(y)|^2) / (4 eta T), both from x and y as they were rounded.
        self.decide(energy, score, self.eta, self.fixed or self._scale(), names[1], k)
