"""MALA and HMC share this: the accept test, and a step size that adapts to a target acceptance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _composed, _ops
from .._options import check_choice, checked_count, checked_flag
from .._parts import Parts, checked_group
from .._stretches import first_stretch
from ._body import Body
from ._density import Potential
from ._mass import LEAST_WARMUP, mass_of
from ._run import NAN, Number, Run, number
from ._schedule import Scheduled
from ._step_options import StepOptions
from ._stuck import warn_of_starts, warn_of_stuck


class Metropolis(Body):
    """A body that proposes ``y`` and accepts it with probability min(1, exp(log_alpha)).

    A subclass's ``step`` calls :meth:`begin` if a coefficient ``varies``, sets ``proposal`` and
    calls :meth:`decide`. Uniforms come from stream + 1. With a mass, ``score`` and the score that
    :meth:`both` returns are root s, the score in the coordinates x / root.
    """

    streams = 2
    n_leapfrog = 0
    jitter = 0.0

    def __init__(self, run: Run, sampler: Any) -> None:
        super().__init__(run)
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
        energy, score = self.both(run.x)
        self.energy, self.score = energy.double().clone(), score.clone()
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
        self.held = (
            run.x,
            self.score,
            self.energy,
            self.accepted,
            self.accept,
            self.log_alpha,
            self.proposal,
        )
        warn_of_starts(run, self.energy)
        self.fused = not general and self._fits_a_chain()
        if self.fused:
            self._prepare_chain(sampler)

    def _fits_a_chain(self) -> bool:
        """Whether the op ``metropolis_chain`` has all the options that are asked for."""
        run = self.run
        elements = run.x.numel() // max(run.x.shape[0], 1)
        plain = self.mask is None and self.mass is None and not self.varies and not run.graph
        return (
            plain
            and self.potential.kernel is not None
            and self.on_host
            and 0 < elements <= LARGEST
            and self.n_leapfrog < MOST_SCORES
        )

    def _prepare_chain(self, sampler: Any) -> None:
        run, target = self.run, sampler.energy_fn
        self.name = run.noise._named(run.x.shape[0], run.x)[0].clone()
        numbers = run.target(target)
        self.params, constant = numbers.params, target._constant(math.prod(run.x.shape[1:]))
        self.head = (*self.held[:-1], *numbers.density, constant)
        if self.adapted is not None:
            self.by_step = max(self.adapted.warmup - self.adapted.begun, 0)

    def at_once(self) -> int:
        if not self.fused:
            return super().at_once()
        return max(first_stretch(self.x, self.params, self.run.n_steps) // (self.n_leapfrog + 2), 1)

    def advance(self, done: int, count: int, kept: Tensor | None, thin: int | None) -> None:
        del kept, thin
        self.name.select(0, 2).fill_(self.run.first + done)
        numbers = (count, self.n_leapfrog, self.eta[0], self.temperature, self.name, self.jitter)
        self.kernels["metropolis_chain"](*self.head, *numbers, self.eta[1], *self.named)

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

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energy and score; the score is 0 where the mask keeps x."""
        energy, score = self.potential.both(x)
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
        head = (*self.held, score.contiguous(), energy, step[0], scale[0], temperature, name)
        _ops.call(self.test, head, (*(momenta or _NONE), step[1], scale[1], *self.named))
        if self.adapted is None:
            return
        self.adapted.learn(self.log_alpha, k)
        if self.mass is not None and k is not None and self.mass.learn(self.x, self.adapted.count(k)):
            self.adapted.restart(k)
            self.score.copy_(self.both(self.x)[1])

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

    def look_back(self, done: int) -> None:
        warn_of_stuck(self.run, self.accepted, self.energy, done)

    def carried(self, done: int) -> dict[str, Tensor]:
        if self.adapted is None:
            return {}
        return self.adapted.carried(done) | ({} if self.mass is None else self.mass.carried())


