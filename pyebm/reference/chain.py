"""Many Langevin steps on a closed-form target: the loop that the fused kernels stand for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
    run(
        "langevin_chain",
        x,
        lambda state, _: score_of(state, target, params),
        n_steps,
        (step_size, temperature),
        name,
        (step_size_rows, temperature_rows),
        (step_size_per_step, temperature_per_step),
        (states, thin, diverged, low, high, seeds, ids),
    )


def run(
    op: str,
    x: Tensor,
    score: Callable[[Tensor, int], Tensor],
    n_steps: int,
    numbers: tuple[float, float],
    name: Tensor,
    rows: tuple[Tensor | None, Tensor | None],
    per_step: tuple[bool | None, bool | None],
    rest: tuple[Any, ...],
    score_clip: float | None = None,
) -> None:
    """The loop, with score(state, step); numbers, rows and per_step are of step_size and temperature."""
    states, thin, diverged, low, high, seeds, ids = rest
    for label, values, one_a_step, positive in zip(("step_size", "temperature"), rows, per_step, (True, False), strict=True):
        if values is not None:
            require(op, label, values, positive, "step" if one_a_step else "sample")
    if diverged is not None:
        diverged.fill_(-1)
    a_step = torch.tensor([0, 0, 1, 0], device=name.device)
    state = x.clone()
    for k in range(n_steps):
        now = [
            every[k : k + 1] if one_a_step and every is not None and every.numel() > 1 else every
            for every, one_a_step in zip(rows, per_step, strict=True)
        ]
        z = normals(x.shape, name + k * a_step, seeds, ids)
        _, value = langevin_update(state, score(state, k), z, numbers, *now, None, low, high, score_clip)
        state = value.to(x.dtype)
        if states is not None and thin is not None and (k + 1) % thin == 0:
            states[(k + 1) // thin - 1] = state
        if diverged is not None:
            finite = state.isfinite().reshape(x.shape[0], -1).all(1) if x.numel() else torch.ones_like(diverged, dtype=torch.bool)
            diverged[~finite & (diverged < 0)] = k
    x.copy_(state)
