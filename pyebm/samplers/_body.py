"""One run of a sampler: what its steps share, checked once, so that a step is its arithmetic and
nothing else."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from .. import _ops
from .._checks import Coefficient, check_like, checked_number, coefficient
from .._clamps import Clamp
from .._derivatives import checkable, inside, plain
from .._options import check_callable
from ..energy import check_energy, energy_and_score
from ..langevin import step_options
from ..reference.coefficients import require
from ..targets import Target
from ..targets._learned import Learned
from ..targets._target import Numbers
from ._clamped import Clamped
from ._extra import check_numbers
from ._state import State

ScoreFn = Callable[..., Tensor]
EnergyFn = Callable[[Tensor], Tensor]
NAN = math.nan  # a number's place where it is one per sample
Bounds = Clamp
Number = tuple[float, Tensor | None]  # as the ops take a coefficient: a number, or one value per sample


class Run:
    """What a body needs to know of the call: a copy of the state, the noise's rows, how long the
    run is."""

    def __init__(self, call: str, start: State, length: int | None, n_steps: int, graph: bool) -> None:
        self.call, self.extra, self.length, self.n_steps, self.graph = (
            call,
            start.extra,
            length,
            n_steps,
            graph,
        )
        check_numbers(call, start.extra)
        self.followed = inside()  # by a transform, of which no sampler is part
        self.x = self.numbers("x0", self.numbers("x0", start.x).detach().clone())
        self.noise = start.noise
        self.first = start.noise.step
        self.seeds, self.ids = start.noise._rows(self.x.shape[0], self.x)
        # Whether looking at numbers waits for nothing: not for a device, nor at something that is
        # only traced.
        self.may_look = type(self.x) is Tensor and checkable(self.x)
        self.work = torch.promote_types(self.x.dtype, torch.float32)  # what a step computes in

    @property
    def steps(self) -> range:
        """By their numbers in the noise; only where asked for, since it would be a guard on the
        first of them in compiled code."""
        return range(self.first, self.first + self.n_steps)

    def need_streams(self, count: int) -> None:
        """The noise's own stream and those after it, which must exist."""
        if self.noise.stream + count > 2**32:
            raise ValueError(
                f"{self.call}: stream must leave room for {count} streams below 2**32, got"
                f" {self.noise.stream}"
            )

    def kernels(self, backend: str | None) -> dict[str, Callable[..., None]]:
        return _ops.kernels(backend, self.x)

    def column(self, rows: Tensor) -> Tensor:
        """(B,) or (1,) as (B, 1, ...), to go with x."""
        return rows.reshape(-1, *[1] * (self.x.dim() - 1))

    def name(self, k: int, stream: int = 0) -> Tensor:
        """Of step k's noise; stream: counted from the noise's own."""
        return self.noise._block(k - self.first, 1, 1 + stream, self.x).squeeze(0).select(0, stream)

    def rows(self, value: float, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.full(self.x.shape[:1], value, dtype=dtype, device=self.x.device)

    def table(self, rows: list[Any], dtype: torch.dtype = torch.float64) -> Tensor:
        """The host's numbers on the device, without a wait for it."""
        made = torch.tensor(rows, dtype=dtype, device="cpu")  # whatever the default device
        return made.pin_memory().to(self.x.device, non_blocking=True) if self.x.is_cuda else made

    def numbers(self, name: str, tensor: Tensor) -> Tensor:
        """What a user gave, as samplers take it, who run under no_grad: a constant. A tangent is
        refused (plain)."""
        return plain(self.call, name, tensor) if self.followed else tensor

    def coefficient(self, name: str, value: Coefficient, open_low: bool = False) -> Number:
        if not isinstance(value, Tensor):  # a sampler's own number, which compiled code may know
            return checked_number(self.call, name, value, 0.0, open_low), None
        value = self.numbers(name, value)
        made = coefficient(self.call, name, value, self.x, low=0.0, open_low=open_low)
        if (
            self.may_look and made[1] is not None
        ):  # some kernels would check it too, but each in its own words
            require(self.call, name, made[1], open_low)
        return made

    def target(self, target: Target) -> Numbers:
        return self.plain(target._numbers_for(self.call, self.x))

    def plain(self, numbers: Numbers) -> Numbers:
        biases = None if numbers.biases is None else self.numbers("the target's condition", numbers.biases)
        return numbers._replace(params=self.numbers("the target", numbers.params), biases=biases)

    def of_step(self, table: Tensor, name: Tensor) -> Tensor:
        """The row of a table that begins with the run's first step; a graph has its number in
        ``name``."""
        return table.index_select(0, name.narrow(0, 2, 1) - self.first)

    def carried(self, name: str) -> Tensor | None:
        """What an earlier run left under this name, as a copy; None at a chain's first step."""
        value = self.extra.get(name)
        return None if value is None else value.to(self.x.device, copy=True)


class Body:
    """A sampler's step, with the tensors it works on; all of them stay where they are, so that a
    graph can replay it."""

    streams = 1  # draws a step; draw j takes the noise's stream + j
    fused = False  # has an ``advance``, many steps in one kernel
    keeps = False  # which keeps the thinned states too
    by_step = 0  # steps of the run that come before the first that ``advance`` can take
    takes_names = True  # else its steps are given none, being able to do without

    def __init__(self, run: Run) -> None:
        self.run, self.x = run, run.x
        self._shape, self._dtype, self._device = run.x.shape, run.x.dtype, run.x.device

    def at_once(self) -> int:
        """The steps of the first call of ``advance``; the next ones' follow from the time it
        takes."""
        return 16

    def step(self, names: Sequence[Tensor], k: int | None) -> None:
        """Advance ``x`` in place. k is the step's number in the noise, or None in a graph, where
        only names[0][2] knows it."""
        raise NotImplementedError

    def advance(self, done: int, count: int, kept: Tensor | None, thin: int | None) -> None:
        """``count`` steps at once; where it ``keeps``, states after multiples of thin go to
        ``kept``, where given."""
        raise NotImplementedError

    def finish(self) -> None:
        """What follows the last step of a schedule."""

    @property
    def tells(self) -> bool:
        """Whether its info ever says anything."""
        return type(self).info is not Body.info

    def info(self, k: int) -> dict[str, Any]:
        """For callbacks and trajectories, after step k: numbers, and tensors on the device. Of one
        that ``keeps`` states inside a call, k alone decides it."""
        del k
        return {}

    def totals(self, done: int) -> dict[str, Tensor]:
        """For trajectories: what is known of the whole run."""
        del done
        return {}

    def look_back(self, done: int) -> None:
        """At the run's end: warn of what went wrong, where looking waits for nothing."""

    def carried(self, done: int) -> dict[str, Tensor]:
        """The state beyond x."""
        del done
        return {}

    def fits(self, score: Tensor, name: str = "score", at: Tensor | None = None) -> Tensor:
        """The score, once it is known to go with x: a kernel reads as many elements as x has.

        at: the tensor that the score function was given, where it is not x.
        """
        given = self.x if at is None else at
        if given.shape != self._shape or given.dtype is not self._dtype:
            raise ValueError(
                f"{self.run.call}: a score function or callback must leave the state's shape and dtype as"
                f" they are, {tuple(self._shape)} and {self._dtype}, got {tuple(given.shape)} and"
                f" {given.dtype}"
            )
        if self.run.followed and isinstance(score, Tensor):
            score = plain(self.run.call, name, score)
        if type(score) is Tensor and score.layout is torch.strided and score.dtype is self._dtype:
            if not is_compiling() and score._is_zerotensor():  # autograd's zeros, which have no memory
                score = score.clone()
            if score.shape == self._shape and score.device == self._device:
                return score
        return check_like(self.run.call, name, score, "x", self.x)


def score_of(run: Run, fn: Any, backend: str | None) -> ScoreFn:
    """The score function that fn is, or that the target fn has: then straight to its kernel,
    checked here once."""
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
    """The score function of x and a level that fn is, or that the learned target fn has."""
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
    """Both by a target's kernel, in the same two tensors each time; None where there is none."""
    kernels = run.kernels(backend)
    known = run.x.is_cpu and "target_energy" in kernels and isinstance(fn, Target)
    if not known or not fn._has_energy_kernel or not fn._has_score_kernel(backend, run.x):
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

    def both(x: Tensor) -> tuple[Tensor, Tensor]:
        kernel(energy, score, x, index, params, constant)
        return energy, score

    return both


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
            score_fn = score_of(run, energy_fn, backend)
        self.score_fn = score_fn

    def score(self, x: Tensor) -> Tensor:
        return self.both(x)[1] if self.score_fn is None else self.score_fn(x)

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(energy (B,), score), good until the next call."""
        if self.kernel is not None:
            return self.kernel(x)
        if self.score_fn is None:
            energy, score = energy_and_score(self.call, self.energy_fn, x)
            return self.run.numbers("energy", energy), score
        if x.shape[0] == 1 and isinstance(self.energy_fn, Target):
            # torch sums a single long row in as many parts as there are threads, two rows one by
            # one.
            energy = self.energy_fn(x.expand(2, *x.shape[1:]))[:1]
        else:
            energy = self.energy_fn(x)
        check_energy(self.call, energy, x.shape[0])
        return self.run.numbers("energy", energy).reshape(x.shape[0]), self.score_fn(x)


def number(call: str, name: str, value: Coefficient, low: float = 0.0, open_low: bool = True) -> float:
    """A coefficient that must be one number for all samples."""
    if isinstance(value, Tensor):
        raise TypeError(f"{call}: {name} must be a number, got a tensor")
    return checked_number(call, name, value, low, open_low)


class StepOptions:
    """What :func:`pyebm.langevin_step` takes besides a step size, and clamps by element."""

    def __init__(
        self,
        temperature: Any = 1.0,
        clamp: Bounds | None = None,
        score_clip: float | None = None,
        mask: Tensor | None = None,
        backend: str | None = None,
    ) -> None:
        self.temperature, self.clamp, self.score_clip, self.mask, self.backend = (
            temperature,
            clamp,
            score_clip,
            mask,
            backend,
        )

    def tail(self, run: Run, *rows: Tensor | None) -> tuple[Any, ...]:
        """What follows an update's name: rows, mean, mask, low, high, score_clip, seeds, ids; empty
        where all of it is None."""
        options = step_options(run.call, run.x, self._numbers(), self.score_clip, self.mask)
        tail = (*rows, None, *options, run.seeds, run.ids)
        return tail if any(value is not None for value in tail) else ()

    def of_a_chain(self, run: Run) -> tuple[Tensor | None, float | None, float | None, float | None]:
        """(mask, low, high, score_clip) as a chain's op takes them: the clamp, where the kernels do
        it."""
        return step_options(run.call, run.x, self._numbers(), self.score_clip, self.mask)

    def fits_a_chain(self, target: Target, run: Run) -> bool:
        """Whether the target has a chain's op here, and that has all that is asked for."""
        limited = self.mask is not None or self.score_clip is not None
        return (self.clamp is None or self._numbers() is not None) and target._has_chain(
            self.backend, run.x, limited
        )

    def after(self, run: Run) -> Clamped | None:
        """The clamp, where it is to be done after a step."""
        return None if self.clamp is None or self._numbers() is not None else Clamped(run, self)

    def _numbers(self) -> Clamp | None:
        """The clamp, where it is a pair of numbers."""
        clamp = self.clamp
        if isinstance(clamp, (tuple, list)) and len(clamp) == 2:
            return None if any(isinstance(side, Tensor) and side.numel() != 1 for side in clamp) else clamp
        return clamp  # of anything else step_options says what is wrong

    def expanded_mask(self, run: Run) -> Tensor | None:
        return step_options(run.call, run.x, mask=self.mask)[0]