class Adaptation:
    """Dual averaging (Hoffman & Gelman 2014, section 3.2). For ``warmup`` steps it moves the step
    size towards a target acceptance, then the step size stays at the average.

    Every chain has its own step size or, with ``per="batch"``, all chains have one that follows
    their mean acceptance. The count of steps is on the device, so that a captured step adapts too.
    When the mass changes, the averaging begins anew from the step size that it has found.

    With a group, its tensors have a row for each chain of all ranks. Each rank computes all rows
    from all acceptances, so that the mean has the bits of one process, which no all-reduce would
    give.
    """

    def __init__(self, run: Run, sampler: Any, sizes: Scheduled) -> None:
        if sizes.varies:
            raise ValueError(
                f"{run.call}: warmup finds a step size of its own; give step_size as one number, or one per"
                " sample"
            )
        self.run, self.warmup, self.target = run, sampler.warmup, sampler.target_acceptance
        self.together = sampler.per == "batch"
        if run.graph and sampler.group is not None:
            raise ValueError(
                f"{run.call}: graph=True can't capture what ranks tell each other; give no group"
            )
        self.parts = Parts(sampler.group, run.x.shape[0], run.x.device)
        first, rows = sizes.constant
        start = self.parts.whole(
            run.rows(first) if rows is None else rows.double().expand(run.x.shape[0]).clone()
        )
        begun = run.extra.get("adapted_steps")
        self.begun = 0 if begun is None else int(begun)
        self.first = run.first
        self.log_average = self._carried("log_step_size_average", start.log())
        self.gap = self._carried("acceptance_gap", torch.zeros_like(start))
        self.step_size = self._carried("step_size", start)
        self.mine = self.parts.own(self.step_size)
        self.middle = self._carried("step_size_middle", (10.0 * start).log())
        self.update = run.kernels(sampler.options.backend)["dual_averaging"]
        restarted = run.extra.get("restarted_at")
        self.restarted = 0 if restarted is None else int(restarted)
        self.steps = torch.full(
            (), float(self.begun - self.restarted), dtype=torch.float64, device=run.x.device
        )

    def _carried(self, name: str, fresh: Tensor) -> Tensor:
        carried = self.run.carried(name)
        return fresh if carried is None else self.parts.whole(carried.double().contiguous())

    def count(self, k: int) -> int:
        """The number of warm-up steps done after step k, those of earlier runs included."""
        return self.begun + k - self.first + 1

    def learn(self, log_alpha: Tensor, k: int | None) -> None:
        if k is None or self.count(k) <= self.warmup:
            held = (self.step_size, self.log_average, self.gap, self.steps)
            log_alpha = self.parts.whole(log_alpha)
            self.update(
                *held, log_alpha, self.middle, self.warmup - self.restarted, self.target, self.together
            )

    def restart(self, k: int) -> None:
        """Begin the averaging anew after step k."""
        self.restarted = self.count(k)
        self.middle = (10.0 * self.step_size).log()
        self.gap.zero_()
        self.steps.zero_()

    def carried(self, done: int) -> dict[str, Tensor]:
        rows = {
            "step_size": self.step_size,
            "log_step_size_average": self.log_average,
            "acceptance_gap": self.gap,
        }
        counts = {"adapted_steps": min(self.begun + done, self.warmup)}
        if self.restarted:
            rows["step_size_middle"], counts["restarted_at"] = self.middle, self.restarted
        return {name: self.parts.own(value).clone() for name, value in rows.items()} | {
            name: torch.tensor(value, device="cpu") for name, value in counts.items()
        }


def checked_warmup(
    call: str, warmup: int, adapt_mass: bool, target: float, per: str, group: Any
) -> tuple[int, bool, float]:
    warmup, adapt_mass = checked_count(call, "warmup", warmup), checked_flag(call, "adapt_mass", adapt_mass)
    if adapt_mass and warmup < LEAST_WARMUP:
        raise ValueError(f"{call}: adapt_mass needs a warmup of {LEAST_WARMUP} steps or more, got {warmup}")
    target = number(call, "target_acceptance", target)
    if not target < 1:
        raise ValueError(f"{call}: target_acceptance must be in (0, 1), got {target}")
    check_choice(call, "per", per, ("sample", "batch"))
    if checked_group(call, group) is not None and per != "batch":
        raise ValueError(f"{call}: group must be None where per is 'sample': chains then adapt alone")
    return warmup, adapt_mass, target


Names = Sequence[Tensor]
LARGEST, MOST_SCORES = 512, 2**20  # metropolis_chain's limits: elements of a sample, scores of a step
_NONE = (None, None)
