"""UnderdampedLangevin: Langevin dynamics with inertia, by the BAOAB splitting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _ops
from ..targets import Target
from ._body import Body
from ._chained import Chained
from ._density import score_function
from ._loop import Sampler
from ._run import NAN, Bounds, Run, number
from ._schedule import Schedule, Scheduled, is_schedule
from ._step_options import StepOptions


class UnderdampedLangevin(Sampler):
    """Underdamped (kinetic) Langevin dynamics
    ``dx = v dt, dv = s(x) dt - friction v dt + sqrt(2 friction T) dw``, unit masses.

    It uses the BAOAB splitting (Leimkuhler & Matthews 2013): half a kick, half a drift, the exact
    Ornstein-Uhlenbeck step ``v <- c v + sqrt((1 - c^2) T) z`` with ``c = exp(-friction h)``, half a
    drift, half a kick. Its positions are far more accurate than :class:`Langevin`'s (exact for a
    Gaussian at any stable h), and it costs one score per step.

    Args:
        score_fn: maps x (B, ...) to grad log p(x); or one of :mod:`pyebm.targets`.
        step_size: h > 0, a time; stable for h < 2 / (the largest frequency of p, 1 / its smallest
            standard deviation). A number; or one per step: a list, a tensor (K,) on the CPU, or a
            function of the noise's step k (docs/samplers.md).
        friction: > 0; near the smallest frequency it mixes fastest, large values approach
            :class:`Langevin` with eta = h^2 / 2.
        temperature: T >= 0, like step_size.
        clamp: (low, high) for the positions: numbers, None for an open side, or tensors that
            broadcast to x.
        score_clip, mask, backend: as in :func:`pyebm.langevin_step`.

    It is called as every sampler (docs/samplers.md). A chain's velocity begins as N(0, T) from
    stream + 1; steps draw from the noise's own stream. Resume from a State: its
    ``extra["velocity"]`` is half a kick ahead of the position, the first half kick of the next
    step. That kick has the next step's size, so a function is called one step ahead; after a list's
    last number that number is used again.

    Raises TypeError and ValueError for arguments outside these types and ranges.

    Example:
        >>> import torch, pyebm
        >>> sampler = pyebm.samplers.UnderdampedLangevin(lambda x: -x, step_size=1.0, friction=1.0)
        >>> x = sampler(torch.zeros(1000, 2), 100, noise=pyebm.Noise(0))
        >>> bool(0.9 < x.std() < 1.1)  # exact; Langevin's step of 1.0 would give 1.41
        True
    """

    step_size: Schedule
    friction: float
    options: StepOptions
    score_options: StepOptions

    def __init__(
        self,
        score_fn: Any,
        step_size: Schedule,
        friction: float = 1.0,
        *,
        temperature: Schedule = 1.0,
        clamp: Bounds | None = None,
        score_clip: float | None = None,
        mask: Tensor | None = None,
        backend: str | None = None,
    ) -> None:
        self.score_fn = score_fn
        if not is_schedule(step_size):
            number("UnderdampedLangevin", "step_size", step_size)  # type: ignore[arg-type]
        if not is_schedule(temperature):
            number("UnderdampedLangevin", "temperature", temperature, open_low=False)  # type: ignore[arg-type]
        self.step_size, self.friction = step_size, number("UnderdampedLangevin", "friction", friction)
        self.options = StepOptions(temperature, clamp=clamp, mask=mask, backend=backend)
        self.score_options = StepOptions(score_clip=score_clip, mask=mask, backend=backend)

    def _body(self, run: Run) -> Body:
        target, here = self.score_fn, _ops.on_host(self.options.backend, run.x) and not run.graph
        if here and isinstance(target, Target) and self.options.fits_a_chain(target, run):
            return _Chain(run, self, target)
        return _Steps(run, self)


class _Steps(Body):
    """With ``w`` the velocity after a step's first half kick, one step is two updates that share
    their noise::

    x' = x + h/2 (1 + c) w + h/2 d z        drift, O, drift, for O: w -> c w + d z
    w' = (c w + (h + h')/2 s(x')) + d z     O, this step's second half kick and the next one's
    first, h' being its size
    """

    def __init__(self, run: Run, sampler: UnderdampedLangevin) -> None:
        super().__init__(run)
        run.need_streams(2)  # the second stream is only for the first velocity
        backend, self.friction = sampler.options.backend, sampler.friction
        self.h = Scheduled(run, "step_size", sampler.step_size, open_low=True, by_sample=False)
        self.t = Scheduled(run, "temperature", sampler.options.temperature, by_sample=False)
        self.varies = self.h.varies or self.t.varies
        self.score_fn = score_function(run, sampler.score_fn, backend)
        self.kernel, self.after = run.kernels(backend)["affine_step"], sampler.options.after(run)
        none = (None, None, None)
        self.tail, self.w_tail = sampler.options.tail(run, *none), sampler.score_options.tail(run, *none)
        if self.varies and run.graph:
            self.table = run.table([self._numbers(k) for k in run.steps])
            one = run.rows(1.0)
            self.rests = (
                sampler.options.tail(run, one, one, one)[3:],
                sampler.score_options.tail(run, one, one, one)[3:],
            )
        self.drift, self.kick = [(NAN, NAN, NAN)] * 2
        if not self.varies:
            self._set(self._numbers(run.first))
        self.w = self._begin()

    def _numbers(self, k: int) -> tuple[float, ...]:
        """The coefficients of the two updates of step k."""
        (h, _), (t, _) = self.h.at(k), self.t.at(k)
        last = self.h.numbers is not None and k + 1 == len(self.h.numbers)
        following = h if last else self.h.at(k + 1)[0]
        c = math.exp(-self.friction * h)
        d = math.sqrt(-math.expm1(-2.0 * self.friction * h) * t)
        return 1.0, 0.5 * h * (1.0 + c), 0.5 * h * d, c, 0.5 * (h + following), d

    def _set(self, numbers: tuple[float, ...]) -> None:
        a, b, c, *kick = numbers
        self.drift, self.kick = (a, b, c), (kick[0], kick[1], kick[2])

    def _begin(self) -> Tensor:
        """The first velocity and its half kick: 0 x + h/2 s + sqrt(T) z; at rest where the mask is
        False."""
        run = self.run
        carried = run.carried("velocity")
        if carried is not None:
            return carried.to(self.x.dtype)
        if any(each.numbers is not None and run.first == len(each.numbers) for each in (self.h, self.t)):
            return torch.zeros_like(self.x)  # at a schedule's end there is no next step
        (h, _), (t, _) = self.h.at(run.first), self.t.at(run.first)
        name = run.noise._block(0, 1, 2, self.x).flatten(0, 1).select(0, 1)
        score, still = self.fits(self.score_fn(self.x)), torch.zeros_like(self.x)
        w = torch.empty_like(self.x)
        self.kernel(w, still, score, 0.0, 0.5 * h, math.sqrt(t), name, *self.w_tail)
        return w

    def step(self, names: Sequence[Tensor], k: int | None) -> None:
        if self.varies:
            self._take(names, k)
        self.kernel(self.x, None, self.w, *self.drift, names[0], *self.tail)
        if self.after is not None:
            self.after()
        self.kernel(self.w, None, self.fits(self.score_fn(self.x)), *self.kick, names[0], *self.w_tail)

    def _take(self, names: Sequence[Tensor], k: int | None) -> None:
        if k is not None:
            return self._set(self._numbers(k))
        rows = self.run.of_step(self.table, names[0]).unbind(1)
        self.tail, self.w_tail = (*rows[:3], *self.rests[0]), (*rows[3:], *self.rests[1])
        return None

    def carried(self, done: int) -> dict[str, Tensor]:
        del done
        return {"velocity": self.w}


class _Chain(Chained, _Steps):
    """The body around a target: one kernel takes many steps."""

    def __init__(self, run: Run, sampler: UnderdampedLangevin, target: Target) -> None:
        super().__init__(run, sampler)
        self.chain, numbers = run.kernels(sampler.options.backend)["underdamped_chain"], run.target(target)
        self.params, self.head = numbers.params, (run.x, self.w, *numbers.density)
        bounds, (*_, score_clip) = sampler.options.of_a_chain(run)[:3], sampler.score_options.of_a_chain(run)
        self.options = (*bounds, score_clip, run.seeds, run.ids)
        self.fixed = None if self.varies else self._table(0, 1)  # the same at every step

    def _table(self, first: int, count: int) -> Tensor:
        """The coefficients of the steps first, ..., first + count - 1, except the one that is 1."""
        return self.run.table([self._numbers(k)[1:] for k in range(first, first + count)])

    def launch(self, first: int, count: int, name: Tensor, states: Tensor | None, thin: int | None) -> None:
        table = self._table(first, count) if self.fixed is None else self.fixed
        self.chain(*self.head, table, count, name, states, thin, *self.options)
