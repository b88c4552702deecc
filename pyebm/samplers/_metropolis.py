"""Accept or reject, and a step size that finds its own acceptance rate: what MALA and HMC share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _ops, reference
from .._checks import coefficient
from ._body import NAN, Body, Number, Potential, Run, StepOptions, number


class Metropolis(Body):
    """A body that proposes ``y`` and accepts it with probability min(1, exp(log_alpha)).

    A subclass's ``step`` sets ``proposal`` and calls :meth:`decide`. Uniforms come from stream + 1.
    """

    streams = 2

    def __init__(self, run: Run, sampler: Any) -> None:
        super().__init__(run)
        options: StepOptions = sampler.options
        self.kernels = run.kernels(options.backend)
        self.potential = Potential(run, sampler.energy_fn, sampler.score_fn, options.backend)
        self.mask = options.expanded_mask(run)
        self.temperature = number(run.call, "temperature", options.temperature)
        self.adapted = Adaptation(run, sampler) if sampler.warmup else None
        self.eta: Number = coefficient(run.call, "step_size", sampler.step_size, run.x, low=0.0, open_low=True)
        if self.adapted is not None:
            self.eta = (NAN, self.adapted.step_size)
        self.proposal = torch.empty_like(run.x)
        energy, score = self.both(run.x)
        self.energy, self.score = energy.double().clone(), score.clone()
        batch = run.x.shape[0]
        self.accepted = torch.zeros(batch, dtype=torch.int64, device=run.x.device)
        self.log_alpha = run.rows(0.0)
        self.accept = torch.zeros(batch, dtype=torch.bool, device=run.x.device)
        self.named = (run.seeds, run.ids)
        fused = run.x.is_cpu and self.score.is_contiguous() and run.x.is_contiguous() and "metropolis" in self.kernels
        composed = functools.partial(reference.metropolis, draw=self.kernels["uniform_"], loss=self.kernels["denoising_loss"])
        self.test: Callable[..., None] = self.kernels["metropolis"] if fused else composed
        self.held = (run.x, self.score, self.energy, self.accepted, self.accept, self.log_alpha, self.proposal)

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energy and score; the score is 0 where the mask keeps x."""
        energy, score = self.potential.both(x)
        return energy, self.masked(self.fits(score, at=x))

    def masked(self, score: Tensor) -> Tensor:
        return score if self.mask is None else torch.where(self.mask, score, 0.0)

    def decide(
        self, energy: Tensor, score: Tensor, step: Number, scale: Number, name: Tensor, k: int | None, *momenta: Tensor
    ) -> None:
        """Take the proposal, with its energy and score, or stay: the op ``metropolis``, whose first and last the momenta are."""
        if energy.dtype not in (torch.float32, torch.float64):
            energy = energy.double()
        head = (*self.held, score.contiguous(), energy, step[0], scale[0], self.temperature, name)
        _ops.call(self.test, head, (*(momenta or _NONE), step[1], scale[1], *self.named))
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

    Every chain has its own step size, or, ``per="batch"``, all have one that follows their mean acceptance. The count of steps is
    on the device too, so that a captured step adapts as well.
    """

    def __init__(self, run: Run, sampler: Any) -> None:
        self.warmup, self.target = sampler.warmup, sampler.target_acceptance
        self.together = sampler.per == "batch"
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
        kernels = run.kernels(sampler.options.backend)
        self.update = kernels["dual_averaging"] if run.x.is_cpu and "dual_averaging" in kernels else reference.dual_averaging
        self.steps = torch.full((), float(self.begun), dtype=torch.float64, device=run.x.device)

    def learn(self, log_alpha: Tensor, k: int | None) -> None:
        if k is None or self.begun + k - self.first < self.warmup:
            held = (self.step_size, self.log_average, self.gap, self.steps)
            self.update(*held, log_alpha, self.middle, self.warmup, self.target, self.together)

    def carried(self, done: int) -> dict[str, Tensor]:
        return {
            "step_size": self.step_size,
            "log_step_size_average": self.log_average,
            "acceptance_gap": self.gap,
            "adapted_steps": torch.tensor(min(self.begun + done, self.warmup)),
        }


def _or(carried: Tensor | None, fresh: Tensor) -> Tensor:
    return fresh if carried is None else carried.double().contiguous()


def check_warmup(call: str, warmup: int, target: float, per: str) -> None:
    if warmup < 0:
        raise ValueError(f"{call}: warmup must be >= 0, got {warmup}")
    if not 0 < target < 1:
        raise ValueError(f"{call}: target_acceptance must be in (0, 1), got {target}")
    if per not in ("sample", "batch"):
        raise ValueError(f"{call}: per must be 'sample' or 'batch', got {per!r}")


Names = Sequence[Tensor]
_NONE = (None, None)
