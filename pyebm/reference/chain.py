"""Many steps: the loop that the chain kernels run."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .._arguments import entry
from .._composed import langevin_update, score_of
from .._composed.coefficients import require
from .._schemas import ChainSteps, LangevinChain
from .known import Known
from .noise import normals


@entry(LangevinChain)
def langevin_chain(args: LangevinChain) -> None:
    run("langevin_chain", args.x, lambda state, _: score_of(state, args.target, args.params), args.steps)


def run(
    op: str,
    x: Tensor,
    score: Callable[[Tensor, int], Tensor],
    steps: ChainSteps,
    known: Known | None = None,
) -> None:
    """Runs the loop; ``score`` is called as score(state, step)."""
    schedules = (
        ("step_size", steps.step_size_rows, steps.step_size_per_step, True),
        ("temperature", steps.temperature_rows, steps.temperature_per_step, False),
    )
    for label, rows, per_step, positive in schedules:
        if rows is not None:
            require(op, label, rows, positive, "step" if per_step else "sample")
    first_bad = None if steps.diverged is None else torch.full_like(steps.diverged, -1)
    a_step = torch.tensor([0, 0, 1, 0], device=steps.name.device)
    state, bounds = x.clone(), (steps.mask, steps.low, steps.high, steps.score_clip)
    for k in range(steps.n_steps):
        now = [
            rows[k : k + 1] if per_step and rows is not None and rows.numel() > 1 else rows
            for _, rows, per_step, _ in schedules
        ]
        z = normals(x.shape, steps.name + k * a_step, steps.seeds, steps.ids)
        if known is not None:
            known.impose(state, k, 1)
        numbers = (steps.step_size, steps.temperature)
        _, value = langevin_update(state, score(state, k), z, numbers, *now, *bounds)
        state = value.to(x.dtype)
        if steps.states is not None and steps.thin is not None and (k + 1) % steps.thin == 0:
            steps.states[(k + 1) // steps.thin - 1] = state
        if first_bad is not None:
            finite = (
                state.isfinite().reshape(x.shape[0], -1).all(1)
                if x.numel()
                else torch.ones_like(first_bad, dtype=torch.bool)
            )
            first_bad[~finite & (first_bad < 0)] = k
    x.copy_(state)
    if steps.diverged is not None and first_bad is not None:
        steps.diverged.copy_(first_bad)
