"""The chain as a loop of steps, for what its kernel does not do."""

from __future__ import annotations

import torch
from torch import Tensor

from ._bar import Tick
from ._chain_coefficient import ChainCoefficient
from ._clamps import Clamp
from .langevin import langevin_step
from .noise import Noise
from .targets import Target


def chain_loop(
    x: Tensor,
    target: Target,
    n_steps: int,
    eta: ChainCoefficient,
    t: ChainCoefficient,
    noise: Noise,
    clamp: Clamp | None,
    score_clip: float | None,
    mask: Tensor | None,
    thin: int | None,
    return_diverged: bool,
    backend: str | None,
    tick: Tick,
) -> Tensor | tuple[Tensor, ...]:
    """The chain as a loop of steps, with the same bits: for derivatives through the chain, and for
    clamps by element."""
    kept = []
    diverged = torch.full(x.shape[:1], -1, device=x.device)
    out = x.clone()
    for k, at_step in enumerate(noise._walk(n_steps, x)):
        score = target.score(out, backend=backend)
        limits = {"clamp": clamp, "score_clip": score_clip, "mask": mask}
        after = langevin_step(out, score, eta.at(k), at_step, temperature=t.at(k), backend=backend, **limits)  # type: ignore[arg-type]
        assert isinstance(after, Tensor)
        out = after
        if thin is not None and (k + 1) % thin == 0:
            kept.append(out)
        if return_diverged:
            left = (
                ~out.detach().reshape(x.shape[0], -1).isfinite().all(1)
                if x.numel()
                else torch.zeros_like(diverged).bool()
            )
            diverged = torch.where(left & (diverged < 0), k, diverged)
        tick(1)
    states = None if thin is None else torch.stack(kept) if kept else x.new_empty((0, *x.shape))
    return results(out, states, diverged if return_diverged else None)


def results(out: Tensor, states: Tensor | None, diverged: Tensor | None) -> Tensor | tuple[Tensor, ...]:
    given = tuple(result for result in (out, states, diverged) if result is not None)
    return out if len(given) == 1 else given
