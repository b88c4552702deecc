"""The training step of the variance-preserving diffusions: noisy latents, and the loss that regenerates their noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...losses import denoising_loss
from ...noise import Noise
from .._draws import Normals
from .._draws import add_noise as _mixed


@dataclass(frozen=True)
class Noised:
    """What :func:`loss` needs to know of the noisy latents: the clean ones, their noise, and abar of each sample, in float64."""

    x0: Tensor
    noise: Normals
    abar: Tensor
    prediction_type: str


def add_noise(
    scheduler: Any,
    latents: Tensor,
    noise: Normals,
    timesteps: Tensor,
    *,
    noise_offset: float = 0.0,
    input_perturbation: float = 0.0,
) -> tuple[Tensor, Noised]:
    """``sqrt(abar_t) x0 + sqrt(1 - abar_t) z``, and what the loss needs to know of it.

    In place of ``noisy = scheduler.add_noise(latents, noise, timesteps)``::

        noisy, noised = add_noise(scheduler, latents, pyebm.Noise(0, step=k), timesteps)
        loss = pyebm.integrations.diffusers.loss(unet(noisy, timesteps).sample, noised, snr_gamma=5.0)

    The schedule is read in its own precision, whatever that of the latents; half precisions are computed in float32.

    Args:
        scheduler: any with ``alphas_cumprod``, which is moved to the latents' device, as their own add_noise does.
        latents: x0 (B, ...), kept by the result.
        noise: a :class:`pyebm.Noise`, one for each training step; or the normals, like latents.
        timesteps: int64 (B,), or one for all.
        noise_offset: add to the noise ``noise_offset`` times one normal per sample and channel, as their training scripts do. The
            sum is then a tensor that is kept until the loss.
        input_perturbation: add ``input_perturbation`` times further normals to what the network sees, not to the target.

    With a Noise, those two take its streams + 1 and + 2; with a tensor, torch's default generator.

    Raises:
        TypeError: a scheduler without alphas_cumprod (for flow matching use pyebm.denoising_loss with mu = 1).
        ValueError: shapes that don't fit.

    Example:
        >>> import torch, diffusers, pyebm
        >>> from pyebm.integrations.diffusers import add_noise, loss
        >>> scheduler, noise = diffusers.DDPMScheduler(), pyebm.Noise(0)
        >>> x0, t = torch.randn(4, 3, 8, 8), torch.tensor([0, 10, 500, 999])
        >>> noisy, noised = add_noise(scheduler, x0, noise, t)
        >>> loss(noise.randn(x0.shape), noised).item()  # the perfect epsilon prediction
        0.0
    """
    if not hasattr(scheduler, "alphas_cumprod"):
        raise TypeError(
            f"add_noise: scheduler must have alphas_cumprod, got {type(scheduler).__name__}; "
            "for flow matching use pyebm.denoising_loss with mu=1 and x0"
        )
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.to(latents.device)
    abar = scheduler.alphas_cumprod[timesteps.to(latents.device)].double().flatten()
    alpha, sigma = abar.sqrt(), (1 - abar).sqrt()
    further = _further_normals(noise, latents)
    if noise_offset:
        z = noise.randn(latents.shape, dtype=latents.dtype, device=latents.device) if isinstance(noise, Noise) else noise
        noise = (z + noise_offset * further((*latents.shape[:2], *[1] * (latents.dim() - 2)), 1)).to(z.dtype)
    if input_perturbation:
        wide = latents.to(torch.promote_types(latents.dtype, torch.float32))
        wide = _mixed(wide, sigma, noise, alpha)
        noisy = _mixed(wide, input_perturbation * sigma, further(latents.shape, 2)).to(latents.dtype)
    else:
        noisy = _mixed(latents, sigma, noise, alpha)
    return noisy, Noised(latents, noise, abar, getattr(scheduler.config, "prediction_type", "epsilon"))


def loss(
    model_pred: Tensor,
    noised: Noised,
    prediction_type: str | None = None,
    snr_gamma: float | None = None,
    *,
    reduction: str = "mean",
) -> Tensor:
    """``mean_b w_b mean_i (pred - target)^2``, target and loss in float32, with min-SNR weights where asked for.

    In place of ``F.mse_loss(model_pred.float(), target.float())`` and of the code around it that makes the target and the weights.

    Args:
        model_pred: the network's output, like the latents.
        noised: what :func:`add_noise` returned.
        prediction_type: "epsilon", "v_prediction" or "sample"; None asks the scheduler's configuration.
        snr_gamma: gamma of Hang et al. (2023), with snr = abar / (1 - abar): w = min(snr, gamma) / snr for epsilon,
            / (snr + 1) for v, and min(snr, gamma) itself for sample. At zero terminal SNR it is the limit, 1 for epsilon.
        reduction: "mean", or "sample" for the sum of each sample's elements, and the others of :func:`pyebm.denoising_loss`.

    Raises:
        ValueError: an unknown prediction type, a gamma that is not > 0, shapes that don't fit.
    """
    kind = noised.prediction_type if prediction_type is None else prediction_type
    if kind not in _WEIGHTS:
        raise ValueError(f"loss: prediction_type must be one of {', '.join(map(repr, _WEIGHTS))} or None, got {kind!r}")
    weight = None
    if snr_gamma is not None:
        if not snr_gamma > 0:
            raise ValueError(f"loss: snr_gamma must be > 0 or None, got {snr_gamma}")
        weight = _WEIGHTS[kind](noised.abar, snr_gamma)
    if kind == "sample":  # no noise is left in the residual: x0 stands in its place
        return denoising_loss(model_pred, noised.x0, weight=weight, reduction=reduction)
    if kind == "epsilon":
        return denoising_loss(model_pred, noised.noise, weight=weight, reduction=reduction)
    return denoising_loss(
        model_pred,
        noised.noise,
        lam=-noised.abar.sqrt(),
        mu=(1 - noised.abar).sqrt(),
        x0=noised.x0,
        weight=weight,
        reduction=reduction,
    )


# min(snr, gamma) / snr, / (snr + 1), and alone, in forms that neither snr = 0 nor snr = infinity makes 0/0.
_WEIGHTS = {
    "epsilon": lambda abar, gamma: gamma / (abar / (1 - abar)).clamp(min=gamma),
    "v_prediction": lambda abar, gamma: (abar / (1 - abar)).clamp(max=gamma) * (1 - abar),
    "sample": lambda abar, gamma: (abar / (1 - abar)).clamp(max=gamma),
}


def _further_normals(noise: Normals, latents: Tensor) -> Callable[[Sequence[int], int], Tensor]:
    """Makes more normals, in float32 at least, for the same samples: of the Noise's streams, or of torch's generator."""
    device, dtype = latents.device, torch.promote_types(latents.dtype, torch.float32)
    if isinstance(noise, Noise):
        return lambda shape, stream: noise.at(stream=noise.stream + stream).randn(tuple(shape), dtype=dtype, device=device)
    return lambda shape, _: torch.randn(*shape, dtype=dtype, device=device)
