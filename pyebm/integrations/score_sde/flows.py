"""score_sde's probability flow: samples by a black-box ODE solver, and likelihoods."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..._checks import check_samples, checked_number
from ..._modes import in_mode, without_grad
from ..._options import check_callable, check_choice, checked_flag
from ...noise import Noise
from .._draws import Draws, Source, step
from .._fits import widened
from ._scores import PRIOR, ScoreFn, prior, score_function
from ._sde import check_known, on_stream, ones_for
from .sampling import ReverseDiffusionPredictor

_UNUSED = Noise(0)  # for steps in which the coefficient of z is 0


def get_ode_sampler(
    sde: Any,
    shape: Sequence[int],
    inverse_scaler: Callable[[Tensor], Any],
    denoise: bool = False,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    method: str = "RK45",
    eps: float = 1e-3,
    device: torch.device | str = "cuda",
    *,
    noise: Source = None,
) -> Callable[..., tuple[Any, int]]:
    """``sampler(model, z=None) -> (samples, evaluations)``, score_sde's function of that name: the
    probability flow by scipy's solve_ivp.

    Args:
        sde, ..., device: as in score_sde.
        noise: names the first state as for :func:`get_pc_sampler`. A z that is given is the first
            state itself.
    """
    call = "get_ode_sampler"
    rtol, atol, eps = _numbers(call, sde, rtol, atol, eps)
    check_callable(call, "inverse_scaler", inverse_scaler)
    denoise = checked_flag(call, "denoise", denoise)

    @without_grad
    def ode_sampler(model: Any, z: Tensor | None = None) -> tuple[Any, int]:
        score = score_function(call, sde, model, True)
        x = prior(call, sde, shape, device, noise) if z is None else z
        check_samples(call, "z", x)

        def flow(t: float, flat: Any) -> Any:
            state = _unflattened(flat, x)
            return _flattened(_slope(sde, score, state, state.new_full((len(x),), t)))

        solved = _solved(flow, (float(sde.T), eps), _flattened(x), rtol, atol, method)
        last = _unflattened(solved.y[:, -1], x)
        if denoise:
            predictor = ReverseDiffusionPredictor(sde, score, noise=torch.zeros_like)
            last = predictor.update_fn(last, last.new_full((len(x),), eps))[1]
        return inverse_scaler(last), int(solved.nfev)

    return ode_sampler


def get_likelihood_fn(
    sde: Any,
    inverse_scaler: Callable[[Any], Any],
    hutchinson_type: str = "Rademacher",
    rtol: float = 1e-5,
    atol: float = 1e-5,
    method: str = "RK45",
    eps: float = 1e-5,
    *,
    noise: Source = None,
) -> Callable[[Any, Tensor], tuple[Tensor, Tensor, int]]:
    """``likelihood(model, data) -> (bits per dimension, latent, evaluations)``, score_sde's
    function of that name: the flow's divergence is estimated along one direction a sample.

    Args:
        sde, ..., eps: as in score_sde.
        noise: a :class:`pyebm.Noise` names the directions, of which call k has its step + k (their
            signs, for "Rademacher"); so a sample's estimate does not depend on its batch. A
            function like ``torch.randn_like`` or None as elsewhere.
    """
    call = "get_likelihood_fn"
    rtol, atol, eps = _numbers(call, sde, rtol, atol, eps)
    check_callable(call, "inverse_scaler", inverse_scaler)
    check_choice(call, "hutchinson_type", hutchinson_type, ("Rademacher", "Gaussian"))
    draws = Draws(on_stream(noise, PRIOR))

    @without_grad
    def likelihood(model: Any, data: Tensor) -> tuple[Tensor, Tensor, int]:
        batch = check_samples(call, "data", data)
        score = score_function(call, sde, model, True)
        drawn = draws(data)
        direction = drawn.randn(data.shape, device=data.device) if isinstance(drawn, Noise) else drawn
        if hutchinson_type == "Rademacher":
            direction = torch.where(direction < 0, -1.0, 1.0)

        def flow(t: float, flat: Any) -> Any:
            x = _unflattened(flat[:-batch], data)
            times = x.new_full((batch,), t)

            def followed() -> tuple[Tensor, Tensor]:
                at = x.detach().requires_grad_()
                slope = _slope(sde, score, at, times)
                return slope, torch.autograd.grad((slope * direction).sum(), at)[0]

            slope, along = in_mode(followed, grad=True)
            trace = (along * direction).flatten(1).sum(1)
            return _joined(slope.detach(), trace)

        start = _joined(data, data.new_zeros(batch))
        solved = _solved(flow, (eps, float(sde.T)), start, rtol, atol, method)
        last = solved.y[:, -1]
        latent = _unflattened(last[:-batch], data)
        change = torch.as_tensor(last[-batch:], dtype=torch.float32, device=data.device)
        dimensions = math.prod(data.shape[1:])
        bits = -(sde.prior_logp(latent) + change) / (math.log(2) * dimensions)
        # Data scaled to [0, 1] or [-1, 1] are 8 bits each.
        return bits + (7.0 - inverse_scaler(-1.0)), latent, int(solved.nfev)

    return likelihood


def _slope(sde: Any, score: ScoreFn, x: Tensor, t: Tensor) -> Tensor:
    """``f - g^2 s / 2``."""
    drift, diffusion = sde.sde(ones_for(x), t)
    scores = score(x, t)
    wide = widened(x, scores)
    return step(wide, scores, drift.double().flatten(), -0.5 * diffusion.double() ** 2, 0.0, _UNUSED)


def _numbers(call: str, sde: Any, rtol: float, atol: float, eps: float) -> tuple[float, float, float]:
    check_known(call, sde)
    eps = checked_number(call, "eps", eps, 0.0, open_low=True)
    if not eps < sde.T:
        raise ValueError(f"{call}: eps must be below the SDE's T={sde.T}, got {eps}")
    rtol, atol = checked_number(call, "rtol", rtol, 0.0), checked_number(call, "atol", atol, 0.0)
    return rtol, atol, eps


def _solved(flow: Any, span: tuple[float, float], start: Any, rtol: float, atol: float, method: str) -> Any:
    from scipy import integrate  # imported late: only these two functions need it

    return integrate.solve_ivp(flow, span, start, rtol=rtol, atol=atol, method=method)


def _flattened(x: Tensor) -> Any:
    return x.detach().cpu().double().numpy().reshape(-1)


def _joined(x: Tensor, each: Tensor) -> Any:
    return _flattened(torch.cat([x.reshape(-1), each.to(x.dtype)]))


def _unflattened(flat: Any, like: Tensor) -> Tensor:
    return torch.as_tensor(flat, dtype=torch.float32, device=like.device).reshape(like.shape)
