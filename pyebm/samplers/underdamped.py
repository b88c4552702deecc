"""UnderdampedLangevin: Langevin dynamics with inertia, by the BAOAB splitting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..langevin import Clamp
from ._body import Body, Run, StepOptions, number, score_of
from ._loop import Sampler


class UnderdampedLangevin(Sampler):
    """Underdamped (kinetic) Langevin dynamics ``dx = v dt, dv = s(x) dt - friction v dt + sqrt(2 friction T) dw``, unit masses.

    The BAOAB splitting (Leimkuhler & Matthews 2013): half a kick, half a drift, the exact Ornstein-Uhlenbeck step
    ``v <- c v + sqrt((1 - c^2) T) z`` with ``c = exp(-friction h)``, half a drift, half a kick. Its positions are far more accurate
    than :class:`Langevin`'s (exact for a Gaussian at any stable h), and it costs one score a step.

    Args:
        score_fn: maps x (B, ...) to grad log p(x); or one of :mod:`pyebm.targets`.
        step_size: h > 0, a time; stable for h < 2 / (the largest frequency of p, 1 / its smallest standard deviation).
        friction: > 0; near the smallest frequency it mixes fastest, large values approach :class:`Langevin` with eta = h^2 / 2.
        temperature: T >= 0, a number.
        clamp: (low, high) for the positions.
        score_clip, mask, backend: as in :func:`pyebm.langevin_step`.

    Called as every sampler (docs/samplers.md). A chain's velocity begins as N(0, T) from stream + 1; steps draw from the noise's
    own stream. Resume from a State: its ``extra["velocity"]`` is half a kick ahead of the position, as BAOAB's steps meet there.

    Raises TypeError and ValueError for arguments that are not so.

    Example:
        >>> import torch, pyebm
        >>> sampler = pyebm.samplers.UnderdampedLangevin(lambda x: -x, step_size=1.0, friction=1.0)
        >>> x = sampler(torch.zeros(1000, 2), 100, noise=pyebm.Noise(0))
        >>> bool(0.9 < x.std() < 1.1)  # exact, where Langevin's step of 1.0 would give a standard deviation of 1.41
        True
    """

    def __init__(
        self,
        score_fn: Any,
        step_size: float,
        friction: float = 1.0,
        *,
        temperature: float = 1.0,
        clamp: Clamp | None = None,
        score_clip: float | None = None,
        mask: Tensor | None = None,
        backend: str | None = None,
    ) -> None:
        self.score_fn = score_fn
        self.step_size = number("UnderdampedLangevin", "step_size", step_size)
        self.friction = number("UnderdampedLangevin", "friction", friction)
        self.temperature = number("UnderdampedLangevin", "temperature", temperature, open_low=False)
        self.options = StepOptions(clamp=clamp, mask=mask, backend=backend)
        self.score_options = StepOptions(score_clip=score_clip, mask=mask, backend=backend)

    def _body(self, run: Run) -> Body:
        return _Steps(run, self)


class _Steps(Body):
    """With ``w`` the velocity after a step's first half kick, one step is two updates that share their noise::

    x' = x + h/2 (1 + c) w + h/2 d z        drift, O, drift, for O: w -> c w + d z
    w' = (c w + h s(x')) + d z              O, this step's second half kick and the next one's first
    """

    def __init__(self, run: Run, sampler: UnderdampedLangevin) -> None:
        super().__init__(run)
        backend, h, t = sampler.options.backend, sampler.step_size, sampler.temperature
        self.score_fn = score_of(run, sampler.score_fn, backend)
        self.kernel = run.kernels(backend)["affine_step"]
        none = (None, None, None)
        self.tail, self.w_tail = sampler.options.tail(run, *none), sampler.score_options.tail(run, *none)
        c = math.exp(-sampler.friction * h)
        d = math.sqrt(-math.expm1(-2.0 * sampler.friction * h) * t)
        self.drift, self.kick = (1.0, 0.5 * h * (1.0 + c), 0.5 * h * d), (c, h, d)
        self.w = self._begin(h, t)

    def _begin(self, h: float, t: float) -> Tensor:
        """The first velocity and its half kick: 0 x + h/2 s + sqrt(T) z; at rest where the mask is False."""
        carried = self.run.carried("velocity", self.x.shape)
        if carried is not None:
            return carried.to(self.x.dtype)
        name = self.run.noise._block(0, 1, 2, self.x).flatten(0, 1).select(0, 1)
        score, still = self.fits(self.score_fn(self.x)), torch.zeros_like(self.x)
        w = torch.empty_like(self.x)
        self.kernel(w, still, score, 0.0, 0.5 * h, math.sqrt(t), name, *self.w_tail)
        return w

    def step(self, names: Sequence[Tensor], k: int | None) -> None:
        del k
        self.kernel(self.x, None, self.w, *self.drift, names[0], *self.tail)
        self.kernel(self.w, None, self.fits(self.score_fn(self.x)), *self.kick, names[0], *self.w_tail)

    def carried(self, done: int) -> dict[str, Tensor]:
        del done
        return {"velocity": self.w}
