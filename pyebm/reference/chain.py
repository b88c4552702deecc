"""Many Langevin steps on a closed-form target: the loop that the fused kernels stand for."""

from __future__ import annotations

import torch
from torch import Tensor

from .noise import normals
from .steps import langevin_update, require
from .targets import score_of


def langevin_chain(
    x: Tensor,
    target: int,
    params: Tensor,
    n_steps: int,
    step_size: float,
    temperature: float,
    name: Tensor,
    step_size_rows: Tensor | None = None,
    temperature_rows: Tensor | None = None,
    step_size_per_step: bool | None = None,
    temperature_per_step: bool | None = None,
    states: Tensor | None = None,
    thin: int | None = None,
    diverged: Tensor | None = None,
    low: float | None = None,
    high: float | None = None,
    seeds: Tensor | None = None,
    ids: Tensor | None = None,
) -> None:
    for label, rows, per_step, positive in (
        ("step_size", step_size_rows, step_size_per_step, True),
        ("temperature", temperature_rows, temperature_per_step, False),
    ):
        if rows is not None:
            require("langevin_chain", label, rows, positive, "step" if per_step else "sample")
    if diverged is not None:
        diverged.fill_(-1)
    a_step = torch.tensor([0, 0, 1, 0], device=name.device)
    state = x.clone()
    for k in range(n_steps):
        now = [
            every[k : k + 1] if per_step and every is not None and every.numel() > 1 else every
            for every, per_step in ((step_size_rows, step_size_per_step), (temperature_rows, temperature_per_step))
        ]
        z = normals(x.shape, name + k * a_step, seeds, ids)
        numbers = (step_size, temperature)
        _, value = langevin_update(state, score_of(state, target, params), z, numbers, *now, None, low, high)
        state = value.to(x.dtype)
        if states is not None and thin is not None and (k + 1) % thin == 0:
            states[(k + 1) // thin - 1] = state
        if diverged is not None:
            finite = state.isfinite().reshape(x.shape[0], -1).all(1) if x.numel() else torch.ones_like(diverged, dtype=torch.bool)
            diverged[~finite & (diverged < 0)] = k
    x.copy_(state)
