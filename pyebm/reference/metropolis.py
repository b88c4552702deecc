"""Metropolis' test: take a proposal or stay."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .noise import uniform_


def metropolis(
    x: Tensor,
    score: Tensor,
    energy: Tensor,
    accepted: Tensor,
    accept: Tensor,
    log_alpha: Tensor,
    proposal: Tensor,
    proposal_score: Tensor,
    proposal_energy: Tensor,
    before: Tensor,
    after: Tensor,
    scale: float,
    temperature: float,
    name: Tensor,
    scale_rows: Tensor | None = None,
    seeds: Tensor | None = None,
    ids: Tensor | None = None,
    *,
    draw: Callable[..., None] = uniform_,
) -> None:
    """On any device; ``draw`` makes the uniforms, in a kernel where there is one."""
    uniform = torch.empty((x.shape[0], 1), dtype=torch.float64, device=x.device)  # float32's numbers, widened
    draw(uniform, name, seeds, ids)
    torch.sub(energy, proposal_energy, out=log_alpha)
    squares = before.double() - after.double()
    log_alpha.div_(temperature).add_(squares.div_(scale if scale_rows is None else scale_rows.double()))
    torch.lt(uniform.log_().flatten(), log_alpha, out=accept)  # never where it is NaN
    accepted.add_(accept)
    chosen = accept.reshape(-1, *[1] * (x.dim() - 1))
    torch.where(chosen, proposal, x, out=x)
    torch.where(chosen, proposal_score, score, out=score)
    torch.where(accept, proposal_energy, energy, out=energy)
