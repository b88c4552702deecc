"""The score and the energy that a sampler was given, as a target or as functions."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import _ops
from .._options import check_callable
from ..energy import check_energy, energy_and_score
from ..targets import Target
from ..targets._learned import Learned
from ._run import Run, ScoreFn


def score_function(run: Run, fn: Any, backend: str | None) -> ScoreFn:
    """The score function: fn itself, or the kernel of the target fn, which is checked here once and
    then called directly."""
    if not isinstance(fn, Target):
        if not callable(fn):
            raise TypeError(
                f"{run.call}: score_fn must be a function or one of pyebm.targets, got {type(fn).__name__}"
            )
        return fn  # type: ignore[no-any-return]
    if not fn._has_score_kernel(backend, run.x):
        return functools.partial(fn.score, backend=backend)
    numbers = run.target(fn)
    kernel, which, params = run.kernels(backend)[numbers.score_op], numbers.which, numbers.params
    tail = () if numbers.biases is None else (numbers.biases,)

    def score(x: Tensor) -> Tensor:
        out = torch.empty_like(x)
        kernel(out, x, which, params, *tail)
        return out

    return score


def score_at(run: Run, fn: Any, backend: str | None) -> ScoreFn:
    """The score function of x and a level: fn itself, or the one of the learned target fn."""
    if not isinstance(fn, Learned):
        return fn  # type: ignore[no-any-return]
    if not fn.condition:
        raise ValueError(
            f"{run.call}: score_fn must be a function of x and a level; make the {type(fn).__name__} with"
            " condition=C"
        )
    return functools.partial(fn.score, backend=backend)


def energy_and_score_of(
    run: Run, fn: Any, backend: str | None
) -> Callable[[Tensor], tuple[Tensor, Tensor]] | None:
    """A function that gives energy and score by a target's kernel, in the same two tensors each
    time; None if there is no such kernel."""
    kernels = run.kernels(backend)
    if not isinstance(fn, Target) or not (_ops.on_host(backend, run.x) or fn._has_energy_on_gpus):
        return None
    if not fn._has_energy_kernel or not fn._has_score_kernel(backend, run.x):
        return None
    energy, score = run.rows(0.0), torch.empty_like(run.x, memory_format=torch.contiguous_format)
    numbers = run.target(fn)
    if numbers.score_op != "target_score":
        network = kernels[numbers.score_op]

        def of_network(x: Tensor) -> tuple[Tensor, Tensor]:
            network(score, x, numbers.which, numbers.params, numbers.biases, energy)
            return energy, score

        return of_network
    kernel, index, params = kernels["target_energy"], numbers.which, numbers.params
    constant = fn._constant(math.prod(run.x.shape[1:]))

    def energy_and_score(x: Tensor) -> tuple[Tensor, Tensor]:
        kernel(energy, score, x, index, params, constant)
        return energy, score

    return energy_and_score


class Potential:
    """An energy with its score: a target's, a user's two functions, or one function and its
    gradient by autograd."""

    def __init__(self, run: Run, energy_fn: Any, score_fn: ScoreFn | None, backend: str | None) -> None:
        call = run.call
        if not callable(energy_fn):
            raise TypeError(
                f"{call}: energy_fn must be a function or one of pyebm.targets, got"
                f" {type(energy_fn).__name__}"
            )
        if score_fn is not None:
            check_callable(call, "score_fn", score_fn, "a function of x, or None")
        if isinstance(energy_fn, Target) and not energy_fn.has_energy:
            raise TypeError(
                f"{call}: energy_fn must have an energy, got {type(energy_fn).__name__}, a score alone"
            )
        self.call, self.energy_fn, self.run = call, energy_fn, run
        self.kernel = energy_and_score_of(run, energy_fn, backend) if score_fn is None else None
        if score_fn is None and isinstance(energy_fn, Target):
            score_fn = score_function(run, energy_fn, backend)
        self.score_fn = score_fn

    def score(self, x: Tensor) -> Tensor:
        if self.score_fn is not None:
            return self.score_fn(x)
        made = self.kernel(x) if self.kernel is not None else energy_and_score(self.call, self.energy_fn, x)
        return made[1]

    def energy_and_score(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(energy (B,), score), good until the next call."""
        if self.kernel is not None:
            return self.kernel(x)
        if self.score_fn is None:
            energy, score = energy_and_score(self.call, self.energy_fn, x)
            return self.run.numbers("energy", energy), score
        if x.shape[0] == 1 and isinstance(self.energy_fn, Target):
            # torch cuts the sum of a single long row by the number of threads, but sums each of two
            # rows whole. So the row is doubled, for bits that don't depend on the threads.
            energy = self.energy_fn(x.expand(2, *x.shape[1:]))[:1]
        else:
            energy = self.energy_fn(x)
        check_energy(self.call, energy, x.shape[0])
        return self.run.numbers("energy", energy).reshape(x.shape[0]), self.score_fn(x)
