"""Many steps of MALA or HMC on a target, by the ops that take a single step."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .._arguments import entry
from .._schemas import MetropolisChain
from .composed import leapfrog, metropolis
from .density import evaluate
from .langevin import affine_step, langevin_step
from .noise import uniform_


@entry(MetropolisChain)
def metropolis_chain(args: MetropolisChain) -> None:
    momenta: tuple[Tensor | None, Tensor | None]
    x, score, temperature, jitter, seeds, ids = (
        args.x,
        args.score,
        args.temperature,
        args.jitter,
        args.seeds,
        args.ids,
    )
    held = (x, score, args.energy, args.accepted, args.accept, args.log_alpha)
    none = (None,) * 5  # mean, mask, low, high, score_clip
    proposal, new_score, new_energy = (
        torch.empty_like(x),
        torch.empty_like(score),
        torch.empty_like(args.energy),
    )
    names = [args.name + torch.tensor([0, 0, 0, stream], device="cpu") for stream in range(3)]
    for _ in range(args.n_steps):
        size, rows = args.step_size, args.step_size_rows
        if jitter > 0:
            uniform = x.new_empty((x.shape[0], 1), dtype=torch.float64)
            uniform_(uniform, names[2], seeds, ids)
            size, rows = (
                math.nan,
                (1.0 + jitter * (2.0 * uniform.flatten() - 1.0)) * (size if rows is None else rows),
            )
        if args.n_leapfrog == 0:
            langevin_step(proposal, x, score, size, temperature, names[0], rows, None, *none, seeds, ids)
            evaluate(args.density, proposal, new_score, new_energy, args.constant)
            scale, scale_rows = (
                4.0 * temperature * size,
                None if rows is None else 4.0 * temperature * rows.double(),
            )
            tested, momenta = (size, rows), (None, None)
        else:
            half = (0.5 * size, None if rows is None else 0.5 * rows)
            fresh, p = torch.empty_like(x), torch.empty_like(x)
            spread = math.sqrt(temperature)
            affine_step(
                fresh, score, score, 0.0, half[0], spread, names[0], None, half[1], None, *none, seeds, ids
            )
            leapfrog(proposal, fresh, size, None, x, None, rows)
            for i in range(1, args.n_leapfrog):
                evaluate(args.density, proposal, new_score)
                leapfrog(proposal, p, size, new_score, None, fresh if i == 1 else None, rows)
            evaluate(args.density, proposal, new_score, new_energy, args.constant)
            scale, scale_rows = 2.0 * temperature, None
            tested, momenta = half, (fresh, fresh if args.n_leapfrog == 1 else p)
        proposed = (proposal, new_score, new_energy)
        tail = (*momenta, tested[1], scale_rows, seeds, ids)
        metropolis(*held, *proposed, tested[0], scale, temperature, names[1], *tail)
        for each in names:
            each[2] += 1
