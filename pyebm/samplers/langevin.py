"""Langevin: the unadjusted Langevin algorithm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .._checks import Coefficient
from ..langevin import Clamp, step_options
from ..targets import Target
from ._body import Body, Run, StepOptions, score_of, step_size_and_temperature
from ._loop import Sampler
from ._plain import PlainStep


class Langevin(Sampler):
    """The unadjusted Langevin algorithm: ``x <- x + eta s(x) + sqrt(2 eta T) z``, n times (Roberts & Tweedie 1996).

    Around a closed-form target it runs :func:`pyebm.langevin_chain`, one launch from one callback to the next; the bits are those
    of the loop of steps. Without Metropolis' test its law is biased by O(eta); :class:`MALA` is not.

    Args:
        score_fn: maps x (B, ...) to grad log p(x); or one of :mod:`pyebm.targets`. For an energy:
            ``functools.partial(pyebm.energy_score, energy_fn)``.
        step_size: eta > 0, a number or a tensor (), (B,) or (B, 1, ...).
        temperature, clamp, score_clip, mask, backend: as in :func:`pyebm.langevin_step`.

    Called as every sampler (docs/samplers.md); a run of n + m steps equals, bit for bit, a run of n from ``noise`` followed by one
    of m from its result with ``noise.at(step=noise.step + n)``. Draws from the noise's own stream.

    Raises as :func:`pyebm.langevin_step`.

    Example:
        >>> import torch, pyebm
        >>> sampler = pyebm.samplers.Langevin(lambda x: -x, step_size=0.1)
        >>> x = sampler(torch.zeros(1000, 2), 100, noise=pyebm.Noise(0))
        >>> bool((x.var() - 1 / (1 - 0.1 / 2)).abs() < 0.1)  # the closed-form stationary variance
        True
    """

    def __init__(
        self,
        score_fn: Any,
        step_size: Coefficient,
        *,
        temperature: Coefficient = 1.0,
        clamp: Clamp | None = None,
        score_clip: float | None = None,
        mask: Tensor | None = None,
        backend: str | None = None,
    ) -> None:
        self.score_fn, self.step_size = score_fn, step_size
        self.options = StepOptions(temperature, clamp, score_clip, mask, backend)

    def _body(self, run: Run) -> Body:
        plain = self.options.mask is None and self.options.score_clip is None
        return _Chain(run, self) if isinstance(self.score_fn, Target) and plain and not run.graph else _Steps(run, self)


class _Steps(Body):
    def __init__(self, run: Run, sampler: Langevin) -> None:
        super().__init__(run)
        options = sampler.options
        (eta, eta_rows), (t, t_rows) = step_size_and_temperature(run, sampler.step_size, options.temperature)
        self.score_fn = score_of(run, sampler.score_fn, options.backend)
        self.kernel = run.kernels(options.backend)["langevin_step"]
        self.numbers, self.tail = (eta, t), options.tail(run, eta_rows, t_rows)
        self.plain = None if run.graph else PlainStep.of(run, options.backend, self.tail)
        if self.plain is not None:
            self.takes_names = False
            self.plain.set_langevin(eta, t)

    def step(self, names: Sequence[Tensor], k: int | None) -> None:
        score = self.score_fn(self.x)
        if self.plain is None or k is None or not self.plain(score, k):
            name = names[0] if names or k is None else self.run.name(k)
            self.kernel(self.x, None, self.fits(score), *self.numbers, name, *self.tail)


class _Chain(Body):
    """A closed-form target: many steps in one kernel."""

    fused = True

    def __init__(self, run: Run, sampler: Langevin) -> None:
        super().__init__(run)
        options, target = sampler.options, sampler.score_fn
        (eta, eta_rows), (t, t_rows) = step_size_and_temperature(run, sampler.step_size, options.temperature)
        _, low, high, _ = step_options(run.call, run.x, options.clamp)
        self.kernel = run.kernels(options.backend)["langevin_chain"]
        self.head, self.numbers = (run.x, target._index, target._checked(run.call, run.x)), (eta, t)
        self.rows, self.tail = (eta_rows, t_rows, None, None), (None, low, high, run.seeds, run.ids)
        self.name = run.noise._block(0, 1, 1, run.x).flatten()

    def advance(self, done: int, count: int, kept: Tensor | None, thin: int | None) -> None:
        self.name.select(0, 2).fill_(self.run.first + done)
        states = None
        if kept is not None and thin is not None and done % thin == 0 and count >= thin:
            states = kept.narrow(0, done // thin, count // thin)
        self.kernel(*self.head, count, *self.numbers, self.name, *self.rows, states, None if states is None else thin, *self.tail)
        if kept is not None and thin is not None and states is None and (done + count) % thin == 0:
            kept.select(0, (done + count) // thin - 1).copy_(self.x)
