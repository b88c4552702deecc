"""HMC: Hamiltonian Monte Carlo."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .._checks import Coefficient
from ._body import Body, EnergyFn, Run, ScoreFn, StepOptions
from ._loop import Sampler
from ._metropolis import Metropolis, Names, check_warmup


class HMC(Sampler):
    """Hamiltonian Monte Carlo: a fresh momentum, a leapfrog trajectory, Metropolis' test (Duane et al. 1987; Neal 2011).

    One step is ``p ~ N(0, T)``, then ``n_leapfrog`` times ``p + eps/2 s``, ``x + eps p``, ``p + eps/2 s``, taken with probability
    ``min(1, exp(-(H' - H) / T))`` for ``H = E + |p|^2 / 2`` (unit masses). It costs n_leapfrog scores.

    Args:
        step_size: eps > 0, a number or a tensor (), (B,) or (B, 1, ...).
        n_leapfrog: >= 1; with 1 it is MALA with eta = eps^2 / 2. A trajectory as long as a period of p's widest direction comes
            back to where it began: for a standard normal keep eps n_leapfrog near 1.5, well below 2 pi.
        target_acceptance: 0.8, as the adaptation's authors advise.
        energy_fn, score_fn, temperature, warmup, per, mask, backend: as for :class:`MALA`.

    Called as every sampler (docs/samplers.md); with ``warmup`` resume from a State. Draws the momentum from the noise's own stream,
    the uniform of the test from stream + 1.

    Raises TypeError and ValueError for arguments that are not so.

    Example:
        >>> import torch, pyebm
        >>> sampler = pyebm.samplers.HMC(lambda x: 0.5 * x.square().sum(1), step_size=0.4, n_leapfrog=4)
        >>> chains = sampler(torch.zeros(500, 2), 20, noise=pyebm.Noise(0), thin=1)
        >>> bool(chains.info["acceptance"].mean() > 0.9 and 0.9 < chains.x.std() < 1.1)
        True
    """

    def __init__(
        self,
        energy_fn: EnergyFn,
        step_size: Coefficient,
        n_leapfrog: int,
        *,
        score_fn: ScoreFn | None = None,
        temperature: float = 1.0,
        warmup: int = 0,
        target_acceptance: float = 0.8,
        per: str = "sample",
        mask: Tensor | None = None,
        backend: str | None = None,
    ) -> None:
        check_warmup("HMC", warmup, target_acceptance, per)
        if n_leapfrog < 1:
            raise ValueError(f"HMC: n_leapfrog must be >= 1, got {n_leapfrog}")
        self.energy_fn, self.score_fn, self.step_size, self.n_leapfrog = energy_fn, score_fn, step_size, n_leapfrog
        self.warmup, self.target_acceptance, self.per = warmup, target_acceptance, per
        self.options = StepOptions(temperature, mask=mask, backend=backend)

    def _body(self, run: Run) -> Body:
        return _Steps(run, self)


class _Steps(Metropolis):
    def __init__(self, run: Run, sampler: HMC) -> None:
        super().__init__(run, sampler)
        self.n_leapfrog = sampler.n_leapfrog
        self.momentum = torch.empty_like(run.x)
        one = run.rows(1.0)
        self.tail = sampler.options.tail(run, one, one, one)[3:]

    def step(self, names: Names, k: int | None) -> None:
        number, rows = self.eta
        half = (0.5 * number, None if rows is None else 0.5 * rows)
        minus_half = (-half[0], None if rows is None else -half[1])  # type: ignore[operator]
        eps: Any = number if rows is None else self.run.column(rows).to(self.run.work)
        p, q, t = self.momentum, self.proposal, self.temperature
        # The fresh momentum and its first half kick in one pass: 0 s + eps/2 s + sqrt(T) z.
        head = (p, self.score, self.score, 0.0, half[0], math.sqrt(t), names[0])
        self.kernels["affine_step"](*head, None, half[1], None, *self.tail)
        kinetic = self.squares.of(self.score, minus_half, p, 1.0)
        q.copy_(self.x)
        for i in range(self.n_leapfrog):
            if i:
                p.add_(self.masked(self.fits(self.potential.score(q))) * eps)
            q.add_(p * eps)  # not add_(alpha=eps): a fused multiply-add would make bits depend on an element's place
        energy, score = self.both(q)
        change = self.squares.of(score, half, p, 1.0) - kinetic
        self.decide((self.energy - energy - 0.5 * change) / t, energy.double(), score, names[1], k)
