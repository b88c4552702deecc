"""AnnealedLangevin: Langevin dynamics down a ladder of noise levels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .._checks import checked_list
from .._options import check_callable, checked_count, checked_flag, checked_int, shown
from ..targets._learned import Learned
from ..targets._numbers import Numbers
from ._body import Body
from ._density import score_at
from ._known import Known
from ._loop import Sampler
from ._plain import PlainStep
from ._run import NAN, Bounds, Run, number
from ._schedule import Schedule, Scheduled
from ._step_options import StepOptions
from .langevin import Chain


class AnnealedLangevin(Sampler):
    """Annealed Langevin dynamics (Song & Ermon 2019, algorithm 1; 2020 with the final denoising).

    For each noise level sigma_l, from the largest to the smallest, it takes ``n_steps_each``
    Langevin steps ``x + step_size s(x, sigma_l) + sqrt(2 step_size) z`` with
    ``step_size = step_lr (sigma_l / sigma_L)^2``; at last, with ``denoise``, it takes
    ``x + sigma_L^2 s(x, sigma_L)`` (Tweedie's mean).

    Args:
        score_fn: ``score_fn(x, sigma)`` with sigma a tensor (B,) of x's dtype (float32 for half
            precisions); returns grad log p_sigma(x).
        sigmas: the noise levels, decreasing and > 0; a sequence or a 1-dim tensor.
        step_lr: the step size at the smallest sigma, > 0.
        n_steps_each: steps at each level, >= 1.
        denoise: end with the noise-free step.
        known: data (B, ...) to paint in (ncsnv2's inpainting): before every step, elements where
            ``mask`` is False are set to ``known + sigma_l z``, at the end to ``known``.
        temperature: T >= 0: a number, one per sample, or one per step k of the schedule: a list, a
            tensor (K,) on the CPU with K other than B, or a function of k (docs/samplers.md).
        score_clip, mask, backend: as in :func:`pyebm.langevin_step`.
        clamp: (low, high), numbers or tensors that broadcast to x.

    It is called as every sampler (docs/samplers.md). The schedule has ``len(sigmas) *
    n_steps_each`` steps, and step k of a run is number ``noise.step + k`` of them. So a stopped run
    is resumed by ``sampler(x, noise=noise.at(step=k))``, which goes on after k steps. ``n_steps``
    limits the run to that many; the final denoising happens only when the schedule's end is
    reached. It draws from the noise's own stream, for ``known`` from stream + 1.

    Raises:
        TypeError: score_fn is no function, or an argument of another type.
        ValueError: sigmas that are none, not > 0 or increase; step_lr not > 0; n_steps_each < 1;
            from a call, known or a mask that does not broadcast to x0.

    Example:
        >>> import torch, pyebm
        >>> score = lambda x, sigma: -x / (1 + sigma[:, None] ** 2)  # a standard normal's, smoothed
        >>> sampler = pyebm.samplers.AnnealedLangevin(
        ...     score, sigmas=[3.0, 1.0, 0.3], step_lr=0.02, n_steps_each=100
        ... )
        >>> x = sampler(3 * torch.randn(500, 2), noise=pyebm.Noise(0))
        >>> bool(0.85 < x.std() < 1.15)
        True
    """

    sigmas: list[float]
    score_fn: Callable[[Tensor, Tensor], Tensor]
    step_lr: float
    n_steps_each: int
    denoise: bool
    known: Tensor | None
    options: StepOptions
    length: int

    def __init__(
        self,
        score_fn: Callable[[Tensor, Tensor], Tensor],
        sigmas: Sequence[float] | Tensor,
        step_lr: float,
        n_steps_each: int,
        denoise: bool = True,
        *,
        known: Tensor | None = None,
        temperature: Schedule = 1.0,
        clamp: Bounds | None = None,
        score_clip: float | None = None,
        mask: Tensor | None = None,
        backend: str | None = None,
    ) -> None:
        call = "AnnealedLangevin"
        self.sigmas = checked_list(call, "sigmas", sigmas)
        if not self.sigmas or not all(0 < s < math.inf for s in self.sigmas):
            raise ValueError(
                "AnnealedLangevin: sigmas must be one or more numbers > 0 and finite, got"
                f" {shown(self.sigmas)}"
            )
        if any(a < b for a, b in zip(self.sigmas, self.sigmas[1:], strict=False)):
            raise ValueError(f"AnnealedLangevin: sigmas must not increase, got {shown(self.sigmas)}")
        step_lr = number(call, "step_lr", step_lr)
        n_steps_each = checked_count(call, "n_steps_each", n_steps_each, 1)
        denoise = checked_flag(call, "denoise", denoise)
        check_callable(call, "score_fn", score_fn, "a function of x and sigma")
        self.score_fn, self.step_lr, self.n_steps_each, self.denoise, self.known = (
            score_fn,
            step_lr,
            n_steps_each,
            denoise,
            known,
        )
        self.options = StepOptions(temperature, clamp, score_clip, mask, backend)
        self.length = len(self.sigmas) * n_steps_each

    def __len__(self) -> int:
        """The number of steps in the whole schedule, without the final denoising."""
        return len(self.sigmas) * self.n_steps_each

    def sigma_at(self, k: int) -> float:
        """The noise level of step k = 0, 1, ... of the schedule."""
        k = checked_int("AnnealedLangevin.sigma_at", "k", k)
        if not 0 <= k < len(self):
            raise ValueError(f"AnnealedLangevin.sigma_at: k must be in [0, {len(self)}), got {shown(k)}")
        return self.sigmas[k // self.n_steps_each]

    def step_size_at(self, k: int) -> float:
        """The step size of step k."""
        return self.step_lr * (self.sigma_at(k) / self.sigmas[-1]) ** 2

    def _body(self, run: Run) -> Body:
        target = self.score_fn
        if (
            not run.graph
            and isinstance(target, Learned)
            and target.condition
            and self.options.fits_a_chain(target, run)
        ):
            return _Chain(run, self, target)
        return _Steps(run, self)


class _Steps(Body):
    def __init__(self, run: Run, sampler: AnnealedLangevin) -> None:
        super().__init__(run)
        options = sampler.options
        self.sampler, self.score_fn = sampler, score_at(run, sampler.score_fn, options.backend)
        self.kernel = run.kernels(options.backend)["langevin_step"]
        self.temperature = Scheduled(run, "temperature", options.temperature)
        self.t, t_rows = self.temperature.constant
        self.after = options.after(run)
        self.tail = options.tail(run, None, t_rows)
        self.known = None if sampler.known is None else Known(run, sampler.known, options)
        self.streams = 1 if self.known is None else 2
        self.plain = None if run.graph else PlainStep.for_run(run, options.backend, self.tail)
        self.takes_names = self.plain is None or self.known is not None
        # The present level ends before the step ``ends``. If the temperature changes, each step is
        # a level of its own.
        self.ends = -1
        self.sigma, self.level, self.eta = run.x, 0.0, 0.0
        if run.graph:
            steps = range(len(sampler))
            self.sigmas = run.table([sampler.sigma_at(k) for k in steps], run.work)
            self.etas = run.table([sampler.step_size_at(k) for k in steps])
            self.row_tail = options.tail(run, self.etas, t_rows)[2:]

    def step(self, names: Sequence[Tensor], k: int | None) -> None:
        if k is None:
            return self._by_device(names)
        if k >= self.ends:
            self._begin(k)
        if self.known is not None:
            self.known.impose(1.0, self.level, names[1])
        score = self.score_fn(self.x, self.sigma)
        if self.plain is None or not self.plain(score, k):
            name = names[0] if names else self.run.name(k)
            self.kernel(self.x, None, self.fits(score), self.eta, self.t, name, *self.tail)
        if self.after is not None:
            self.after()
        return None

    def _begin(self, k: int) -> None:
        """Set the level, the step size and the temperature of step k."""
        sampler = self.sampler
        self.ends = (
            k + 1 if self.temperature.varies else (k // sampler.n_steps_each + 1) * sampler.n_steps_each
        )
        self.t = self.temperature.at(k)[0]
        self.level, self.eta = sampler.sigma_at(k), sampler.step_size_at(k)
        self.sigma = self.run.rows(self.level, self.run.work)
        if self.plain is not None:
            self.plain.set_langevin(self.eta, self.t)

    def _by_device(self, names: Sequence[Tensor]) -> None:
        """Take a step in a graph, in which only ``names`` holds the step's number."""
        at = names[0].narrow(0, 2, 1)
        sigma, eta = self.sigmas.index_select(0, at), self.etas.index_select(0, at)
        if self.known is not None:
            self.known.impose(1.0, sigma, names[1])
        score = self.fits(self.score_fn(self.x, sigma.expand(self.x.shape[0])))
        t, t_rows = self.temperature.on_device(names[0])
        self.kernel(self.x, None, score, NAN, t, names[0], eta, t_rows, *self.row_tail)
        if self.after is not None:
            self.after()

    def finish(self) -> None:
        sampler = self.sampler
        if sampler.denoise:  # Tweedie's mean: a step of size sigma_L^2 at temperature 0
            smallest = sampler.sigmas[-1]
            score = self.fits(self.score_fn(self.x, self.run.rows(smallest, self.run.work)))
            tail = sampler.options.tail(self.run, None, None)
            # Any name will do, since the temperature is 0.
            self.kernel(self.x, None, score, smallest**2, 0.0, self.run.name(self.run.first), *tail)
            if self.after is not None:
                self.after()
        if self.known is not None:
            self.known.finish()

    def info(self, k: int) -> dict[str, Any]:
        return {"sigma": self.sampler.sigma_at(k), "step_size": self.sampler.step_size_at(k)}


class _Chain(Chain):
    """The body around a learned target: one kernel takes the steps of all levels, each level with a
    row of biases of its own."""

    def __init__(self, run: Run, sampler: AnnealedLangevin, target: Learned) -> None:
        self.sampler, self.steps, self.each = sampler, _Steps(run, sampler), sampler.n_steps_each
        levels = torch.tensor(sampler.sigmas, dtype=run.work, device=run.x.device)
        numbers = run.plain(target._at_levels(run.call, run.x, levels))
        super().__init__(run, sampler.options, numbers, sampler.step_size_at)
        self.streams = self.steps.streams

    def of_steps(self, first: int, count: int) -> Numbers:
        biases = self.numbers.biases
        assert biases is not None
        levels = torch.arange(first, first + count, device=biases.device) // self.each
        return self.numbers._replace(biases=biases.index_select(0, levels), biases_per_step=True)

    def known(self, first: int, count: int) -> tuple[Tensor, ...]:
        known = self.steps.known
        if known is None:
            return ()
        return known.of_chain([(1.0, self.sampler.sigma_at(k)) for k in range(first, first + count)])

    def finish(self) -> None:
        self.steps.finish()
        super().finish()

    def info(self, k: int) -> dict[str, Any]:
        return self.steps.info(k)
