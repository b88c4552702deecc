"""torchebm's integrators of stochastic equations, with noise that has a name."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from .._checks import check_samples, check_tensor, checked_number, rows_for
from .._name import readable
from .._options import shown
from ..noise import Noise
from ._draws import Normals, step
from ._fits import checked_scale, output_like
from ._named_draws import NamedDraws
from ._packages import require
from ._torchebm_named import Named

require("torchebm")
from torchebm.integrators import euler_maruyama as integrators  # noqa: E402


class EulerMaruyamaIntegrator(Named, integrators.EulerMaruyamaIntegrator):
    """torchebm's integrator of that name with the whole update in one step:
    ``x' = x + h f(x) + noise_scale sqrt(2 h) z``, or ``sqrt(2 D h) z`` with a diffusion D.

    ``LangevinDynamics(model, integrator=EulerMaruyamaIntegrator(noise=pyebm.Noise(0)))``.

    Args:
        noise: a :class:`pyebm.Noise`, whose step plus k names the noise of the k-th step; a
            function like ``torch.randn_like``; or None, where torch.manual_seed governs it. A
            generator given to ``sample`` takes precedence, and gives the bits of torchebm's own
            integrator.
        device, dtype, ...: as in torchebm.

    Fixed steps are fused, one by one or in ``integrate``; steps without noise, back in time, or
    with a diffusion that differs between a sample's elements run torchebm's own code, with the same
    noise.

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
        random = diffusion is not None or noise_scale is not None
        whole = diffusion is None or _is_one_a_sample(diffusion, state)
        if not random or not whole or _is_negative(step_size):
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
        # As in torchebm, a diffusion takes precedence over noise_scale. torchebm squares that one,
        # so its sign does not matter.
        if diffusion is not None:
            scale: float | Tensor = diffusion**0.5
        else:
            assert noise_scale is not None
            scale = (
                noise_scale.abs()
                if isinstance(noise_scale, Tensor)
                else abs(checked_number(call, "noise_scale", noise_scale))
            )
            scale = checked_scale(call, "noise_scale", scale)
        t = torch.zeros(x.shape[0], device=x.device, dtype=x.dtype) if t is None else t
        slope = output_like(call, "drift's value", self._resolve_drift(drift)(x, t), x).to(x.dtype)
        if noise is None:
            noise = self._draws(x) if generator is None else torch.randn_like(x, generator=generator)
        return {"x": step(x, slope, 1.0, step_size, scale * (2 * step_size) ** 0.5, noise)}

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
            end: dict[str, Tensor] = super().integrate(
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
            return end
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


def _is_one_a_sample(diffusion: Any, state: Any) -> bool:
    """Whether a diffusion has one value for each sample, of the samples' dtype."""
    x = state.get("x") if isinstance(state, dict) else None
    if not isinstance(diffusion, Tensor) or not isinstance(x, Tensor) or diffusion.dtype != x.dtype:
        return False
    return x.dim() > 1 and diffusion.shape == (len(x), *[1] * (x.dim() - 1))


def _is_negative(step_size: Any) -> bool:
    """Whether a step goes back in time. A tensor on a GPU is not read, since that would wait."""
    if not isinstance(step_size, Tensor):
        return checked_number("EulerMaruyamaIntegrator.step", "step_size", step_size) < 0
    check_tensor("EulerMaruyamaIntegrator.step", "step_size", step_size)
    return step_size.is_cpu and readable(step_size) and bool((step_size < 0).any())


class BackwardEulerMaruyamaIntegrator(Named, integrators.BackwardEulerMaruyamaIntegrator):
    """torchebm's implicit integrator of that name; nothing but its draws is ours, since its time
    goes into the drift's iterations.

    Args:
        noise: as for :class:`EulerMaruyamaIntegrator`.
        device, dtype, ...: as in torchebm.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.torchebm import BackwardEulerMaruyamaIntegrator
        >>> integrator = BackwardEulerMaruyamaIntegrator(noise=pyebm.Noise(0))
        >>> state = {"x": torch.zeros(4, 2)}
        >>> integrator.step(state, 0.1, drift=lambda x, t: -x, noise_scale=1.0)["x"].shape
        torch.Size([4, 2])
    """

    _original = "torchebm.integrators.BackwardEulerMaruyamaIntegrator"

    def step(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """One step; arguments as in torchebm."""
        with NamedDraws(self._draws):
            return super().step(*args, **kwargs)  # type: ignore[no-any-return]

    def integrate(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """The steps of a time grid; arguments as in torchebm."""
        with NamedDraws(self._draws):
            return super().integrate(*args, **kwargs)  # type: ignore[no-any-return]
