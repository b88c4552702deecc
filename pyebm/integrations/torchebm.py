"""For torchebm: an integrator, which its LangevinDynamics takes as an argument, its HMC, and its
score matching in all forms."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from .._checks import check_samples, check_tensor, checked_number, rows_for
from .._name import readable
from .._options import shown
from ..losses import denoising_loss
from ..noise import Noise
from ._draws import Draws, Normals, Source, add_noise, checked_scale, fitted, output_like, step
from ._packages import require
from ._saved import Saved

require("torchebm")
from torchebm.integrators import euler_maruyama as integrators  # noqa: E402
from torchebm.losses import score_matching as losses  # noqa: E402

from ._torchebm_more import HamiltonianMonteCarlo, ScoreMatching, SlicedScoreMatching  # noqa: E402

__all__ = [
    "DenoisingScoreMatching",
    "EulerMaruyamaIntegrator",
    "HamiltonianMonteCarlo",
    "ScoreMatching",
    "SlicedScoreMatching",
]


class EulerMaruyamaIntegrator(Saved, integrators.EulerMaruyamaIntegrator):
    """torchebm's integrator of that name with the whole update in one step:
    ``x' = x + h f(x) + noise_scale sqrt(2 h) z``.

    ``LangevinDynamics(model, integrator=EulerMaruyamaIntegrator(noise=pyebm.Noise(0)))``.

    Args:
        noise: a :class:`pyebm.Noise`, whose step plus k names the noise of the k-th step; a
            function like ``torch.randn_like``; or None, where torch.manual_seed governs it. A
            generator given to ``sample`` takes precedence, and gives the bits of torchebm's own
            integrator.
        device, dtype, ...: as in torchebm.

    Fixed steps are fused, one by one or in ``integrate``; steps without noise, back in time, or
    with a diffusion that is not a number run torchebm's own code, with the same noise.

    Example:
        >>> import torch, pyebm
        >>> from torchebm.core import GaussianModel
        >>> from torchebm.samplers import LangevinDynamics
        >>> from pyebm.integrations.torchebm import EulerMaruyamaIntegrator
        >>> model = GaussianModel(torch.zeros(2), torch.eye(2))
        >>> integrator = EulerMaruyamaIntegrator(noise=pyebm.Noise(0))
        >>> sampler = LangevinDynamics(model, step_size=0.1, integrator=integrator)
        >>> x = sampler.sample(torch.zeros(1000, 2), n_steps=200)
        >>> bool(0.9 < x.std() < 1.15)
        True
    """

    _original = "torchebm.integrators.EulerMaruyamaIntegrator"

    def __init__(self, *args: Any, noise: Source = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._draws = Draws(noise)

    def step(
        self,
        state: dict[str, Tensor],
        step_size: float | Tensor,
        *,
        drift: Callable[[Tensor, Tensor], Tensor] | None = None,
        diffusion: Tensor | None = None,
        noise: Normals | None = None,
        noise_scale: float | Tensor | None = None,
        t: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """One step; arguments as in torchebm, but noise may also be a :class:`pyebm.Noise`."""
        if diffusion is not None or noise_scale is None or _is_negative(step_size):
            random = diffusion is not None or noise_scale is not None
            if noise is None and generator is None and random:
                noise = self._draws(state["x"])
            z = (
                noise.randn(state["x"].shape, dtype=self.dtype, device=self.device)
                if isinstance(noise, Noise)
                else noise
            )
            stepped: dict[str, Tensor] = super().step(
                state,
                step_size,
                drift=drift,
                diffusion=diffusion,
                noise=z,
                noise_scale=noise_scale,
                t=t,
                generator=generator,
            )
            return stepped
        call = f"{type(self).__name__}.step"
        if not isinstance(state, dict) or "x" not in state:
            raise TypeError(f'{call}: state must be a dict with the samples as "x", got {shown(state)}')
        check_samples(call, "state['x']", state["x"])
        step_size, x = checked_scale(call, "step_size", step_size), state["x"]
        if isinstance(step_size, Tensor):
            rows_for(call, "step_size", step_size, x)
        # torchebm squares noise_scale, so its sign does not matter.
        noise_scale = (
            abs(noise_scale)
            if isinstance(noise_scale, Tensor)
            else abs(checked_number(call, "noise_scale", noise_scale))
        )
        checked_scale(call, "noise_scale", noise_scale)
        t = torch.zeros(x.shape[0], device=x.device, dtype=x.dtype) if t is None else t
        slope = output_like(call, "drift's value", self._resolve_drift(drift)(x, t), x).to(x.dtype)
        if noise is None:
            noise = self._draws(x) if generator is None else torch.randn_like(x, generator=generator)
        return {"x": step(x, slope, 1.0, step_size, noise_scale * (2 * step_size) ** 0.5, noise)}

    def integrate(
        self,
        state: dict[str, Tensor],
        step_size: float | Tensor,
        n_steps: int,
        *,
        drift: Callable[[Tensor, Tensor], Tensor] | None = None,
        diffusion: Callable[[Tensor, Tensor], Tensor] | None = None,
        noise_scale: float | Tensor | None = None,
        t: Tensor | None = None,
        adaptive: bool | None = None,
        inference_mode: bool = False,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """The steps of a time grid; arguments as in torchebm."""
        adaptive = self.error_weights is not None if adaptive is None else adaptive
        if adaptive or inference_mode or (diffusion is None and noise_scale is None):
            made: dict[str, Tensor] = super().integrate(
                state,
                step_size,
                n_steps,
                drift=drift,
                diffusion=diffusion,
                noise_scale=noise_scale,
                t=t,
                adaptive=adaptive,
                inference_mode=inference_mode,
                generator=generator,
            )
            return made
        grid = self._build_time_grid(state["x"], step_size, n_steps, t)
        for now, after in pairwise(grid):
            time = now.expand(state["x"].shape[0])
            state = self.step(
                state,
                after - now,
                drift=drift,
                diffusion=None if diffusion is None else diffusion(state["x"], time),
                noise_scale=noise_scale,
                t=time,
                generator=generator,
            )
        return state


def _is_negative(step_size: Any) -> bool:
    """Whether a step goes back in time. A tensor on a GPU is not read, since that would wait."""
    if not isinstance(step_size, Tensor):
        return checked_number("EulerMaruyamaIntegrator.step", "step_size", step_size) < 0
    check_tensor("EulerMaruyamaIntegrator.step", "step_size", step_size)
    return step_size.is_cpu and readable(step_size) and bool((step_size < 0).any())


class DenoisingScoreMatching(Saved, losses.DenoisingScoreMatching):
    """torchebm's loss of that name: ``mean_b 1/2 sum_i (grad E(x + sigma z) - z / sigma)^2``, as
    its ``score`` is +grad E.

    Args:
        model, noise_scale, ...: as in torchebm.
        noise: a :class:`pyebm.Noise`, whose step plus k names the noise of the k-th evaluation; a
            function like ``torch.randn_like``; or None, where torch.manual_seed governs it. A
            generator given to the call takes precedence, and gives the bits of torchebm's own loss.

    Example:
        >>> import torch, pyebm
        >>> from torchebm.core import GaussianModel
        >>> from pyebm.integrations.torchebm import DenoisingScoreMatching
        >>> model = GaussianModel(torch.zeros(2), torch.eye(2))
        >>> loss = DenoisingScoreMatching(model, noise_scale=0.1, noise=pyebm.Noise(0))
        >>> loss(torch.randn(64, 2)).shape
        torch.Size([])
    """

    _original = "torchebm.losses.DenoisingScoreMatching"

    def __init__(self, *args: Any, noise: Source = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        checked_number("DenoisingScoreMatching", "noise_scale", self.noise_scale, 0.0, open_low=True)
        self._draws = Draws(noise)

    def compute_loss(
        self,
        x: Tensor,
        *_: Any,
        model_kwargs: dict[str, Any] | None = None,
        generator: torch.Generator | None = None,
        noise: Normals | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """The loss, without the regularisation that ``forward`` adds. noise, if given, is used for
        this evaluation."""
        check_tensor("DenoisingScoreMatching", "x", x)
        if x.is_meta and self.device.type != "meta":
            raise ValueError("DenoisingScoreMatching: x must hold numbers, got a tensor on meta")
        resolved = self._resolve_model_kwargs(model_kwargs, kwargs)
        self._check_condition(x, resolved)
        resolved = self._apply_cfg_dropout(resolved, generator)
        sigma, x = self.noise_scale, x.to(device=self.device, dtype=self.dtype)
        if noise is None:
            noise = self._draws(x) if generator is None else torch.randn_like(x, generator=generator)
        if isinstance(noise, Tensor):
            noise = fitted("DenoisingScoreMatching", noise, x)
        slope = self.compute_score(add_noise(x, sigma, noise), model_kwargs=resolved)
        return denoising_loss(
            slope, noise, kappa=sigma, lam=-1.0, weight=sigma**-2, half=True, reduction="batchmean"
        )
