"""A network's scores and energies, its Hessian's products, and its chains."""

from __future__ import annotations

import torch
from torch import Tensor

from .._arguments import entry
from .._composed import network_score_of, work_of
from .._composed.network import unpacked
from .._schemas import NetworkChain, NetworkHvp, NetworkLaplacian, NetworkScore
from .chain import run
from .known import Known


@entry(NetworkScore)
def network_score(args: NetworkScore) -> None:
    if args.score is None and args.energy is None:
        raise ValueError("network_score: score or energy must be given")
    value, energies = network_score_of(args.x, args.layout, args.params, args.biases)
    if args.score is not None:
        args.score.copy_(value)
    if args.energy is not None:
        if energies is None:
            raise ValueError("network_score: a network that gives scores has no energy")
        args.energy.copy_(energies)


@entry(NetworkHvp)
def network_hvp(args: NetworkHvp) -> None:
    args.out.copy_(_hessian_times(args, work_of(args.v)))


@entry(NetworkLaplacian)
def network_laplacian(args: NetworkLaplacian) -> None:
    total = torch.zeros_like(args.out)
    for at in range(args.x[:1].numel()):
        direction = torch.zeros_like(work_of(args.x))
        direction.flatten(1)[:, at] = 1.0
        total += _hessian_times(args, direction).flatten(1)[:, at]
    args.out.copy_(total)


def _hessian_times(args: NetworkHvp | NetworkLaplacian, v: Tensor) -> Tensor:
    if not unpacked(args.x, args.layout, args.params, args.biases).is_energy:
        raise ValueError("network: a network that gives scores has no Hessian")

    def gradient(x: Tensor) -> Tensor:
        return -network_score_of(x, args.layout, args.params, args.biases)[0]

    product: Tensor = torch.func.jvp(gradient, (work_of(args.x),), (v,))[1]
    return product


@entry(NetworkChain)
def network_chain(args: NetworkChain) -> None:
    biases, n_steps = args.biases, args.steps.n_steps
    if args.biases_per_step and biases is not None and len(biases) not in (1, n_steps):
        raise ValueError(
            f"network_chain: biases must have one row for all or for each of {n_steps} steps, got"
            f" {len(biases)}"
        )

    def score(state: Tensor, step: int) -> Tensor:
        now = (
            biases[step : step + 1]
            if args.biases_per_step and biases is not None and len(biases) > 1
            else biases
        )
        return network_score_of(state, args.layout, args.params, now)[0]

    known, steps = None, args.steps
    if args.known is not None:
        named = (steps.name, steps.seeds, steps.ids)
        known = Known("network_chain", n_steps, args.known, args.marginals, steps.mask, *named)
    run("network_chain", args.x, score, steps, known)
