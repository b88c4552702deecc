"""The samplers' ops on one batch, whose results have the same bits on every backend."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import torch
from cases import levels, normal
from target_cases import make, start
from torch import Tensor

from pyebm import Noise

Ops = Mapping[str, Callable[..., None]]


def transposed(x: Tensor) -> Tensor:
    """Other strides, where there are two dimensions to swap."""
    return x.mT.contiguous().mT if x.dim() > 2 else x


def proposals(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Returns [x, score, energy, accepted, accept, log_alpha], [proposal, its score, its energy],
    and two momenta: near each other, so that some move."""
    batch = shape[0]
    x, score, *rest = (normal(*shape, dtype=dtype, seed=k) for k in range(6))
    y, new_score, first, last = ((x + 0.02 * each).to(dtype) for each in rest)
    energy, proposed = (normal(batch, 1, dtype=torch.float64, seed=k).flatten() for k in (6, 7))
    accepted, accept = torch.arange(batch), torch.zeros(batch, dtype=torch.bool)
    held = [x, score, energy, accepted, accept, torch.zeros(batch, dtype=torch.float64)]
    return held, [y, new_score, proposed], [transposed(first), last]


def named(batch: int, per_sample: bool) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The name of a noise, and seeds and ids where samples have their own."""
    noise = Noise(3, first_sample=7, step=2)
    if per_sample:
        noise = Noise(torch.arange(batch) % 3, sample_ids=torch.arange(batch).flip(0), step=2, stream=1)
    return noise._named(batch, torch.empty(batch))


def results(ops: Ops, shape: tuple[int, ...], dtype: torch.dtype) -> Iterator[Tensor]:
    """The results of every such op, without a NaN."""
    batch, elements = shape[0], math.prod(shape[1:])
    x, p, score = (normal(*shape, dtype=dtype, seed=k) for k in range(3))
    rows, (name, seeds, ids) = levels(batch, dtype=torch.float64), named(batch, True)
    ops["leapfrog"](x, p, 0.37, transposed(score), None, None, rows)
    yield from (x, p)
    for hmc in (False, True):
        held, given, momenta = proposals(shape, dtype)
        tail = (*(momenta if hmc else (None, None)), rows, None, seeds, ids)
        ops["metropolis"](*held, *given, 0.3, 2.7, 1.3, name, *tail)
        yield from held
    for together in (False, True):
        numbers = [normal(batch, 1, dtype=torch.float64, seed=k).flatten() for k in range(5)]
        steps = torch.ones((), dtype=torch.float64)
        ops["dual_averaging"](*numbers[:3], steps, *numbers[3:], 5, 0.6, together)
        yield from (*numbers[:3], steps)
        state = x.clone()
        ops["corrector_step"](state, score, 0.3, name, together, x > 0, -0.5, None, seeds, ids)
        yield state
    for kind in ("double_well", "rosenbrock", "ackley"):
        target, state = make(kind, elements), start(shape, dtype)
        energy, slope = torch.empty(batch), torch.empty_like(state)
        ops["target_energy"](energy, slope, state, target._index, target._checked("test", state), 0.5)
        yield from (energy, slope)
