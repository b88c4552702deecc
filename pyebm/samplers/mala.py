"""MALA: the Metropolis-adjusted Langevin algorithm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._adaptation import checked_warmup
from ._body import Body
from ._loop import Sampler
from ._metropolis import Metropolis, Names
from ._run import NAN, EnergyFn, Number, Run, ScoreFn
from ._schedule import Schedule
from ._step_options import StepOptions


class MALA(Sampler):
    """Langevin steps that are accepted or rejected, so that the law is exact at any step size
    (Roberts & Tweedie 1996).

    The proposal is :class:`Langevin`'s step; it is taken with probability
    ``min(1, p(y) q(x|y) / (p(x) q(y|x)))``, for p^(1/T) at temperature T. A chain whose proposal
    has no finite energy (NaN, infinity or -infinity) stays. One that starts at an energy of
    infinity (with a finite score there) takes the first proposal whose energy is finite; one that
    starts at NaN or -infinity never moves, which is warned of on the CPU. With a mass m the
    proposal is ``x + eta s(x) / m + sqrt(2 eta T / m) z``, elementwise.

    Args:
        energy_fn: E: (B, ...) -> (B,), for p(x) = exp(-E(x)) / Z, or one of :mod:`pyebm.targets`. A
            sample's energy must depend on that sample alone.
        step_size: eta > 0: a number; a tensor (), (B,) or (B, 1, ...), one per sample; or one per
            step: a list, a tensor (K,) on the CPU with K other than B, or a function of the noise's
            step k (docs/samplers.md).
        score_fn: -grad E, if you have something better than autograd; targets bring their own.
        temperature: T > 0, a number or one per step.
        mass: m > 0 (on a GPU not checked), a number or a tensor that broadcasts to x; best near
            1 / the variance of each element, so that one step size suits all of them.
        warmup: the number of steps in which the step size is adapted to ``target_acceptance``, by
            dual averaging (Hoffman & Gelman 2014); then it is held. States of the warm-up are not
            samples of p: drop them.
        adapt_mass: also learn the mass in the warm-up (docs/each-sampler.md), beginning with
            ``mass``. It takes a warmup of 20 or more.
        target_acceptance: 0.574 is best for MALA in high dimension (Roberts & Rosenthal 1998).
        per: "sample" adapts each chain on its own, so that it does not depend on its batch; "batch"
            adapts all chains together, which learns the mass much sooner.
        group: with per="batch", a process group of torch.distributed whose ranks run their chains
            at the same time: all of them adapt together, to the bits of one process that has them
            all (docs/distributed.md).
        mask, backend: as in :func:`pyebm.langevin_step`; the chain lives on the elements where the
            mask is True.

    It is called as every sampler (docs/samplers.md); with ``warmup`` resume from a State, which
    carries the adaptation. It draws the proposal from the noise's own stream, and the uniform of
    the test from stream + 1, element 0 of each sample.

    Raises TypeError and ValueError for arguments outside these types and ranges.

    Example:
        >>> import torch, pyebm
        >>> sampler = pyebm.samplers.MALA(lambda x: 0.5 * x.square().sum(1), step_size=1.0)
        >>> chains = sampler(torch.zeros(500, 2), 100, noise=pyebm.Noise(0), thin=10)
        >>> bool(0.5 < chains.info["acceptance"].mean() < 0.9 and 0.9 < chains.x.std() < 1.1)
        True
    """

    energy_fn: EnergyFn
    score_fn: ScoreFn | None
    step_size: Schedule
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
        *,
        score_fn: ScoreFn | None = None,
        temperature: Schedule = 1.0,
        mass: float | Tensor | None = None,
        warmup: int = 0,
        adapt_mass: bool = False,
        target_acceptance: float = 0.574,
        per: str = "sample",
        group: Any = None,
        mask: Tensor | None = None,
        backend: str | None = None,
    ) -> None:
        warmup, adapt_mass, target_acceptance = checked_warmup(
            "MALA", warmup, adapt_mass, target_acceptance, per, group
        )
        self.energy_fn, self.score_fn, self.step_size = energy_fn, score_fn, step_size
        self.mass, self.adapt_mass = mass, adapt_mass
        self.warmup, self.target_acceptance, self.per, self.group = warmup, target_acceptance, per, group
        self.options = StepOptions(temperature, mask=mask, backend=backend)

    def _body(self, run: Run) -> Body:
        return _Steps(run, self)


class _Steps(Metropolis):
    def __init__(self, run: Run, sampler: Any) -> None:
        super().__init__(run, sampler)
        self.tail = sampler.options.tail(run, self.eta[1], self.temperature_rows)
        if self.varies:
            one = run.rows(1.0)
            self.rest = sampler.options.tail(run, one, one)[2:]
        self.fixed = None if self.adapted or self.varies else self._scale()
        if self.mass is not None:
            self.still, self.move = torch.zeros_like(run.x), torch.empty_like(run.x)

    def _scale(self) -> Number:
        """4 eta T."""
        (eta, rows), four = (
            self.eta,
            4.0 * (self.temperature if self.temperature_rows is None else self.temperature_rows),
        )
        scale = four * (eta if rows is None else rows.double())
        return (NAN, scale) if isinstance(scale, Tensor) else (scale, None)

    def step(self, names: Names, k: int | None) -> None:
        if self.varies:
            self.begin(names, k)
        y, x, propose = self.proposal, self.x, self.kernels["langevin_step"]
        tail = (self.eta[1], self.temperature_rows, *self.rest) if self.varies else self.tail
        if self.mass is None:
            propose(y, x, self.score, self.eta[0], self.temperature, names[0], *tail)
            energy, score = self.energy_and_score(y)
            # log q(x|y) - log q(y|x) = (|y - x - eta s(x)|^2 - |x - y - eta s(y)|^2) / (4 eta T),
            # both squares from the rounded x and y.
            self.decide(energy, score, self.eta, self.fixed or self._scale(), names[1], k)
            return
        # In the coordinates x / root, in which the score is root s, it is
        # (|d - eta root s(x)|^2 - |d + eta root s(y)|^2) / (4 eta T) for d = (y - x) / root.
        propose(self.move, self.still, self.score, self.eta[0], self.temperature, names[0], *tail)
        torch.add(x, self.mass.root * self.move, out=y)
        energy, score = self.energy_and_score(y)
        moved = self.mass.divided(y - x)
        self.decide(energy, score, self.eta, self.fixed or self._scale(), names[1], k, moved, moved)
