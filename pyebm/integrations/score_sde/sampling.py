"""Predictors and correctors with ``update_fn(x, t) -> (x, x_mean)``, each update one fused step."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .._draws import Draws, Source, noise_norms, step_and_mean
from .._fits import norms, widened
from ._scores import ScoreFn
from ._sde import (
    CORRECTORS,
    PREDICTORS,
    check_known,
    check_state,
    index_of,
    is_exploding,
    on_stream,
    ones_for,
)
from .bases import Corrector, NoneCorrector, NonePredictor, Predictor


class EulerMaruyamaPredictor(Predictor):
    """``x + dt (f - g^2 s) + g sqrt(-dt) z`` with dt = -1 / N."""

    sde: Any
    score_fn: ScoreFn
    probability_flow: bool

    def __init__(
        self, sde: Any, score_fn: ScoreFn, probability_flow: bool = False, *, noise: Draws | Source = None
    ) -> None:
        check_known(type(self).__name__, sde)
        super().__init__(sde, score_fn, probability_flow, noise=noise)

    def update_fn(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The next state, and the same without the noise."""
        check_state(type(self).__name__, self.sde, x, t)
        drift, diffusion = self.sde.sde(ones_for(x), t)
        return self._update(x, t, drift, diffusion, 1 / self.sde.N)

    def _update(self, x: Tensor, t: Tensor, f: Tensor, g: Tensor, dt: float) -> tuple[Tensor, Tensor]:
        score, normals = self.score_fn(x, t), self._draws(x)
        x, slope, g = widened(x, f, g), f.double().flatten(), g.double()
        share, c = (0.5, 0.0 * g) if self.probability_flow else (1.0, g * math.sqrt(dt))
        return step_and_mean(x, score, 1 - slope * dt, share * g**2 * dt, c, normals)


class ReverseDiffusionPredictor(EulerMaruyamaPredictor):
    """``x - f + G^2 s + G z`` with the SDE's own discretisation f, G."""

    def update_fn(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The next state, and the same without the noise."""
        check_state(type(self).__name__, self.sde, x, t)
        f, g = self.sde.discretize(ones_for(x), t)
        return self._update(x, t, f, g, 1.0)


class AncestralSamplingPredictor(EulerMaruyamaPredictor):
    """A draw from the posterior of SMLD (VE) or DDPM (VP). It exists neither for sub-VP nor for a
    probability flow."""

    def __init__(
        self, sde: Any, score_fn: ScoreFn, probability_flow: bool = False, *, noise: Draws | Source = None
    ) -> None:
        super().__init__(sde, score_fn, probability_flow, noise=noise)
        if not (is_exploding(sde) or hasattr(sde, "discrete_betas")):
            raise NotImplementedError(
                f"AncestralSamplingPredictor: sde must be VE or VP, got {type(sde).__name__}"
            )
        if self.probability_flow:
            raise ValueError("AncestralSamplingPredictor: probability_flow must be False")

    def update_fn(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The next state, and the same without the noise."""
        check_state(type(self).__name__, self.sde, x, t)
        index, score, normals = index_of(self.sde, t), self.score_fn(x, t), self._draws(x)
        if is_exploding(self.sde):
            sigmas = table = self.sde.discrete_sigmas.to(t.device)
            variance = sigmas[index].double() ** 2
            before = torch.where(index == 0, 0.0, sigmas[index - 1].double()) ** 2
            a, b, c = 1.0, variance - before, (before * (variance - before) / variance).sqrt()
        else:
            table = self.sde.discrete_betas.to(t.device)
            beta = table[index].double()
            a = (1 - beta).rsqrt()
            b, c = beta * a, beta.sqrt()
        return step_and_mean(widened(x, table), score, a, b, c, normals)


class LangevinCorrector(Corrector):
    """n_steps of ``x + eps s + sqrt(2 eps) z`` with ``eps = 2 alpha (snr |z| / |s|)^2``; the norms
    are means over the batch."""

    sde: Any
    score_fn: ScoreFn
    snr: float
    n_steps: int

    def __init__(
        self, sde: Any, score_fn: ScoreFn, snr: float, n_steps: int, *, noise: Draws | Source = None
    ) -> None:
        check_known(type(self).__name__, sde)
        super().__init__(sde, score_fn, snr, n_steps, noise=noise)

    def update_fn(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The state after n_steps, and the same without the last noise."""
        check_state(type(self).__name__, self.sde, x, t)
        mean, alpha = x, self._alpha(t)
        for _ in range(self.n_steps):
            score, normals = self.score_fn(x, t), self._draws(x)
            eps = 2 * alpha * self._relative_step(x, t, score, normals) ** 2
            x, mean = step_and_mean(widened(x, eps), score, 1.0, eps, (2 * eps).sqrt(), normals)
        return x, mean

    def _relative_step(self, x: Tensor, t: Tensor, score: Tensor, normals: Any) -> Tensor:  # noqa: ARG002
        return self.snr * noise_norms(normals, x).mean() / norms(score).mean()

    def _alpha(self, t: Tensor) -> Tensor:
        if is_exploding(self.sde):
            return torch.ones_like(t)
        if hasattr(self.sde, "alphas"):
            alpha: Tensor = self.sde.alphas.to(t.device)[index_of(self.sde, t)]
            return alpha
        n, low, high = self.sde.N, self.sde.beta_0, self.sde.beta_1  # a sub-VP object has no alphas
        return 1 - torch.linspace(low / n, high / n, n, device=t.device)[index_of(self.sde, t)]


class AnnealedLangevinDynamics(LangevinCorrector):
    """The Langevin corrector with ``eps = 2 alpha (snr std)^2`` (Song & Ermon 2019)."""

    def _relative_step(self, x: Tensor, t: Tensor, score: Tensor, normals: Any) -> Tensor:  # noqa: ARG002
        std: Tensor = self.sde.marginal_prob(ones_for(x), t)[1]
        return self.snr * std


def predictors(noise: Source = None) -> dict[str, Callable[..., Any]]:
    """score_sde's predictors by their registered names. They share one sequence of draws from
    ``noise``, on a stream of their own: what trains, evaluates and corrects may be given the same
    Noise.

    Example:
        >>> from pyebm.integrations.score_sde import predictors
        >>> sorted(predictors())
        ['ancestral_sampling', 'euler_maruyama', 'none', 'reverse_diffusion']
    """
    classes = {
        "euler_maruyama": EulerMaruyamaPredictor,
        "reverse_diffusion": ReverseDiffusionPredictor,
        "ancestral_sampling": AncestralSamplingPredictor,
    }
    draws = Draws(on_stream(noise, PREDICTORS))
    return {"none": NonePredictor, **{name: partial(cls, noise=draws) for name, cls in classes.items()}}


def correctors(noise: Source = None) -> dict[str, Callable[..., Any]]:
    """score_sde's correctors by their registered names, like :func:`predictors`: one sequence of
    draws, on a stream of their own.

    Example:
        >>> from pyebm.integrations.score_sde import correctors
        >>> sorted(correctors())
        ['ald', 'langevin', 'none']
    """
    draws = Draws(on_stream(noise, CORRECTORS))
    classes = {"langevin": LangevinCorrector, "ald": AnnealedLangevinDynamics}
    return {"none": NoneCorrector, **{name: partial(cls, noise=draws) for name, cls in classes.items()}}
