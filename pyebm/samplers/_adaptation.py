"""The warm-up of MALA and HMC: their step size adapts to a target acceptance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._options import check_choice, checked_count, checked_flag
from .._parts import Parts, checked_group
from ._mass import LEAST_WARMUP
from ._run import Run, number
from ._schedule import Scheduled


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
        tables = (
            self._carried("step_size", start),
            self._carried("log_step_size_average", start.log()),
            self._carried("acceptance_gap", torch.zeros_like(start)),
            self._carried("step_size_middle", (10.0 * start).log()),
        )
        self.table = torch.stack(tables)
        self.step_size, self.log_average, self.gap, self.middle = self.table.unbind()
        self.mine = self.parts.own(self.step_size)
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

    def averaging(self, k: int) -> tuple[float, int, int, Tensor] | None:
        """The arguments of ``metropolis_chain`` for a launch that begins with step k; None if the
        warm-up is over."""
        before = self.count(k) - 1
        if before >= self.warmup:
            return None
        return self.target, self.warmup - self.restarted, before - self.restarted, self.table

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
        self.middle.copy_((10.0 * self.step_size).log())
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
