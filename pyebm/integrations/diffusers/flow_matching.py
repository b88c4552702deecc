"""Flow matching's training step: ``x = (1 - sigma) x0 + sigma z``, its loss, and the densities of
its timesteps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..._checks import check_samples, check_tensor, checked_number
from ..._options import check_choice, checked_count, checked_flag
from ..._streams import LEVELS, beside
from ...losses import denoising_loss
from ...noise import Noise
from .._draws import Normals, add_noise
from .._fits import fitted, output_like


@dataclass(frozen=True)
class FlowNoised:
    """A record of the noisy latents ``(1 - sigma) x0 + sigma z`` for :func:`flow_loss`, with the
    sigma of each sample in float64."""

    x0: Tensor
    noise: Normals
    sigma: Tensor


def add_flow_noise(
    scheduler: Any, latents: Tensor, noise: Normals, timesteps: Tensor
) -> tuple[Tensor, FlowNoised]:
    """``(1 - sigma_t) x0 + sigma_t z``, and the record of it that :func:`flow_loss` needs.

    In place of the lines of diffusers' training scripts that look sigmas up and mix latents and
    noise::

        noisy, noised = add_flow_noise(scheduler, latents, pyebm.Noise(0, step=k), timesteps)
        loss = flow_loss(transformer(noisy, timesteps).sample, noised)

    Args:
        scheduler: a flow matching one; its ``timesteps`` and ``sigmas`` are looked up.
        latents: x0 (B, ...).
        noise: a :class:`pyebm.Noise`, one for each training step; or the normals, like latents.
        timesteps: (B,), each one of ``scheduler.timesteps``.

    Raises:
        TypeError: a scheduler without timesteps and sigmas; tensors that are not dense.
        ValueError: a timestep that the schedule does not have, shapes that don't fit.

    Example:
        >>> import torch, diffusers, pyebm
        >>> from pyebm.integrations.diffusers import add_flow_noise, flow_loss
        >>> scheduler, noise = diffusers.FlowMatchEulerDiscreteScheduler(), pyebm.Noise(0)
        >>> x0, t = torch.randn(4, 3, 8, 8), scheduler.timesteps[[1, 10, 99, 500]]
        >>> noisy, noised = add_flow_noise(scheduler, x0, noise, t)
        >>> bool(flow_loss(noise.randn(x0.shape) - x0, noised) < 1e-12)  # the velocity itself
        True
    """
    batch = check_samples("add_flow_noise", "latents", latents)
    if latents.is_meta:
        raise ValueError("add_flow_noise: latents must hold numbers, got a tensor on meta")
    check_tensor("add_flow_noise", "timesteps", timesteps)
    if not isinstance(noise, Noise):
        noise = fitted("add_flow_noise", noise, latents)
    known, levels = getattr(scheduler, "timesteps", None), getattr(scheduler, "sigmas", None)
    if not isinstance(known, Tensor) or not isinstance(levels, Tensor):
        name = type(scheduler).__name__
        raise TypeError(f"add_flow_noise: scheduler must have timesteps and sigmas, got {name}")
    times = timesteps.reshape(-1).to(known.device)
    if len(times) not in (1, batch) or times.is_meta:
        raise ValueError(
            f"add_flow_noise: timesteps must be ({batch},), one a sample of latents, got"
            f" {tuple(timesteps.shape)}"
        )
    found = (known[None] == times[:, None]).to(torch.uint8)
    index = found.argmax(1)
    if times.is_cpu and not bool(found.any(1).all()):
        raise ValueError("add_flow_noise: timesteps must be of scheduler.timesteps, got others")
    sigma = levels.to(known.device)[index].double().expand(batch).to(latents.device)
    return add_noise(latents, sigma, noise, alpha=1 - sigma), FlowNoised(latents, noise, sigma)


def flow_loss(
    model_pred: Tensor,
    noised: FlowNoised,
    weighting_scheme: str = "none",
    *,
    precondition_outputs: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """``mean_b w_b mean_i (v - (z - x0))^2``, the loss of rectified flows (Esser et al. 2024).

    Args:
        model_pred: the network's velocity, like the latents.
        noised: what :func:`add_flow_noise` returned.
        weighting_scheme: as diffusers' compute_loss_weighting_for_sd3 has it: w = sigma^-2 for
            "sigma_sqrt", 2 / (pi (1 - 2 sigma + 2 sigma^2)) for "cosmap", and 1 for any other.
        precondition_outputs: compare ``noisy - sigma v`` with x0 instead, which weighs by sigma^2.
        reduction: "mean", or another one of :func:`pyebm.denoising_loss`.

    Raises:
        TypeError: noised is something else.
        ValueError: shapes or a reduction that don't fit.
    """
    check_samples("flow_loss", "model_pred", model_pred)
    if not isinstance(noised, FlowNoised):
        raise TypeError(
            f"flow_loss: noised must be what add_flow_noise returned, got {type(noised).__name__}"
        )
    check_choice("flow_loss", "weighting_scheme", weighting_scheme, _SCHEMES)
    pred = output_like("flow_loss", "model_pred", model_pred, noised.x0)
    sigma = noised.sigma
    weight: Tensor | None = None
    if weighting_scheme == "sigma_sqrt":
        weight = sigma**-2
    elif weighting_scheme == "cosmap":
        weight = 2 / (math.pi * (1 - 2 * sigma + 2 * sigma**2))
    if checked_flag("flow_loss", "precondition_outputs", precondition_outputs):
        # (1 - sigma) x0 + sigma z - sigma v - x0 is sigma times the residual.
        weight = sigma**2 if weight is None else sigma**2 * weight
    return denoising_loss(
        pred, noised.noise, lam=-1.0, mu=1.0, x0=noised.x0, weight=weight, reduction=reduction
    )


_SCHEMES = ("none", "sigma_sqrt", "logit_normal", "mode", "cosmap")


def density_timesteps(
    scheduler: Any,
    noise: Noise,
    batch: int,
    weighting_scheme: str = "none",
    logit_mean: float = 0.0,
    logit_std: float = 1.0,
    mode_scale: float = 1.29,
    *,
    device: torch.device | str = "cpu",
) -> Tensor:
    """The timestep of each sample, (batch,), drawn from one of the densities of Esser et al.
    (2024), as a function of the sample's name.

    In place of ``u = compute_density_for_timestep_sampling(...)`` and the two lines after it in
    diffusers' training scripts. The levels are drawn from the noise's stream ^ 9 << 28, so the same
    Noise may be given to :func:`add_flow_noise`.

    Args:
        scheduler: its ``timesteps`` are drawn from, the first for u = 0.
        noise: names the draws.
        batch: the number of samples.
        weighting_scheme: u is the logistic function of N(logit_mean, logit_std^2) for
            "logit_normal"; ``1 - v - mode_scale (cos^2(pi v / 2) - 1 + v)`` of a uniform v for
            "mode"; uniform for any other.
        device: where the result is.

    Example:
        >>> import diffusers, pyebm
        >>> from pyebm.integrations.diffusers import density_timesteps
        >>> scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
        >>> density_timesteps(scheduler, pyebm.Noise(0), 4, "logit_normal").shape
        torch.Size([4])
    """
    call = "density_timesteps"
    if not isinstance(noise, Noise):
        raise TypeError(f"{call}: noise must be a Noise, got {type(noise).__name__}")
    known = getattr(scheduler, "timesteps", None)
    if not isinstance(known, Tensor):
        raise TypeError(f"{call}: scheduler must have timesteps, got {type(scheduler).__name__}")
    check_choice(call, "weighting_scheme", weighting_scheme, _SCHEMES)
    batch = checked_count(call, "batch", batch)
    mean, scale = (
        checked_number(call, "logit_mean", logit_mean),
        checked_number(call, "mode_scale", mode_scale),
    )
    std = checked_number(call, "logit_std", logit_std, 0.0)
    drawn = beside(noise, LEVELS)
    if weighting_scheme == "logit_normal":
        u = torch.sigmoid(drawn.randn((batch, 1), dtype=torch.float64, device=device)[:, 0] * std + mean)
    else:
        u = drawn.rand((batch, 1), dtype=torch.float64, device=device)[:, 0]
        if weighting_scheme == "mode":
            u = 1 - u - scale * (torch.cos(math.pi * u / 2) ** 2 - 1 + u)
    index = (u * len(known)).long().clamp(0, len(known) - 1)
    return known.to(index.device)[index]
