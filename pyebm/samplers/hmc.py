"""HMC: Hamiltonian Monte Carlo."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import _ops, reference
from .._checks import Coefficient
from ._body import NAN, Body, EnergyFn, Number, Run, ScoreFn, StepOptions, number
from ._loop import Sampler
from ._metropolis import Metropolis, Names, check_warmup


class HMC(Sampler):
    """Hamiltonian Monte Carlo: a fresh momentum, a leapfrog trajectory, Metropolis' test (Duane et al. 1987; Neal 2011).

    One step is ``p ~ N(0, T)``, then ``n_leapfrog`` times ``p + eps/2 s``, ``x + eps p``, ``p + eps/2 s``, taken with probability
    ``min(1, exp(-(H' - H) / T))`` for ``H = E + |p|^2 / 2`` (unit masses). It costs n_leapfrog scores.

    Args:
        step_size: eps > 0, a number or a tensor (), (B,) or (B, 1, ...).
        n_leapfrog: >= 1; with 1 it is MALA with eta = eps^2 / 2.
        jitter: in [0, 1): every chain draws each step's eps uniformly from step_size (1 - jitter, 1 + jitter). Without it a
            trajectory that takes half a period of one of p's directions mirrors x there, a whole one brings it back, for ever:
            pi s and 2 pi s, for a direction of standard deviation s.
        target_acceptance: 0.8, as the adaptation's authors advise.
        energy_fn, score_fn, temperature, warmup, per, mask, backend: as for :class:`MALA`.

    Called as every sampler (docs/samplers.md); with ``warmup`` resume from a State. Draws the momentum from the noise's own stream,
    the uniform of the test from stream + 1, with ``jitter`` that of eps from stream + 2.

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
        jitter: float = 0.0,
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
        self.jitter = number("HMC", "jitter", jitter, open_low=False)
        if not self.jitter < 1:
            raise ValueError(f"HMC: jitter must be in [0, 1), got {jitter}")
        self.energy_fn, self.score_fn, self.step_size, self.n_leapfrog = energy_fn, score_fn, step_size, n_leapfrog
        self.warmup, self.target_acceptance, self.per = warmup, target_acceptance, per
        self.options = StepOptions(temperature, mask=mask, backend=backend)

    def _body(self, run: Run) -> Body:
        return _Steps(run, self)


class _Steps(Metropolis):
    def __init__(self, run: Run, sampler: HMC) -> None:
        super().__init__(run, sampler)
        self.n_leapfrog, self.jitter = sampler.n_leapfrog, sampler.jitter
        self.streams = 3 if self.jitter else 2
        self.fresh, self.momentum = torch.empty_like(run.x), torch.empty_like(run.x)
        self.fixed = None if self.adapted or self.jitter else _half(self.eta)
        fused = run.x.is_cpu and "leapfrog" in self.kernels
        self.leapfrog = self.kernels["leapfrog"] if fused else reference.leapfrog
        one = run.rows(1.0)
        self.tail = sampler.options.tail(run, one, one, one)[3:]

    def step(self, names: Names, k: int | None) -> None:
        eps = self._jittered(names[2]) if self.jitter else self.eta
        half = self.fixed or _half(eps)
        fresh, p, q, t = self.fresh, self.momentum, self.proposal, self.temperature
        # The fresh momentum and its first half kick in one pass: 0 s + eps/2 s + sqrt(T) z.
        head = (fresh, self.score, self.score, 0.0, half[0], math.sqrt(t), names[0])
        self.kernels["affine_step"](*head, None, half[1], None, *self.tail)
        _ops.call(self.leapfrog, (q, fresh, eps[0], None, self.x), (None, eps[1]))
        for i in range(1, self.n_leapfrog):
            score = self.masked(self.fits(self.potential.score(q), at=q))
            _ops.call(self.leapfrog, (q, p, eps[0], score), (None, fresh if i == 1 else None, eps[1]))
        energy, score = self.both(q)
        self.decide(energy, score, half, (2.0 * t, None), names[1], k, fresh, fresh if self.n_leapfrog == 1 else p)

    def _jittered(self, name: Tensor) -> Number:
        uniform = torch.empty((self.x.shape[0], 1), dtype=torch.float64, device=self.x.device)  # float32's numbers, widened
        _ops.call(self.kernels["uniform_"], (uniform, name), self.named)
        size, rows = self.eta
        return NAN, (1.0 + self.jitter * (2.0 * uniform.flatten() - 1.0)) * (size if rows is None else rows)


def _half(eps: Number) -> Number:
    return 0.5 * eps[0], None if eps[1] is None else 0.5 * eps[1]
