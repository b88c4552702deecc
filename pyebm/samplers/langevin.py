"""Langevin: the unadjusted Langevin algorithm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from .. import _ops
from .._options import shown
from ..targets import Target
from ..targets._numbers import Numbers
from ._body import Body
from ._chained import Chained
from ._density import score_function
from ._loop import Sampler
from ._plain import PlainStep
from ._run import Bounds, Run
from ._schedule import Schedule, Scheduled
from ._step_options import StepOptions


class Langevin(Sampler):
    """The unadjusted Langevin algorithm: ``x <- x + eta s(x) + sqrt(2 eta T) z``, n times (Roberts
    & Tweedie 1996).

    Around a closed-form target it runs :func:`pyebm.langevin_chain`, one launch from one callback
    to the next; the bits are those of the loop of steps. Without Metropolis' test its law is biased
    by O(eta); :class:`MALA` is not.

    Args:
        score_fn: maps x (B, ...) to grad log p(x); or one of :mod:`pyebm.targets`. For an energy:
            ``functools.partial(pyebm.energy_score, energy_fn)``.
        step_size: eta > 0: a number; a tensor (), (B,) or (B, 1, ...), one per sample; or one per
            step: a list, a tensor (K,) on the CPU with K other than B, or a function of the noise's
            step k (docs/samplers.md).
        temperature: T >= 0, like step_size.
        noise_scale: >= 0, like step_size, in place of a temperature:
            ``x <- x + eta s(x) + noise_scale z``, the noise decoupled from the step size as
            energy-based models are trained with (IGEBM, Du & Mordatch 2019; JEM, Grathwohl et al.
            2020). Around a target, too, it is a loop of steps.
        clamp: (low, high), applied to every state: numbers, None for an open side, or tensors that
            broadcast to x. With tensors a target's chain is a loop of steps.
        score_clip, mask, backend: as in :func:`pyebm.langevin_step`.

    It is called as every sampler (docs/samplers.md). A run of n + m steps equals, bit for bit, a
    run of n from ``noise`` followed by one of m from its result with
    ``noise.at(step=noise.step + n)``. It draws from the noise's own stream.

    Raises as :func:`pyebm.langevin_step`; ValueError for a schedule that is too short for the run,
    and for noise_scale beside a temperature.

    Example:
        >>> import torch, pyebm
        >>> sampler = pyebm.samplers.Langevin(lambda x: -x, step_size=0.1)
        >>> x = sampler(torch.zeros(1000, 2), 100, noise=pyebm.Noise(0))
        >>> bool((x.var() - 1 / (1 - 0.1 / 2)).abs() < 0.1)  # the closed-form stationary variance
        True
    """

    score_fn: Any
    step_size: Schedule
    noise_scale: Schedule | None
    options: StepOptions

    def __init__(
        self,
        score_fn: Any,
        step_size: Schedule,
        *,
        temperature: Schedule = 1.0,
        noise_scale: Schedule | None = None,
        clamp: Bounds | None = None,
        score_clip: float | None = None,
        mask: Tensor | None = None,
        backend: str | None = None,
    ) -> None:
        if noise_scale is not None and (isinstance(temperature, Tensor) or temperature != 1.0):
            raise ValueError(
                f"Langevin: give temperature or noise_scale, not both; got {shown(temperature)} and"
                f" {shown(noise_scale)}"
            )
        self.score_fn, self.step_size, self.noise_scale = score_fn, step_size, noise_scale
        self.options = StepOptions(temperature, clamp, score_clip, mask, backend)

    def _body(self, run: Run) -> Body:
        options, target = self.options, self.score_fn
        if (
            isinstance(target, Target)
            and not run.graph
            and self.noise_scale is None
            and options.fits_a_chain(target, run)
        ):
            return Chain(run, options, run.target(target), self.step_size)
        return _Steps(run, self)


class _Steps(Body):
    def __init__(self, run: Run, sampler: Langevin) -> None:
        super().__init__(run)
        options = sampler.options
        eta = Scheduled(run, "step_size", sampler.step_size, open_low=True)
        if sampler.noise_scale is None:
            op = "langevin_step"
            self.coefficients = (eta, Scheduled(run, "temperature", options.temperature))
        else:
            op = "affine_step"  # x + eta s + noise_scale z
            self.coefficients = (eta, Scheduled(run, "noise_scale", sampler.noise_scale))
        self.fixed: tuple[float, ...] = () if sampler.noise_scale is None else (1.0,)
        self.score_fn = score_function(run, sampler.score_fn, options.backend)
        self.kernel, self.after = run.kernels(options.backend)[op], options.after(run)
        numbers, rows = zip(*(each.constant for each in self.coefficients), strict=True)
        none = (None,) * len(self.fixed)
        self.numbers, self.tail = (*self.fixed, *numbers), options.tail(run, *none, *rows)
        self.varies = any(each.varies for each in self.coefficients)
        if self.varies and run.graph:
            one = run.rows(1.0)
            self.rest = options.tail(run, one)[1:]
        self.plain = None if run.graph else PlainStep.for_run(run, options.backend, self.tail)
        if self.plain is not None:
            self.takes_names = False
            self._set_plain()

    def step(self, names: Sequence[Tensor], k: int | None) -> None:
        score = self.score_fn(self.x)
        if self.varies:
            self._take(names, k)
        if self.plain is None or k is None or not self.plain(score, k):
            name = names[0] if names or k is None else self.run.name(k)
            self.kernel(self.x, None, self.fits(score), *self.numbers, name, *self.tail)
        if self.after is not None:
            self.after()

    def _take(self, names: Sequence[Tensor], k: int | None) -> None:
        """Set the coefficients of step k."""
        if k is None:
            numbers, rows = zip(*(each.on_device(names[0]) for each in self.coefficients), strict=True)
            self.numbers, self.tail = (
                (*self.fixed, *numbers),
                (*(None for _ in self.fixed), *rows, *self.rest),
            )
            return
        self.numbers = (*self.fixed, *(each.at(k)[0] for each in self.coefficients))
        if self.plain is not None:
            self._set_plain()

    def _set_plain(self) -> None:
        assert self.plain is not None
        if self.fixed:
            self.plain.set(*self.numbers)
        else:
            self.plain.set_langevin(*self.numbers)


class Chain(Chained):
    """The body around a target: one kernel takes many steps."""

    eta: Scheduled
    t: Scheduled
    numbers: Numbers
    params: Tensor
    kernel: Callable[..., None]
    tail: tuple[Any, ...]

    def __init__(self, run: Run, options: StepOptions, numbers: Numbers, step_size: Schedule) -> None:
        super().__init__(run)
        self.eta = Scheduled(run, "step_size", step_size, open_low=True)
        self.t = Scheduled(run, "temperature", options.temperature)
        self.numbers, self.params = numbers, numbers.params
        self.kernel = run.kernels(options.backend)[numbers.op]
        mask, low, high, score_clip = options.of_a_chain(run)
        self.tail = (None, low, high, run.seeds, run.ids, mask, score_clip)

    def of_steps(self, first: int, count: int) -> Numbers:
        """The target in the steps first, ..., first + count - 1."""
        del first, count
        return self.numbers

    def known(self, first: int, count: int) -> tuple[Tensor, ...]:
        """The arguments of the op for known elements in these steps."""
        del first, count
        return ()

    def launch(self, first: int, count: int, name: Tensor, states: Tensor | None, thin: int | None) -> None:
        (eta, *eta_rows), (t, *t_rows) = self.eta.part(first, count), self.t.part(first, count)
        rows, numbers = (eta_rows[0], t_rows[0], eta_rows[1], t_rows[1]), self.of_steps(first, count)
        head = (self.x, numbers.which, numbers.params, count, eta, t, name)
        tail = (*self.tail, *numbers.tail(), *self.known(first, count))
        _ops.call(self.kernel, head, (*rows, states, thin, *tail))
