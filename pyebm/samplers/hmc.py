"""HMC: Hamiltonian Monte Carlo."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .. import _ops
from .._options import checked_count
from ._adaptation import checked_warmup
from ._body import Body
from ._loop import Sampler
from ._metropolis import Metropolis, Names
from ._run import NAN, EnergyFn, Number, Run, ScoreFn, number
from ._schedule import Schedule
from ._step_options import StepOptions


class HMC(Sampler):
    """Hamiltonian Monte Carlo: a fresh momentum, a leapfrog trajectory, Metropolis' test (Duane et
    al. 1987; Neal 2011).

    One step is ``p ~ N(0, T m)``, then ``n_leapfrog`` times ``p + eps/2 s``, ``x + eps p / m``,
    ``p + eps/2 s``, taken with probability ``min(1, exp(-(H' - H) / T))`` for
    ``H = E + sum p^2 / (2 m)``, m being the mass of each element, 1 where none is given. It costs
    n_leapfrog scores. A chain whose proposal has no finite energy (NaN, infinity or -infinity)
    stays; starts at such an energy are as :class:`MALA`'s.

    Args:
        step_size: eps > 0: as for :class:`MALA`.
        n_leapfrog: >= 1; with 1 it is MALA with eta = eps^2 / 2.
        jitter: in [0, 1): every chain draws each step's eps uniformly from step_size (1 - jitter, 1
            + jitter). Without it some trajectories never mix along a direction of p: in a direction
            of standard deviation s, one of length pi s (half a period) mirrors x, and one of length
            2 pi s brings x back, in every step.
        target_acceptance: 0.8, as the adaptation's authors advise.
        energy_fn, score_fn, temperature, mass, warmup, adapt_mass, per, group, mask, backend: as
            for :class:`MALA`.

    It is called as every sampler (docs/samplers.md); with ``warmup`` resume from a State. It draws
    the momentum from the noise's own stream, the uniform of the test from stream + 1, and with
    ``jitter`` the uniform of eps from stream + 2.

    Raises TypeError and ValueError for arguments outside these types and ranges.

    Example:
        >>> import torch, pyebm
        >>> energy = lambda x: 0.5 * x.square().sum(1)
        >>> sampler = pyebm.samplers.HMC(energy, step_size=0.4, n_leapfrog=4)
        >>> chains = sampler(torch.zeros(500, 2), 20, noise=pyebm.Noise(0), thin=1)
        >>> bool(chains.info["acceptance"].mean() > 0.9 and 0.9 < chains.x.std() < 1.1)
        True
    """

    jitter: float
    energy_fn: EnergyFn
    score_fn: ScoreFn | None
    step_size: Schedule
    n_leapfrog: int
    mass: float | Tensor | None
    adapt_mass: bool
    warmup: int
    target_acceptance: float
    per: str
    group: Any
    options: StepOptions

    def __init__(
        self,
        energy_fn: EnergyFn,
        step_size: Schedule,
        n_leapfrog: int,
        *,
        jitter: float = 0.0,
        score_fn: ScoreFn | None = None,
        temperature: Schedule = 1.0,
        mass: float | Tensor | None = None,
        warmup: int = 0,
        adapt_mass: bool = False,
        target_acceptance: float = 0.8,
        per: str = "sample",
        group: Any = None,
        mask: Tensor | None = None,
        backend: str | None = None,
    ) -> None:
        warmup, adapt_mass, target_acceptance = checked_warmup(
            "HMC", warmup, adapt_mass, target_acceptance, per, group
        )
        n_leapfrog = checked_count("HMC", "n_leapfrog", n_leapfrog, 1)
        self.jitter = number("HMC", "jitter", jitter, open_low=False)
        if not self.jitter < 1:
            raise ValueError(f"HMC: jitter must be in [0, 1), got {jitter}")
        self.energy_fn, self.score_fn, self.step_size, self.n_leapfrog = (
            energy_fn,
            score_fn,
            step_size,
            n_leapfrog,
        )
        self.mass, self.adapt_mass = mass, adapt_mass
        self.warmup, self.target_acceptance, self.per, self.group = warmup, target_acceptance, per, group
        self.options = StepOptions(temperature, mask=mask, backend=backend)

    def _body(self, run: Run) -> Body:
        return _Steps(run, self)


class _Steps(Metropolis):
    def __init__(self, run: Run, sampler: HMC) -> None:
        self.n_leapfrog, self.jitter = sampler.n_leapfrog, sampler.jitter
        super().__init__(run, sampler)
        self.streams = 3 if self.jitter else 2
        self.fresh, self.momentum = torch.empty_like(run.x), torch.empty_like(run.x)
        self.fixed = None if self.adapted or self.jitter or self.varies else _half(self.eta)
        self.leapfrog = self.kernels["leapfrog"]
        one = run.rows(1.0)
        self.tail = sampler.options.tail(run, one, one, one)[3:]

    def step(self, names: Names, k: int | None) -> None:
        if self.varies:
            self.begin(names, k)
        eps = self._jittered(names[2]) if self.jitter else self.eta
        half = self.fixed or _half(eps)
        fresh, p, q, mass = self.fresh, self.momentum, self.proposal, self.mass
        # The fresh momentum and its first half kick in one pass: 0 s + eps/2 s + sqrt(T) z.
        spread = NAN if self.temperature_rows is not None else math.sqrt(self.temperature)
        rows = None if self.temperature_rows is None else self.temperature_rows.sqrt()
        self.kernels["affine_step"](
            fresh, self.score, self.score, 0.0, half[0], spread, names[0], None, half[1], rows, *self.tail
        )
        # With a mass, momenta and scores are those of x / root, in which the mass is 1. The
        # velocity of x is then root p.
        begun = fresh if mass is None else mass.root * fresh
        _ops.call(self.leapfrog, (q, begun, eps[0], None, self.x), (None, eps[1]))
        for i in range(1, self.n_leapfrog):
            score = self.masked(self.fits(self.potential.score(q), at=q))
            if mass is not None:
                score = mass.root * (mass.root * score)
            _ops.call(self.leapfrog, (q, p, eps[0], score), (None, begun if i == 1 else None, eps[1]))
        energy, score = self.energy_and_score(q)
        last = fresh if self.n_leapfrog == 1 else p if mass is None else mass.divided(p)
        self.decide(energy, score, half, self.twice_temperature(), names[1], k, fresh, last)

    def _jittered(self, name: Tensor) -> Number:
        # The uniforms are float32 numbers, which are widened to float64.
        uniform = torch.empty((self.x.shape[0], 1), dtype=torch.float64, device=self.x.device)
        _ops.call(self.kernels["uniform_"], (uniform, name), self.named)
        size, rows = self.eta
        return NAN, (1.0 + self.jitter * (2.0 * uniform.flatten() - 1.0)) * (size if rows is None else rows)


def _half(eps: Number) -> Number:
    return 0.5 * eps[0], None if eps[1] is None else 0.5 * eps[1]
