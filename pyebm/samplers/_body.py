"""One run of a sampler. Everything that its steps share is checked once, so that a step is only its
arithmetic."""

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
from .._composed.coefficients import require
from .._derivatives import checkable, inside, plain
from .._options import check_callable
from ..energy import check_energy, energy_and_score
from ..langevin import step_options
from ..targets import Target
from ..targets._learned import Learned
from ..targets._target import Numbers
from ._clamped import Clamped
from ._extra import check_numbers
from ._state import State

ScoreFn = Callable[..., Tensor]
EnergyFn = Callable[[Tensor], Tensor]
NAN = math.nan  # stands in a number's place when there is one per sample
Bounds = Clamp
Number = tuple[float, Tensor | None]  # a coefficient of an op: a number, or one value per sample


class Run:
    """The data of one call that a body needs: a copy of the state, the noise's seeds and ids, the
    length of the run."""

    def __init__(self, call: str, start: State, length: int | None, n_steps: int, graph: bool) -> None:
        self.call, self.extra, self.length, self.n_steps, self.graph = (
            call,
            start.extra,
            length,
            n_steps,
            graph,
        )
        check_numbers(call, start.extra)
        self.followed = inside()  # whether a transform is active, which samplers can't take part in
        self.x = self.numbers("x0", self.numbers("x0", start.x).detach().clone())
        self.noise = start.noise
        self.first = start.noise.step
        self.seeds, self.ids = start.noise._rows(self.x.shape[0], self.x)
        # Whether the host may read numbers without a wait: they are not on another device, nor
        # traced.
        self.may_look = type(self.x) is Tensor and checkable(self.x)
        self.work = torch.promote_types(self.x.dtype, torch.float32)  # the dtype of a step's arithmetic

    @property
    def steps(self) -> range:
        """The run's steps, by their numbers in the noise. It is a property, since in compiled code
        it adds a guard on the first step."""
        return range(self.first, self.first + self.n_steps)

    def need_streams(self, count: int) -> None:
        """Checks that the noise's own stream and the count - 1 streams after it exist."""
        if self.noise.stream + count > 2**32:
            raise ValueError(
                f"{self.call}: stream must leave room for {count} streams below 2**32, got"
                f" {self.noise.stream}"
            )

    def kernels(self, backend: str | None) -> dict[str, Callable[..., None]]:
        return _ops.kernels(backend, self.x)

    def column(self, rows: Tensor) -> Tensor:
        """Rows (B,) or (1,) in the shape (B, 1, ...), which broadcasts to x."""
        return rows.reshape(-1, *[1] * (self.x.dim() - 1))

    def name(self, k: int, stream: int = 0) -> Tensor:
        """The name of step k's noise. stream: counted from the noise's own."""
        return self.noise._block(k - self.first, 1, 1 + stream, self.x).squeeze(0).select(0, stream)

    def rows(self, value: float, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.full(self.x.shape[:1], value, dtype=dtype, device=self.x.device)

    def table(self, rows: list[Any], dtype: torch.dtype = torch.float64) -> Tensor:
        """Copies the host's numbers to the device without waiting for it."""
        made = torch.tensor(rows, dtype=dtype, device="cpu")  # whatever the default device
        return made.pin_memory().to(self.x.device, non_blocking=True) if self.x.is_cuda else made

    def numbers(self, name: str, tensor: Tensor) -> Tensor:
        """A user's tensor as a constant, since samplers run under no_grad. A tangent is refused
        (plain)."""
        return plain(self.call, name, tensor) if self.followed else tensor

    def coefficient(self, name: str, value: Coefficient, open_low: bool = False) -> Number:
        if not isinstance(value, Tensor):  # a sampler's number, which may be a constant in compiled code
            return checked_number(self.call, name, value, 0.0, open_low), None
        value = self.numbers(name, value)
        made = coefficient(self.call, name, value, self.x, low=0.0, open_low=open_low)
        # Some kernels check it too, but each with a message of its own.
        if self.may_look and made[1] is not None:
            require(self.call, name, made[1], open_low)
        return made

    def target(self, target: Target) -> Numbers:
        return self.plain(target._numbers_for(self.call, self.x))

    def plain(self, numbers: Numbers) -> Numbers:
        biases = None if numbers.biases is None else self.numbers("the target's condition", numbers.biases)
        return numbers._replace(params=self.numbers("the target", numbers.params), biases=biases)

    def of_step(self, table: Tensor, name: Tensor) -> Tensor:
        """The row of the current step in a table whose first row is the run's first step. In a
        graph only ``name`` holds the step's number."""
        return table.index_select(0, name.narrow(0, 2, 1) - self.first)

    def carried(self, name: str) -> Tensor | None:
        """A copy of the tensor that an earlier run left under this name; None at a chain's first
        step."""
        value = self.extra.get(name)
        return None if value is None else value.to(self.x.device, copy=True)


class Body:
    """A sampler's step, with the tensors it works on. Their addresses never change, so that a graph
    can replay the step."""

    streams = 1  # draws per step; draw j takes the noise's stream + j
    fused = False  # whether it has an ``advance``, many steps in one kernel
    keeps = False  # whether ``advance`` keeps the thinned states too
    by_step = 0  # steps at the beginning of the run that ``advance`` can't take
    takes_names = True  # whether its steps need the names of their noise

    def __init__(self, run: Run) -> None:
        self.run, self.x = run, run.x
        self._shape, self._dtype, self._device = run.x.shape, run.x.dtype, run.x.device

    def at_once(self) -> int:
        """The steps of the first call of ``advance``; its time decides how many the next calls
        take."""
        return 16

    def step(self, names: Sequence[Tensor], k: int | None) -> None:
        """Advance ``x`` in place. k is the step's number in the noise, or None in a graph, where
        only names[0][2] holds it."""
        raise NotImplementedError

    def advance(self, done: int, count: int, kept: Tensor | None, thin: int | None) -> None:
        """Take ``count`` steps at once. A body that ``keeps`` writes the states after multiples of
        thin to ``kept``, if given."""
        raise NotImplementedError

    def finish(self) -> None:
        """Do what follows the last step of a schedule, such as the final denoising."""

    @property
    def tells(self) -> bool:
        """Whether :meth:`info` ever returns anything."""
        return type(self).info is not Body.info

    def info(self, k: int) -> dict[str, Any]:
        """Numbers and tensors on the device, for callbacks and trajectories, after step k. For a
        body that ``keeps`` states inside a call they depend on k alone."""
        del k
        return {}

    def totals(self, done: int) -> dict[str, Tensor]:
        """Tensors that describe the whole run, for trajectories."""
        del done
        return {}

    def look_back(self, done: int) -> None:
        """Warn, at the run's end, of anything that went wrong, if the host can read it without a
        wait."""

    def carried(self, done: int) -> dict[str, Tensor]:
        """The tensors of the state beyond x, by name."""
        del done
        return {}

    def fits(self, score: Tensor, name: str = "score", at: Tensor | None = None) -> Tensor:
        """Checks that the score goes with x, since a kernel reads as many elements as x has;
        returns it.

        at: the tensor that the score function was given, if it is not x.
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
            if not is_compiling() and score._is_zerotensor():  # autograd's zero tensors have no memory
                score = score.clone()
            if score.shape == self._shape and score.device == self._device:
                return score
        return check_like(self.run.call, name, score, "x", self.x)


def score_of(run: Run, fn: Any, backend: str | None) -> ScoreFn:
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
    if not isinstance(fn, Target) or not _ops.on_host(backend, run.x):
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
            # torch cuts the sum of a single long row by the number of threads, but sums each of two
            # rows whole. So the row is doubled, for bits that don't depend on the threads.
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
    """The options of :func:`pyebm.langevin_step` besides the step size; also clamps by element."""

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
        """The arguments of an update after its noise's name: rows, mean, mask, low, high,
        score_clip, seeds, ids; empty if all of them are None."""
        options = step_options(run.call, run.x, self._numbers(), self.score_clip, self.mask)
        tail = (*rows, None, *options, run.seeds, run.ids)
        return tail if any(value is not None for value in tail) else ()

    def of_a_chain(self, run: Run) -> tuple[Tensor | None, float | None, float | None, float | None]:
        """(mask, low, high, score_clip) as a chain's op takes them; the clamp only if it is one
        that the kernels do."""
        return step_options(run.call, run.x, self._numbers(), self.score_clip, self.mask)

    def fits_a_chain(self, target: Target, run: Run) -> bool:
        """Whether the target has a chain's op here, and that op has all the options asked for."""
        limited = self.mask is not None or self.score_clip is not None
        return (self.clamp is None or self._numbers() is not None) and target._has_chain(
            self.backend, run.x, limited
        )

    def after(self, run: Run) -> Clamped | None:
        """The clamp that must be done after a step, or None."""
        return None if self.clamp is None or self._numbers() is not None else Clamped(run, self)

    def _numbers(self) -> Clamp | None:
        """The clamp if it is a pair of numbers, else None."""
        clamp = self.clamp
        if isinstance(clamp, (tuple, list)) and len(clamp) == 2:
            return None if any(isinstance(side, Tensor) and side.numel() != 1 for side in clamp) else clamp
        return clamp  # anything else goes to step_options, which says what is wrong

    def expanded_mask(self, run: Run) -> Tensor | None:
        return step_options(run.call, run.x, mask=self.mask)[0]
