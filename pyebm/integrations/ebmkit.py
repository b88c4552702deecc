"""For ebmkit: its samplers with fused updates, whose chains are a function of their noise's
name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from .._checks import check_samples, checked_number
from .._options import check_callable
from ._draws import Source, step
from ._packages import require

require("ebm")
from ebm import samplers as theirs  # noqa: E402

from ._ebmkit_named import (  # noqa: E402
    NUTS,
    AdaptiveMALA,
    CategoricalGibbsWithGradients,
    GibbsSampler,
    GibbsWithGradients,
    Named,
    ParallelTempering,
    PreconditionedLangevin,
    PredictorCorrector,
    TemperedTransitions,
)
from ._ebmkit_samplers import (  # noqa: E402
    HMC,
    MALA,
    AnnealedLangevinDynamics,
    DDPMAncestralSampler,
    UnderdampedLangevin,
)

__all__ = [
    "HMC",
    "MALA",
    "NUTS",
    "AdaptiveMALA",
    "AnnealedLangevinDynamics",
    "CategoricalGibbsWithGradients",
    "DDPMAncestralSampler",
    "GibbsSampler",
    "GibbsWithGradients",
    "LangevinDynamics",
    "ParallelTempering",
    "PreconditionedLangevin",
    "PredictorCorrector",
    "TemperedTransitions",
    "UnderdampedLangevin",
]


class LangevinDynamics(Named, theirs.LangevinDynamics):
    """ebmkit's ``LangevinDynamics``: ``x' = clamp(x - eps grad E(x) + sigma z)``.

    Args:
        step_size, steps, noise_scale, grad_clip, clamp: as in ebmkit (eps, steps per call, sigma,
            ...); noise_scale=None is sqrt(2 eps).
        noise: a :class:`pyebm.Noise`, whose step plus k names the noise of this object's k-th step;
            ``torch.randn_like`` for the bits of ebmkit's own class; or None, where
            torch.manual_seed governs it.

    It differs in one thing: ebmkit's class draws from torch's generator, so that a chain depends on
    everything else that is drawn from it.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.ebmkit import LangevinDynamics
        >>> sampler = LangevinDynamics(step_size=0.1, steps=200, noise=pyebm.Noise(0))
        >>> x = sampler.sample(lambda x: 0.5 * x.square().sum(1), torch.zeros(1000, 2))
        >>> bool(0.9 < x.std() < 1.15)
        True
    """

    _original = "ebm.samplers.LangevinDynamics"

    def __init__(self, *args: Any, noise: Source = None, **kwargs: Any) -> None:
        super().__init__(*args, noise=noise, **kwargs)
        self._check()

    def _check(self) -> None:
        """Checks ebmkit's attributes, which a schedule may set between steps."""
        call = type(self).__name__
        checked_number(call, "step_size", self.step_size, 0.0 if self.noise_scale is None else -math.inf)
        if self.noise_scale is not None:
            checked_number(call, "noise_scale", self.noise_scale)
        if self.grad_clip is not None:
            checked_number(call, "grad_clip", self.grad_clip, 0.0)

    def step(self, energy: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """One transition of every chain."""
        self._check()
        check_callable(type(self).__name__, "energy", energy)
        check_samples(type(self).__name__, "x", x)
        _, grad = self._energy_grad(energy, x)
        if self.grad_clip is not None:
            grad = grad.clamp(-float(self.grad_clip), float(self.grad_clip))
        sigma = math.sqrt(2 * self.step_size) if self.noise_scale is None else self.noise_scale
        x = x.detach()
        return step(x, grad, 1.0, -self.step_size, sigma, self._draws(x), clamp=self.clamp)
