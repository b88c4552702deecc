"""k-diffusion's samplers that add noise by ``s_churn``: theirs have no ``noise_sampler``, and draw
from torch's generator."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from .._checks import check_samples, check_tensor, checked_number
from .._modes import without_grad
from .._options import check_callable, shown
from ._churn import checked_range, churned, euler, second_order
from ._draws import Draws, Source
from ._fits import checked_scale
from ._packages import require

require("k_diffusion")
from k_diffusion.sampling import trange  # noqa: E402

Callback = Callable[[dict[str, Any]], Any]
# (x, denoised, sigma_hat, sigma_next, the denoiser at a sigma) -> the next x
Advance = Callable[[Tensor, Tensor, Tensor, Tensor, Callable[[Tensor, Tensor], Tensor]], Tensor]


def sample_euler(
    model: Callable[..., Tensor],
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any] | None = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
    *,
    noise: Source = None,
) -> Tensor:
    """k-diffusion's function of that name (Karras et al. 2022, algorithm 2, with Euler steps), each
    step in one pass.

    Args:
        model, ..., s_noise: as in k-diffusion.
        noise: a :class:`pyebm.Noise`, whose step plus i names the noise of step i;
            ``torch.randn_like`` for the bits of k-diffusion's function; or None for a fresh seed.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.k_diffusion import sample_euler
        >>> model = lambda x, sigma: x / (1 + sigma[:, None] ** 2)  # of a standard normal
        >>> x, sigmas = 10 * torch.randn(1000, 2), torch.linspace(10, 0, 51)
        >>> x = sample_euler(model, x, sigmas, disable=True, s_churn=20.0, noise=pyebm.Noise(0))
        >>> bool(0.8 < x.std() < 1.2)
        True
    """
    churn = (s_churn, s_tmin, s_tmax, s_noise)
    return _sample("sample_euler", _euler, model, x, sigmas, extra_args, callback, disable, churn, noise)


def sample_heun(
    model: Callable[..., Tensor],
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any] | None = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
    *,
    noise: Source = None,
) -> Tensor:
    """k-diffusion's function of that name (Karras et al. 2022, algorithm 2); arguments as
    :func:`sample_euler`."""
    churn = (s_churn, s_tmin, s_tmax, s_noise)
    return _sample("sample_heun", _heun, model, x, sigmas, extra_args, callback, disable, churn, noise)


def sample_dpm_2(
    model: Callable[..., Tensor],
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any] | None = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
    *,
    noise: Source = None,
) -> Tensor:
    """k-diffusion's function of that name (algorithm 2 with the steps of DPM-Solver-2); arguments
    as :func:`sample_euler`."""
    churn = (s_churn, s_tmin, s_tmax, s_noise)
    return _sample("sample_dpm_2", _dpm_2, model, x, sigmas, extra_args, callback, disable, churn, noise)


def _euler(x: Tensor, denoised: Tensor, sigma: Tensor, sigma_next: Tensor, _at: Any) -> Tensor:
    return euler(x, denoised, float(sigma), float(sigma_next))


def _heun(x: Tensor, denoised: Tensor, sigma: Tensor, sigma_next: Tensor, at: Any) -> Tensor:
    x_2, end = euler(x, denoised, float(sigma), float(sigma_next)), float(sigma_next)
    if end == 0:
        return x_2
    return second_order(x, x_2, at(x_2, sigma_next), end, end - float(sigma), share=0.5)


def _dpm_2(x: Tensor, denoised: Tensor, sigma: Tensor, sigma_next: Tensor, at: Any) -> Tensor:
    if float(sigma_next) == 0:
        return euler(x, denoised, float(sigma), 0.0)
    middle = sigma.log().lerp(sigma_next.log(), 0.5).exp()
    x_2 = euler(x, denoised, float(sigma), float(middle))
    return second_order(x, x_2, at(x_2, middle), float(middle), float(sigma_next) - float(sigma))


@without_grad
def _sample(
    call: str,
    advance: Advance,
    model: Callable[..., Tensor],
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any] | None,
    callback: Callback | None,
    disable: bool | None,
    churn: tuple[float, ...],
    noise: Source,
) -> Tensor:
    check_callable(call, "model", model)
    check_samples(call, "x", x)
    check_tensor(call, "sigmas", sigmas)
    if sigmas.dim() != 1 or not len(sigmas) or not sigmas.is_floating_point() or sigmas.is_meta:
        raise ValueError(f"{call}: sigmas must be noise levels, (n + 1,), got {shown(sigmas)}")
    checked_scale(call, "sigmas", sigmas)
    if callback is not None:
        check_callable(call, "callback", callback, "a function or None")
    if extra_args is not None and not isinstance(extra_args, dict):
        raise TypeError(f"{call}: extra_args must be a dict or None, got {shown(extra_args)}")
    s_churn, s_noise = checked_number(call, "s_churn", churn[0]), checked_number(call, "s_noise", churn[3])
    s_tmin, s_tmax = checked_range(call, ("s_tmin", churn[1]), ("s_tmax", churn[2]))
    draws, ones, steps = Draws(noise), x.new_ones([x.shape[0]]), len(sigmas) - 1

    def at(x: Tensor, sigma: Tensor) -> Tensor:
        return model(x, sigma * ones, **(extra_args or {}))

    for i in trange(steps, disable=disable):
        gamma = min(s_churn / steps, math.sqrt(2) - 1) if s_tmin <= sigmas[i] <= s_tmax else 0.0
        sigma_hat = sigmas[i] * (gamma + 1)
        x = churned(x, float(sigmas[i]), float(sigma_hat), s_noise, draws)
        denoised = at(x, sigma_hat)
        if callback is not None:
            callback({"x": x, "i": i, "sigma": sigmas[i], "sigma_hat": sigma_hat, "denoised": denoised})
        x = advance(x, denoised, sigma_hat, sigmas[i + 1], at)
    return x
