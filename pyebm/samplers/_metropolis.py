"""MALA and HMC share this: the accept test, and the launch that takes many steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _composed, _ops
from ._adaptation import Adaptation
from ._body import Body, stacked
from ._chained import Chained
from ._density import Potential
from ._mass import mass_of
from ._run import NAN, Number, Run
from ._schedule import Scheduled
from ._step_options import StepOptions
from ._stuck import warn_of_starts, warn_of_stuck


class Metropolis(Chained):
    """A body that proposes ``y`` and accepts it with probability min(1, exp(log_alpha)).

    A subclass's ``step`` calls :meth:`begin` if a coefficient ``varies``, sets ``proposal`` and
    calls :meth:`decide`. Uniforms come from stream + 1. With a mass, ``score`` and the score that
    :meth:`both` returns are root s, the score in the coordinates x / root.
    """

    streams = 2
    n_leapfrog = 0
    jitter = 0.0

    def __init__(self, run: Run, sampler: Any) -> None:
        Body.__init__(self, run)
        options: StepOptions = sampler.options
        self.kernels = run.kernels(options.backend)
        self.on_host = _ops.on_host(options.backend, run.x)
        self.potential = Potential(run, sampler.energy_fn, sampler.score_fn, options.backend)
        self.mask = options.expanded_mask(run)
        self.sizes = Scheduled(run, "step_size", sampler.step_size, open_low=True)
        self.temperatures = Scheduled(run, "temperature", options.temperature, open_low=True, by_sample=False)
        self.varies = self.sizes.varies or self.temperatures.varies
        self.temperature, self.temperature_rows = self.temperatures.constant
        self.adapted = Adaptation(run, sampler, self.sizes) if sampler.warmup else None
        self.eta: Number = self.sizes.constant if self.adapted is None else (NAN, self.adapted.mine)
        self.mass = mass_of(run, sampler)
        self.proposal = torch.empty_like(run.x)
        self.fused = self._fits_a_chain()
        learns = self.adapted is not None and (self.adapted.together or bool(self.mass and self.mass.edges))
        if self.fused and self.adapted is not None and learns:
            self.by_step = max(self.adapted.warmup - self.adapted.begun, 0)
        self.keeps = self.fused and not self.by_step
        energy, score = self.energy_and_score(run.x)
        if not self.keeps:  # steps by several ops write to the same two tensors again
            energy, score = energy.double().clone(), score.clone()
        self.energy, self.score = energy, score
        batch = run.x.shape[0]
        self.accepted = torch.zeros(batch, dtype=torch.int64, device=run.x.device)
        self.log_alpha = run.rows(0.0)
        self.accept = torch.zeros(batch, dtype=torch.bool, device=run.x.device)
        self.named = (run.seeds, run.ids)
        # The composed operation takes any strides, and the temperature as a tensor, as it is in a
        # graph.
        general = run.graph and self.temperatures.varies
        general = general or not (run.x.is_contiguous() and self.score.is_contiguous())
        ops = _composed.around(self.kernels) if general else self.kernels
        self.test = ops["metropolis"]
        self.chains = (
            run.x,
            self.score,
            self.energy,
            self.accepted,
            self.accept,
            self.log_alpha,
            self.proposal,
        )
        warn_of_starts(run, self.energy)
        self.reports: tuple[int, int, Tensor] | None = None
        if self.fused:
            self._prepare_chain(sampler)

    def _fits_a_chain(self) -> bool:
        """Whether the op ``metropolis_chain`` can take the steps."""
        run = self.run
        return (
            self.potential.kernel is not None
            and self.on_host
            and not run.graph
            and run.x.numel() > 0
            and self.n_leapfrog < MOST_SCORES
        )

    def _prepare_chain(self, sampler: Any) -> None:
        run, target = self.run, sampler.energy_fn
        self.name_noise()
        numbers = run.target(target)
        self.params, constant = numbers.params, target._constant(math.prod(run.x.shape[1:]))
        self.head = (*self.chains[:-1], *numbers.density, constant)

    def at_once(self) -> int:
        if not self.fused:
            return Body.at_once(self)
        return max(super().at_once() // (self.n_leapfrog + 2), 1)

    def launch(self, first: int, count: int, name: Tensor, states: Tensor | None, thin: int | None) -> None:
        run, reports = self.run, None
        if thin is not None:
            reports = torch.empty(
                (count // thin * 4, run.x.shape[0]), dtype=torch.float64, device=run.x.device
            )
        averaging = None if self.adapted is None else self.adapted.averaging(first)
        size, *sizes = (1.0, None, None) if averaging else self.sizes.part(first, count)
        if self.adapted is not None and averaging is None:
            size, *sizes = NAN, self.adapted.mine, None
        temperature, temperatures, _ = self.temperatures.part(first, count)
        if temperatures is not None:
            temperatures = temperatures.expand(count).contiguous()
        root = None if self.mass is None else self.mass.root.expand(run.x.shape)
        numbers = (count, self.n_leapfrog, size, temperature, name, self.jitter)
        tail = (*(averaging or _NONE * 2), *sizes, temperatures, reports, states, thin, self.mask, root)
        _ops.call(self.kernels["metropolis_chain"], (*self.head, *numbers), (*tail, *self.named))
        self.reports = None if reports is None or thin is None else (first, thin, reports)

    def begin(self, names: Names, k: int | None) -> None:
        """Set the step size and the temperature of step k, if they follow a schedule."""
        size = self.sizes.on_device(names[0]) if k is None else self.sizes.at(k)
        if self.adapted is None:
            self.eta = size
        self.temperature, self.temperature_rows = (
            self.temperatures.on_device(names[0]) if k is None else self.temperatures.at(k)
        )

    def twice_temperature(self) -> Number:
        return 2.0 * self.temperature, None if self.temperature_rows is None else 2.0 * self.temperature_rows

    def energy_and_score(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energy and score; the score is 0 where the mask keeps x."""
        energy, score = self.potential.energy_and_score(x)
        score = self.masked(self.fits(score, at=x))
        return energy, score if self.mass is None else self.mass.root * score

    def masked(self, score: Tensor) -> Tensor:
        return score if self.mask is None else torch.where(self.mask, score, 0.0)

    def decide(
        self,
        energy: Tensor,
        score: Tensor,
        step: Number,
        scale: Number,
        name: Tensor,
        k: int | None,
        *momenta: Tensor,
    ) -> None:
        """Take the proposal, with its energy and score, or stay, by the op ``metropolis``. HMC's
        momenta are that op's ``first`` and ``last``."""
        if energy.dtype not in (torch.float32, torch.float64):
            energy = energy.double()
        temperature = self.temperature if self.temperature_rows is None else self.temperature_rows
        head = (*self.chains, score.contiguous(), energy, step[0], scale[0], temperature, name)
        _ops.call(self.test, head, (*(momenta or _NONE), step[1], scale[1], *self.named))
        if self.adapted is None:
            return
        self.adapted.learn(self.log_alpha, k)
        if self.mass is not None and k is not None and self.mass.learn(self.x, self.adapted.count(k)):
            self.adapted.restart(k)
            self.score.copy_(self.energy_and_score(self.x)[1])

    def info(self, k: int) -> dict[str, Any]:
        return _info(self.energy, self.log_alpha, self.accept, self._size(k))

    def infos(self, steps: range) -> dict[str, Any]:
        if self.reports is None:
            return super().infos(steps)
        first, thin, table = self.reports
        begin = (steps.start - first) // thin
        kept = table.view(-1, 4, self.run.x.shape[0])[begin : begin + len(steps)]
        energy, log_alpha, accept, size = kept.movedim(1, 0).contiguous().unbind()
        if self.adapted is None:
            size = stacked([self._size(k) for k in steps])
        return _info(energy, log_alpha, accept.bool(), size)

    def _size(self, k: int) -> float | Tensor:
        """The step size to report after step k."""
        number, rows = self.sizes.at(k) if self.adapted is None else self.eta
        return number if rows is None else rows

    def totals(self, done: int) -> dict[str, Tensor]:
        return {"acceptance": self.accepted.double() / max(done, 1)}

    def look_back(self, done: int) -> None:
        warn_of_stuck(self.run, self.accepted, self.energy, done)

    def carried(self, done: int) -> dict[str, Tensor]:
        if self.adapted is None:
            return {}
        return self.adapted.carried(done) | ({} if self.mass is None else self.mass.carried())


def _info(energy: Tensor, log_alpha: Tensor, accepted: Tensor, step_size: Any) -> dict[str, Any]:
    probability = log_alpha.clamp(max=0.0).exp().nan_to_num(0.0)
    return {"energy": energy, "accept_prob": probability, "accepted": accepted, "step_size": step_size}


Names = Sequence[Tensor]
MOST_SCORES = 2**20  # metropolis_chain's limit on the scores of a step
_NONE = (None, None)
