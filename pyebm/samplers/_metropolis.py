"""Accept or reject, and a step size that finds its own acceptance rate: what MALA and HMC share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _ops
from .._checks import coefficient
from ._body import NAN, Body, Number, Potential, Run, StepOptions, number
from ._squares import Mean, Squares


class Metropolis(Body):
    """A body that proposes ``y`` and accepts it with probability min(1, exp(log_alpha)).

    A subclass's ``step`` sets ``proposal`` and ``log_alpha``, and calls :meth:`decide`. Uniforms come from stream + 1.
    """

    streams = 2

    def __init__(self, run: Run, sampler: Any) -> None:
        super().__init__(run)
        options: StepOptions = sampler.options
        self.kernels = run.kernels(options.backend)
        self.potential = Potential(run, sampler.energy_fn, sampler.score_fn, options.backend)
        self.mask = options.expanded_mask(run)
        self.temperature = number(run.call, "temperature", options.temperature)
        self.squares = Squares(run, options.backend)
        self.adapted = Adaptation(run, sampler) if sampler.warmup else None
        self.eta: Number = coefficient(run.call, "step_size", sampler.step_size, run.x, low=0.0, open_low=True)
        if self.adapted is not None:
            self.eta = (NAN, self.adapted.step_size)
        self.proposal = torch.empty_like(run.x)
        energy, score = self.both(run.x)
        self.energy, self.score = energy.double().clone(), score.clone()
        batch = run.x.shape[0]
        self.uniform = torch.empty((batch, 1), dtype=torch.float64, device=run.x.device)  # float32's numbers, widened
        self.accepted = torch.zeros(batch, dtype=torch.int64, device=run.x.device)
        self.log_alpha = run.rows(0.0)
        self.accept = torch.zeros(batch, dtype=torch.bool, device=run.x.device)
        self.flat_uniform, self.chosen = self.uniform.flatten(), run.column(self.accept)  # views

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energy and score; the score is 0 where the mask keeps x."""
        energy, score = self.potential.both(x)
        return energy, self.masked(self.fits(score))

    def masked(self, score: Tensor) -> Tensor:
        return score if self.mask is None else torch.where(self.mask, score, 0.0)

    def draw(self, name: Tensor) -> Tensor:
        """A uniform a sample, (B,); the next draw writes over it."""
        _ops.call(self.kernels["uniform_"], (self.uniform, name), (self.run.seeds, self.run.ids))
        return self.flat_uniform

    def decide(self, energy: Tensor, score: Tensor, name: Tensor, k: int | None) -> None:
        """Take the proposal, with its energy and score, or stay. A log_alpha of NaN stays."""
        torch.lt(self.draw(name).log_(), self.log_alpha, out=self.accept)
        self.accepted.add_(self.accept)
        torch.where(self.chosen, self.proposal, self.x, out=self.x)
        torch.where(self.chosen, score, self.score, out=self.score)
        torch.where(self.accept, energy, self.energy, out=self.energy)
        if self.adapted is not None:
            self.adapted.learn(self.log_alpha, k)

    def info(self, k: int) -> dict[str, Any]:
        del k
        number, rows = self.eta
        return {
            "energy": self.energy,
            "accept_prob": self.log_alpha.clamp(max=0.0).exp().nan_to_num(0.0),
            "accepted": self.accept,
            "step_size": number if rows is None else rows,
        }

    def totals(self, done: int) -> dict[str, Tensor]:
        return {"acceptance": self.accepted.double() / max(done, 1)}

    def carried(self, done: int) -> dict[str, Tensor]:
        return {} if self.adapted is None else self.adapted.carried(done)


