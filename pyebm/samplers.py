"""Langevin samplers around any score function: the loop, and nothing that the kernels do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ._checks import Coefficient, check_samples
from .langevin import Clamp, langevin_step_
from .noise import Noise

Callback = Callable[[int, Tensor], Any]


def _steps(walk: Iterable[Noise], count: int, progress: bool, description: str) -> Iterable[Noise]:
    if not progress:
        return walk
    try:
        from rich.progress import track
    except ImportError:
        raise ImportError("progress=True needs rich: pip install 'pyebm-kernels[demo]' or pip install rich") from None
    return track(walk, description=description, total=count)


def _check_run(sampler: str, x0: Tensor, n_steps: int, noise: Noise, thin: int | None) -> None:
    check_samples(sampler, "x0", x0)
    if n_steps < 0:
        raise ValueError(f"{sampler}: n_steps must be >= 0, got {n_steps}")
    if thin is not None and thin < 1:
        raise ValueError(f"{sampler}: thin must be >= 1 or None, got {thin}")
    if not isinstance(noise, Noise):
        raise TypeError(f"{sampler}: noise must be a Noise, got {type(noise).__name__}")
    if noise.step + n_steps > 2**32:
        raise ValueError(f"{sampler}: steps must stay below 2**32, got {noise.step} and {n_steps} more")


class Langevin:
    """The unadjusted Langevin algorithm: ``x <- x + eta s(x) + sqrt(2 eta T) z``, n times (Roberts & Tweedie 1996).

    Args:
        score_fn: maps x (B, ...) to grad log p(x). For an energy: ``lambda x: pyebm.energy_score(energy, x)``.
        step_size: eta > 0, a number or a tensor (), (B,) or (B, 1, ...).
        temperature, clamp, score_clip, mask, backend: as in :func:`pyebm.langevin_step`.

    Calling it: ``sampler(x0, n_steps, noise=None, thin=None, callback=None, progress=False)``

        x0: the initial state, (B, ...), left as it is. If a Noise drew it, give the run another stream: two uses of one
            (seed, step, stream) share their numbers.
        noise: step k of the run uses ``noise.at(step=noise.step + k)``; None draws a fresh seed. A run of n + m steps equals, bit
            for bit, a run of n from ``noise`` followed by one of m from its result with ``noise.at(step=noise.step + n)``.
        thin: return the states after steps thin, 2 thin, ... as a tensor (n_steps // thin, B, ...) instead of the last.
        callback: called as ``callback(k, x)`` after step k = 1, 2, ...; x is the sampler's own state (copy it to keep it).
            A callback that returns True stops the run after that step.
        progress: show a bar (needs rich).

    The loop runs without autograd. Raises as :func:`pyebm.langevin_step`, and ValueError for n_steps < 0 or thin < 1.

    Example:
        >>> import torch, pyebm
        >>> sampler = pyebm.samplers.Langevin(lambda x: -x, step_size=0.1)
        >>> x = sampler(torch.zeros(1000, 2), 100, noise=pyebm.Noise(0))
        >>> bool((x.var() - 1 / (1 - 0.1 / 2)).abs() < 0.1)  # the closed-form stationary variance
        True
    """

    def __init__(
        self,
        score_fn: Callable[[Tensor], Tensor],
        step_size: Coefficient,
        *,
        temperature: Coefficient = 1.0,
        clamp: Clamp | None = None,
        score_clip: float | None = None,
        mask: Tensor | None = None,
        backend: str | None = None,
    ) -> None:
        self.score_fn = score_fn
        self.step_size = step_size
        self.options: dict[str, Any] = {
            "temperature": temperature,
            "clamp": clamp,
            "score_clip": score_clip,
            "mask": mask,
            "backend": backend,
        }

    @torch.no_grad()
    def __call__(
        self,
        x0: Tensor,
        n_steps: int,
        *,
        noise: Noise | None = None,
        thin: int | None = None,
        callback: Callback | None = None,
        progress: bool = False,
    ) -> Tensor:
        noise = Noise() if noise is None else noise
        _check_run("Langevin", x0, n_steps, noise, thin)
        x = x0.detach().clone()
        kept = _trajectory(x, n_steps, thin)
        done = 0
        for done, at_step in enumerate(_steps(noise._walk(n_steps, x), n_steps, progress, "Langevin"), start=1):
            langevin_step_(x, self.score_fn(x), self.step_size, at_step, **self.options)
            if kept is not None and thin is not None and done % thin == 0:
                kept[done // thin - 1] = x
            if callback is not None and callback(done, x):
                break
        return x if kept is None or thin is None else kept[: done // thin]


class AnnealedLangevin:
    """Annealed Langevin dynamics (Song & Ermon 2019, algorithm 1; 2020 with the final denoising).

    For each noise level sigma_l, from the largest to the smallest, ``n_steps_each`` Langevin steps with
    ``step_size = step_lr (sigma_l / sigma_L)^2`` in ``x + step_size s(x, sigma_l) + sqrt(2 step_size) z``; at last, with
    ``denoise``, ``x + sigma_L^2 s(x, sigma_L)`` (Tweedie's mean).

    Args:
        score_fn: ``score_fn(x, sigma)`` with sigma a tensor (B,) of x's dtype (float32 for half precisions); returns
            grad log p_sigma(x).
        sigmas: the noise levels, decreasing and > 0; a sequence or a 1-dim tensor.
        step_lr: the step size at the smallest sigma, > 0.
        n_steps_each: steps at each level, >= 1.
        denoise: end with the noise-free step.
        temperature, clamp, score_clip, mask, backend: as in :func:`pyebm.langevin_step`.

    Calling it: ``sampler(x0, n_steps=None, noise=None, thin=None, callback=None, progress=False)``, as :class:`Langevin`.
    Step k of the run is number ``noise.step + k`` of the schedule's ``len(sigmas) * n_steps_each``, which is how a stopped
    run is resumed: ``sampler(x, noise=noise.at(step=k))`` goes on after k steps. ``n_steps`` limits the run to that many;
    the final denoising happens only when the schedule's end is reached.

    Example:
        >>> import torch, pyebm
        >>> score = lambda x, sigma: -x / (1 + sigma[:, None] ** 2)  # a standard normal's, smoothed
        >>> sampler = pyebm.samplers.AnnealedLangevin(score, sigmas=[3.0, 1.0, 0.3], step_lr=0.02, n_steps_each=100)
        >>> x = sampler(3 * torch.randn(500, 2), noise=pyebm.Noise(0))
        >>> bool(0.85 < x.std() < 1.15)
        True
    """

    def __init__(
        self,
        score_fn: Callable[[Tensor, Tensor], Tensor],
        sigmas: Sequence[float] | Tensor,
        step_lr: float,
        n_steps_each: int,
        denoise: bool = True,
        *,
        temperature: Coefficient = 1.0,
        clamp: Clamp | None = None,
        score_clip: float | None = None,
        mask: Tensor | None = None,
        backend: str | None = None,
    ) -> None:
        self.sigmas = [float(s) for s in sigmas]
        if not self.sigmas or not all(0 < s < math.inf for s in self.sigmas):
            raise ValueError(f"AnnealedLangevin: sigmas must be one or more numbers > 0 and finite, got {self.sigmas}")
        if any(a < b for a, b in zip(self.sigmas, self.sigmas[1:], strict=False)):
            raise ValueError(f"AnnealedLangevin: sigmas must not increase, got {self.sigmas}")
        if not 0 < step_lr < math.inf:
            raise ValueError(f"AnnealedLangevin: step_lr must be > 0 and finite, got {step_lr}")
        if n_steps_each < 1:
            raise ValueError(f"AnnealedLangevin: n_steps_each must be >= 1, got {n_steps_each}")
        self.score_fn = score_fn
        self.step_lr = step_lr
        self.n_steps_each = n_steps_each
        self.denoise = denoise
        self.options: dict[str, Any] = {
            "temperature": temperature,
            "clamp": clamp,
            "score_clip": score_clip,
            "mask": mask,
            "backend": backend,
        }

    def __len__(self) -> int:
        """The number of steps in the whole schedule, without the final denoising."""
        return len(self.sigmas) * self.n_steps_each

    @torch.no_grad()
    def __call__(
        self,
        x0: Tensor,
        n_steps: int | None = None,
        *,
        noise: Noise | None = None,
        thin: int | None = None,
        callback: Callback | None = None,
        progress: bool = False,
    ) -> Tensor:
        noise = Noise() if noise is None else noise
        if not isinstance(noise, Noise):
            raise TypeError(f"AnnealedLangevin: noise must be a Noise, got {type(noise).__name__}")
        first = noise.step
        if first > len(self):
            raise ValueError(f"AnnealedLangevin: noise.step must be within the schedule's {len(self)} steps, got {first}")
        n_steps = len(self) - first if n_steps is None else min(n_steps, len(self) - first)
        _check_run("AnnealedLangevin", x0, n_steps, noise, thin)
        x = x0.detach().clone()
        kept = _trajectory(x, n_steps, thin)
        level, sigma, step_size, done = -1, x, 0.0, 0
        for done, at_step in enumerate(_steps(noise._walk(n_steps, x), n_steps, progress, "annealed Langevin"), start=1):
            if at_step.step // self.n_steps_each != level:
                level = at_step.step // self.n_steps_each
                sigma = _sigma_of(x, self.sigmas[level])
                step_size = self.step_lr * (self.sigmas[level] / self.sigmas[-1]) ** 2
            langevin_step_(x, self.score_fn(x, sigma), step_size, at_step, **self.options)
            last = first + done == len(self)
            if last and self.denoise:
                self._denoise_(x, noise)
            if kept is not None and thin is not None and done % thin == 0:
                kept[done // thin - 1] = x
            if callback is not None and callback(done, x):
                break
        return x if kept is None or thin is None else kept[: done // thin]

    def _denoise_(self, x: Tensor, noise: Noise) -> None:
        """Tweedie's mean: a step of size sigma_L^2 at temperature 0."""
        smallest = self.sigmas[-1]
        score = self.score_fn(x, _sigma_of(x, smallest))
        langevin_step_(x, score, smallest**2, noise, **{**self.options, "temperature": 0.0})


def _sigma_of(x: Tensor, sigma: float) -> Tensor:
    return torch.full(x.shape[:1], sigma, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)


def _trajectory(x: Tensor, n_steps: int, thin: int | None) -> Tensor | None:
    return None if thin is None else x.new_empty((n_steps // thin, *x.shape))
