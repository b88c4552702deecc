"""EDM's samplers (Karras et al. 2022, algorithms 1 and 2), in steps of one pass or two."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._checks import check_samples, checked_number
from .._modes import without_grad
from .._options import check_callable, check_choice, checked_count
from ._churn import blend, checked_range, churned
from ._draws import Draws, Source, step
from ._edm_schedules import Schedule, ladder, schedule_of


def edm_sampler(
    net: Any,
    latents: Tensor,
    class_labels: Tensor | None = None,
    randn_like: Source = torch.randn_like,
    num_steps: int = 18,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
    S_churn: float = 0.0,
    S_min: float = 0.0,
    S_max: float = math.inf,
    S_noise: float = 1.0,
) -> Tensor:
    """EDM's function of that name: Heun's steps in float64, with churn.

    Args:
        net: ``net(x, sigma, class_labels)``, the denoiser, with ``sigma_min``, ``sigma_max`` and
            ``round_sigma``.
        latents: normals (B, ...), scaled by the first level here.
        class_labels: handed to net.
        randn_like: a :class:`pyebm.Noise`, whose step plus i names the noise of step i; a
            function such as ``torch.randn_like`` or a StackedRandomGenerator's; None for a fresh
            seed.
        num_steps, ..., S_noise: as in EDM.

    Returns:
        The samples, float64.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.edm import edm_sampler
        >>> class Net:  # of a standard normal
        ...     sigma_min, sigma_max, round_sigma = 0.0, 100.0, staticmethod(torch.as_tensor)
        ...     def __call__(self, x, sigma, labels):
        ...         return x / (1 + sigma**2)
        >>> noise = pyebm.Noise(0)
        >>> x = edm_sampler(Net(), noise.at(stream=1).randn((1000, 2)), None, noise, 100)
        >>> bool(0.9 < x.std() < 1.1)
        True
    """
    call = "edm_sampler"
    low, high = _levels(call, net, sigma_min, sigma_max)
    rho = checked_number(call, "rho", rho, 0.0, open_low=True)
    num_steps = checked_count(call, "num_steps", num_steps, 1)
    sigmas = ladder("edm", num_steps, low, high, rho=rho)
    churn = (S_churn, S_min, S_max, S_noise)
    linear = schedule_of("linear", "none", low, high, 1e-3)
    return _sample(call, net, latents, class_labels, randn_like, sigmas, linear, churn, 1.0, True)


def ablation_sampler(
    net: Any,
    latents: Tensor,
    class_labels: Tensor | None = None,
    randn_like: Source = torch.randn_like,
    num_steps: int = 18,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    rho: float = 7.0,
    solver: str = "heun",
    discretization: str = "edm",
    schedule: str = "linear",
    scaling: str = "none",
    epsilon_s: float = 1e-3,
    C_1: float = 0.001,
    C_2: float = 0.008,
    M: int = 1000,
    alpha: float = 1.0,
    S_churn: float = 0.0,
    S_min: float = 0.0,
    S_max: float = math.inf,
    S_noise: float = 1.0,
) -> Tensor:
    """EDM's function of that name: any of the paper's solvers ("euler", "heun"), time steps ("vp",
    "ve", "iddpm", "edm"), schedules ("vp", "ve", "linear") and scalings ("vp", "none").

    Other arguments and the result are as in EDM and as for :func:`edm_sampler`.
    """
    call = "ablation_sampler"
    for name, value, known in (
        ("solver", solver, ("euler", "heun")),
        ("discretization", discretization, ("vp", "ve", "iddpm", "edm")),
        ("schedule", schedule, ("vp", "ve", "linear")),
        ("scaling", scaling, ("vp", "none")),
    ):
        check_choice(call, name, value, known)
    eps = checked_number(call, "epsilon_s", epsilon_s, 0.0, open_low=True)
    vp = schedule_of("vp", "none", None, None, eps)
    defaults = {
        "vp": (vp.sigma(eps), vp.sigma(1.0)),
        "ve": (0.02, 100.0),
        "iddpm": (0.002, 81.0),
        "edm": (0.002, 80.0),
    }[discretization]
    low, high = _levels(
        call,
        net,
        defaults[0] if sigma_min is None else sigma_min,
        defaults[1] if sigma_max is None else sigma_max,
    )
    numbers = {"rho": rho, "C_1": C_1, "C_2": C_2}
    options = {name: checked_number(call, name, value, 0.0, open_low=True) for name, value in numbers.items()}
    alpha = checked_number(call, "alpha", alpha, 0.0, open_low=True)
    num_steps = checked_count(call, "num_steps", num_steps, 1)
    sigmas = ladder(
        discretization, num_steps, low, high, eps=eps, M=checked_count(call, "M", M, 1), **options
    )
    churn = (S_churn, S_min, S_max, S_noise)
    times = schedule_of(schedule, scaling, low, high, eps)
    return _sample(
        call, net, latents, class_labels, randn_like, sigmas, times, churn, alpha, solver == "heun"
    )


@without_grad
def _sample(
    call: str,
    net: Any,
    latents: Tensor,
    class_labels: Tensor | None,
    randn_like: Source,
    sigmas: list[float],
    schedule: Schedule,
    churn: tuple[float, ...],
    alpha: float,
    heun: bool,
) -> Tensor:
    check_samples(call, "latents", latents)
    if latents.is_meta:
        raise ValueError(f"{call}: latents must hold numbers, got a tensor on meta")
    s_churn, s_noise = checked_number(call, "S_churn", churn[0]), checked_number(call, "S_noise", churn[3])
    s_min, s_max = checked_range(call, ("S_min", churn[1]), ("S_max", churn[2]))
    draws, device, steps = Draws(randn_like), latents.device, len(sigmas)

    def rounded(levels: list[float]) -> list[float]:
        taken: list[float] = net.round_sigma(
            torch.tensor(levels, dtype=torch.float64, device=device)
        ).tolist()
        return taken

    def denoised(x: Tensor, time: float) -> Tensor:
        scale = schedule.scale(time)
        level = torch.tensor(schedule.sigma(time), dtype=torch.float64, device=device)
        images: Tensor = net(x if scale == 1 else x / scale, level, class_labels)
        return images

    # All levels are known before the first step, so a GPU is waited for only here.
    times = [schedule.time(sigma) for sigma in rounded(sigmas)]
    raised = []
    for time in times:
        sigma = schedule.sigma(time)
        gamma = min(s_churn / steps, math.sqrt(2) - 1) if s_min <= sigma <= s_max else 0.0
        raised.append(sigma + gamma * sigma)
    hats = [schedule.time(sigma) for sigma in rounded(raised)]
    x = latents.double() * (schedule.sigma(times[0]) * schedule.scale(times[0]))
    for i, (time, hat, after) in enumerate(zip(times, hats, [*times[1:], 0.0], strict=True)):
        x = _churned(x, schedule, time, hat, s_noise, draws)
        second = heun and i < steps - 1
        x = _advanced(x, denoised, schedule, hat, after, alpha if second else None)
    return x


def _churned(x: Tensor, schedule: Schedule, time: float, hat: float, s_noise: float, draws: Draws) -> Tensor:
    sigma, sigma_hat = schedule.sigma(time), schedule.sigma(hat)
    kept = schedule.scale(hat) / schedule.scale(time)
    if kept == 1:
        return churned(x, sigma, sigma_hat, s_noise * schedule.scale(hat), draws)
    std = math.sqrt(max(sigma_hat**2 - sigma**2, 0.0)) * schedule.scale(hat) * s_noise
    return step(x, x, kept, 0.0, std, draws(x))


def _advanced(
    x: Tensor,
    denoised: Callable[[Tensor, float], Tensor],
    schedule: Schedule,
    time: float,
    after: float,
    alpha: float | None,
) -> Tensor:
    """x at the time ``after``, by Euler's step, or with alpha by a step of second order whose
    middle lies at the share alpha of it."""
    # The slope of x is of_x x - of_d D, where D is the denoised x.
    of_x, of_d = schedule.slope(time)
    h = after - time
    part = h if alpha is None else alpha * h
    middle = blend(x, 1 + part * of_x, denoised(x, time), -part * of_d)
    if alpha is None:
        return middle
    of_x, of_d = schedule.slope(time + part)
    share, weight = (2 * alpha - 1) / (2 * alpha**2), h / (2 * alpha)
    inner = blend(middle, share + weight * of_x, denoised(middle, time + part), -weight * of_d)
    return blend(x, 1 - share, inner, 1.0)


def _levels(call: str, net: Any, sigma_min: float, sigma_max: float) -> tuple[float, float]:
    """The range of levels, within the network's own."""
    check_callable(call, "net", net)
    if not all(hasattr(net, name) for name in ("sigma_min", "sigma_max", "round_sigma")):
        raise TypeError(
            f"{call}: net must have sigma_min, sigma_max and round_sigma, got {type(net).__name__}"
        )
    low = checked_number(call, "sigma_min", sigma_min, 0.0, open_low=True)
    high = checked_number(call, "sigma_max", sigma_max, 0.0, open_low=True)
    return max(low, float(net.sigma_min)), min(high, float(net.sigma_max))