class Adaptation:
    """Dual averaging (Hoffman & Gelman 2014, section 3.2): for ``warmup`` steps, towards a target acceptance; then the average.

    Every chain has its own step size, or, ``per="batch"``, all have one that follows their mean acceptance. In a graph the count of
    steps is on the device, so that a captured step adapts as well.
    """

    SHRINK, SLOW_START, FORGET, REACH = 0.05, 10.0, 0.75, 50.0

    def __init__(self, run: Run, sampler: Any) -> None:
        self.warmup, self.target = sampler.warmup, sampler.target_acceptance
        self.mean = Mean(run, 1) if sampler.per == "batch" else None
        first, rows = coefficient(run.call, "step_size", sampler.step_size, run.x, low=0.0, open_low=True)
        start = run.rows(first) if rows is None else rows.double().expand(run.x.shape[0]).clone()
        self.middle = (10.0 * start).log()
        begun = run.extra.get("adapted_steps")
        self.begun = 0 if begun is None else int(begun)
        self.first = run.first
        shape = run.x.shape[:1]
        self.log_average = _or(run.carried("log_step_size_average", shape), start.log())
        self.gap = _or(run.carried("acceptance_gap", shape), torch.zeros_like(start))
        self.step_size = _or(run.carried("step_size", shape), start)
        self.steps = torch.full((), float(self.begun), dtype=torch.float64, device=run.x.device)

    def learn(self, log_alpha: Tensor, k: int | None) -> None:
        if k is None:
            self._learn_on_device(log_alpha)
            return
        m = self.begun + k - self.first + 1
        if m <= self.warmup:
            log_step = self._update(log_alpha, float(m), math.sqrt(m), self.gap, self.log_average)
            torch.exp(log_step if m < self.warmup else self.log_average, out=self.step_size)

    def _learn_on_device(self, log_alpha: Tensor) -> None:
        m, gap, log_average = self.steps.add_(1.0), self.gap.clone(), self.log_average.clone()
        log_step = self._update(log_alpha, m, m.sqrt(), gap, log_average)
        learning = m <= self.warmup
        torch.where(learning, log_average, self.log_average, out=self.log_average)
        torch.where(learning, gap, self.gap, out=self.gap)
        torch.exp(torch.where(m < self.warmup, log_step, self.log_average), out=self.step_size)

    def _update(self, log_alpha: Tensor, m: Any, root: Any, gap: Tensor, log_average: Tensor) -> Tensor:
        """After step m, a number or a tensor: gap and log_average in place; returns the log of the step to try next."""
        short = log_alpha.clamp(max=0.0).exp_()  # of the target, from here on
        torch.nan_to_num(short, 0.0, out=short if self.mean is None else self.mean.values[0])
        short = short.neg_() if self.mean is None else self.mean().neg_()
        share, weight = 1.0 / (m + self.SLOW_START), m**-self.FORGET
        gap.mul_(1.0 - share).add_(short.add_(self.target).mul_(share))
        # A chain that never moves, or always does, must not end with a step of 0 or infinity, which the kernels refuse.
        log_step: Tensor = self.middle - (gap * (root / self.SHRINK)).clamp_(-self.REACH, self.REACH)
        log_average.mul_(1.0 - weight).add_(log_step * weight)
        return log_step

    def carried(self, done: int) -> dict[str, Tensor]:
        return {
            "step_size": self.step_size,
            "log_step_size_average": self.log_average,
            "acceptance_gap": self.gap,
            "adapted_steps": torch.tensor(min(self.begun + done, self.warmup)),
        }


def _or(carried: Tensor | None, fresh: Tensor) -> Tensor:
    return fresh if carried is None else carried


def check_warmup(call: str, warmup: int, target: float, per: str) -> None:
    if warmup < 0:
        raise ValueError(f"{call}: warmup must be >= 0, got {warmup}")
    if not 0 < target < 1:
        raise ValueError(f"{call}: target_acceptance must be in (0, 1), got {target}")
    if per not in ("sample", "batch"):
        raise ValueError(f"{call}: per must be 'sample' or 'batch', got {per!r}")


Names = Sequence[Tensor]
