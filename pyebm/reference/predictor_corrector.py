"""Many times of a reverse diffusion, by the ops that take a single step."""

from __future__ import annotations

import torch

from .._arguments import entry
from .._schemas import PredictorCorrector
from .composed import corrector_step
from .known import Known
from .langevin import affine_step
from .network import network_score


@entry(PredictorCorrector)
def predictor_corrector(args: PredictorCorrector) -> None:
    x, table, n_steps, biases, named = (
        args.x,
        args.coefficients,
        args.n_steps,
        args.biases,
        (args.seeds, args.ids),
    )
    if table.shape != (n_steps, 4):
        must = f"coefficients must have a row of 4 for each of {n_steps} steps"
        raise ValueError(f"predictor_corrector: {must}, got {tuple(table.shape)}")
    if len(biases) not in (1, n_steps):
        raise ValueError(
            f"predictor_corrector: biases must have one row for all or for each of {n_steps} steps, got"
            f" {len(biases)}"
        )
    score, bounds = torch.empty_like(x), (args.mask, args.low, args.high)
    known = None
    if args.known is not None:
        held = (args.known, args.marginals, args.mask, args.name.clone(), *named)
        known = Known("predictor_corrector", n_steps, *held)
    for k in range(n_steps):
        factor, a, b, c = table[k].tolist()
        now = biases[k : k + 1] if len(biases) > 1 else biases
        names = args.name + torch.tensor(
            [[0, 0, k, stream] for stream in range(args.correctors + 1)], device="cpu"
        )
        for j in range(args.correctors):
            if known is not None:
                known.impose(x, k, 1 + args.correctors + j)
            network_score(score, x, args.layout, args.params, now)
            corrector_step(x, score, factor, names[1 + j], args.together, *bounds, *named)
        if args.predicts:
            if known is not None:
                known.impose(x, k, 1 + 2 * args.correctors)
            network_score(score, x, args.layout, args.params, now)
            affine_step(x, None, score, a, b, c, names[0], None, None, None, None, *bounds, None, *named)
        if args.states is not None and args.thin is not None and (k + 1) % args.thin == 0:
            args.states[(k + 1) // args.thin - 1] = x
