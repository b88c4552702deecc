"""Many steps of underdamped Langevin dynamics, by the ops that take a single step."""

from __future__ import annotations

import torch

from .._arguments import entry
from .._schemas import UnderdampedChain
from .density import evaluate
from .langevin import affine_step


@entry(UnderdampedChain)
def underdamped_chain(args: UnderdampedChain) -> None:
    x, w, n_steps, table, mask, named = (
        args.x,
        args.velocity,
        args.n_steps,
        args.coefficients,
        args.mask,
        (args.seeds, args.ids),
    )
    if table.shape[1] != 5 or table.shape[0] not in (1, n_steps):
        raise ValueError(
            f"underdamped_chain: coefficients must have a row of 5 for all or for each of {n_steps} steps,"
            f" got {tuple(table.shape)}"
        )
    score, name, rows = torch.empty_like(x), args.name.clone(), (None, None, None)
    evaluate(args.density, x, score)  # first, since it refuses bad arguments before anything is written
    for k in range(n_steps):
        b, c, d, e, f = table[k if len(table) > 1 else 0].tolist()
        affine_step(x, None, w, 1.0, b, c, name, *rows, None, mask, args.low, args.high, None, *named)
        evaluate(args.density, x, score)
        affine_step(w, None, score, d, e, f, name, *rows, None, mask, None, None, args.score_clip, *named)
        if args.states is not None and args.thin is not None and (k + 1) % args.thin == 0:
            args.states[(k + 1) // args.thin - 1] = x
        name[2] += 1
