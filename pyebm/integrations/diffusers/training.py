"""The training step: makes noisy latents as the scheduler does, and the loss, which regenerates
their noise."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor

from ..._checks import check_samples, check_tensor, checked_number
from ..._options import check_choice
from ...losses import denoising_loss
from ...noise import Noise
from .._draws import Normals
from .._draws import add_noise as _mixed
from .._fits import fitted, output_like


@dataclass(frozen=True)
class Noised:
    """A record of the noisy latents ``alpha x0 + sigma z`` for :func:`loss`, with the alpha and
    sigma of each sample in float64."""

    x0: Tensor
    noise: Normals
    alpha: Tensor
    sigma: Tensor
    scheduler: Any

    @property
    def prediction_type(self) -> str | None:
        """The quantity that the scheduler's network predicts; None if its configuration does not
        say, or means the output of EDM's preconditioned network. A training script may set it
        after add_noise."""
        config = getattr(self.scheduler, "config", {})
        return None if "sigma_data" in config else getattr(config, "prediction_type", None)


def add_noise(
    scheduler: Any,
    latents: Tensor,
    noise: Normals,
    timesteps: Tensor | float,
    *,
    noise_offset: float = 0.0,
    input_perturbation: float = 0.0,
) -> tuple[Tensor, Noised]:
    """The scheduler's ``alpha_t x0 + sigma_t z``, and the record of it that the loss needs.

    In place of ``noisy = scheduler.add_noise(latents, noise, timesteps)``::

        noisy, noised = add_noise(scheduler, latents, pyebm.Noise(0, step=k), timesteps)
        loss = pyebm.integrations.diffusers.loss(unet(noisy, timesteps).sample, noised,
        snr_gamma=5.0)

    alpha and sigma come from the scheduler itself: its own ``add_noise`` is called in float64 on
    three numbers per sample. It gives ``sqrt(abar)`` and ``sqrt(1 - abar)`` for DDPM, 1 and sigma
    for Euler, and respects a scheduler's ``begin_index`` and ``step_index``. The schedule keeps its
    own precision, whatever that of the latents; half precisions are computed in float32.

    Args:
        scheduler: any with ``add_noise(original_samples, noise, timesteps)`` that adds a multiple
            of the noise to one of the samples.
        latents: x0 (B, ...), with two dimensions at least; the record keeps them.
        noise: a :class:`pyebm.Noise`, one for each training step; or the normals, like latents.
        timesteps: (B,), or one for all (a number, too), of the dtype and values that the scheduler
            takes.
        noise_offset: add to the noise ``noise_offset`` times one normal per sample and channel, as
            diffusers' training scripts do. The sum is then a tensor that is kept until the loss.
        input_perturbation: add ``input_perturbation`` times further normals to what the network
            sees, not to the target.

    Those two draw from the streams + 1 and + 2 of a Noise; for a tensor of normals they draw from
    torch's default generator, in the dtypes of the training scripts.

    Raises:
        TypeError: a scheduler without such an add_noise (for flow matching use pyebm.denoising_loss
            with mu = 1).
        ValueError: an add_noise that does something else with its samples and noise; shapes that
            don't fit.
        Exception: any that the scheduler's add_noise raises, for instance for unknown timesteps.

    Example:
        >>> import torch, diffusers, pyebm
        >>> from pyebm.integrations.diffusers import add_noise, loss
        >>> scheduler, noise = diffusers.DDPMScheduler(), pyebm.Noise(0)
        >>> x0, t = torch.randn(4, 3, 8, 8), torch.tensor([0, 10, 500, 999])
        >>> noisy, noised = add_noise(scheduler, x0, noise, t)
        >>> loss(noise.randn(x0.shape), noised).item()  # the perfect epsilon prediction
        0.0
    """
    check_samples("add_noise", "latents", latents)
    if latents.is_meta:
        raise ValueError("add_noise: latents must hold numbers, got a tensor on meta")
    if not isinstance(timesteps, Tensor) and isinstance(timesteps, Real):
        timesteps = torch.tensor(timesteps, device=latents.device)
    check_tensor("add_noise", "timesteps", timesteps)
    if not isinstance(noise, Noise):
        noise = fitted("add_noise", noise, latents)
    noise_offset = checked_number("add_noise", "noise_offset", noise_offset)
    input_perturbation = checked_number("add_noise", "input_perturbation", input_perturbation)
    alpha, sigma = _coefficients(scheduler, latents, timesteps)
    further = _further_normals(noise, latents)
    if noise_offset:
        z = (
            noise.randn(latents.shape, dtype=latents.dtype, device=latents.device)
            if isinstance(noise, Noise)
            else noise
        )
        noise = (z + noise_offset * further((*latents.shape[:2], *[1] * (latents.dim() - 2)), 1)).to(z.dtype)
    if input_perturbation:
        wide = latents.to(torch.promote_types(latents.dtype, torch.float32))
        wide = _mixed(wide, sigma, noise, alpha)
        noisy = _mixed(wide, input_perturbation * sigma, further(latents.shape, 2)).to(latents.dtype)
    else:
        noisy = _mixed(latents, sigma, noise, alpha)
    return noisy, Noised(latents, noise, alpha, sigma, scheduler)


def _coefficients(scheduler: Any, latents: Tensor, timesteps: Any) -> tuple[Tensor, Tensor]:
    """The alpha and sigma of each sample, as the scheduler's own add_noise has them."""
    name, batch = type(scheduler).__name__, latents.shape[0]
    own = getattr(scheduler, "add_noise", None)
    if own is None or [*inspect.signature(own).parameters] != ["original_samples", "noise", "timesteps"]:
        raise TypeError(
            f"add_noise: scheduler must have an add_noise(original_samples, noise, timesteps), got {name}; "
            "for flow matching use pyebm.denoising_loss with mu=1 and x0"
        )
    if latents.dim() < 2:
        raise ValueError(
            f"add_noise: latents must be (B, ...) with two dimensions at least, got {tuple(latents.shape)}"
        )
    times = timesteps.to(latents.device).reshape(-1)
    if times.shape[0] not in (1, batch):
        raise ValueError(
            f"add_noise: timesteps must be ({batch},), one a sample, or one for all, got"
            f" {tuple(timesteps.shape)}"
        )
    shape = (-1, 3, *[1] * (latents.dim() - 2))
    x, z = (
        latents.new_tensor(row, dtype=torch.float64).reshape(shape).expand(batch, *shape[1:])
        for row in _PROBES
    )
    alpha, sigma, mixed = own(x, z, times.expand(batch)).reshape(batch, 3).double().unbind(1)
    # The check waits for a GPU, so there each scheduler is checked only once.
    if latents.device.type == "cpu" or scheduler not in _KNOWN:
        if not torch.allclose(mixed, 2 * alpha - 3 * sigma, rtol=1e-6, atol=1e-12, equal_nan=True):
            raise ValueError(
                f"add_noise: scheduler must add a multiple of the noise to one of the samples; {name} does"
                " something else"
            )
        _KNOWN.add(scheduler)
    return alpha, sigma


_PROBES = (
    (1.0, 0.0, 2.0),
    (0.0, 1.0, -3.0),
)  # values of x and z; add_noise turns them into alpha, sigma, and 2 alpha - 3 sigma
_KNOWN: WeakSet[Any] = WeakSet()


def loss(
    model_pred: Tensor,
    noised: Noised,
    prediction_type: str | None = None,
    snr_gamma: float | None = None,
    *,
    reduction: str = "mean",
) -> Tensor:
    """``mean_b w_b mean_i (pred - target)^2``, target and loss in float32, with min-SNR weights
    where asked for.

    It replaces ``F.mse_loss(model_pred.float(), target.float())`` and the code around it that makes
    the target and the weights.

    Args:
        model_pred: the network's output, like the latents.
        noised: what :func:`add_noise` returned.
        prediction_type: "epsilon" for z, "v_prediction" for
            ``(alpha z - sigma x0) / sqrt(alpha^2 + sigma^2)``, "sample" for x0. None asks the
            scheduler's configuration; give one where that says nothing or means EDM's
            preconditioned network.
        snr_gamma: gamma of Hang et al. (2023), with snr = alpha^2 / sigma^2: w = min(snr, gamma) /
            snr for epsilon, / (snr + 1) for v, and min(snr, gamma) itself for sample. At zero
            terminal SNR it is the limit, 1 for epsilon.
        reduction: "mean", "sample" for the sum over each sample's elements, or another one of
            :func:`pyebm.denoising_loss`.

    Raises:
        ValueError: an unknown prediction type, a gamma that is not > 0, shapes that don't fit.
    """
    check_samples("loss", "model_pred", model_pred)
    if not isinstance(noised, Noised):
        raise TypeError(f"loss: noised must be what add_noise returned, got {type(noised).__name__}")
    if model_pred.device != noised.x0.device:
        raise ValueError(
            f"loss: model_pred must be on the latents' device {noised.x0.device}, got {model_pred.device}"
        )
    model_pred = output_like("loss", "model_pred", model_pred, noised.x0)
    kind = noised.prediction_type if prediction_type is None else prediction_type
    check_choice("loss", "prediction_type", kind, _WEIGHTS)
    assert kind is not None
    root = (noised.alpha**2 + noised.sigma**2).sqrt()
    alpha, sigma = noised.alpha / root, noised.sigma / root
    weight = None
    if snr_gamma is not None:
        snr_gamma = checked_number("loss", "snr_gamma", snr_gamma, 0.0, open_low=True)
        weight = _WEIGHTS[kind]((alpha / sigma) ** 2, snr_gamma)
    if kind == "sample":  # the residual has no noise, so x0 takes its place
        return denoising_loss(model_pred, noised.x0, weight=weight, reduction=reduction)
    if kind == "epsilon":
        return denoising_loss(model_pred, noised.noise, weight=weight, reduction=reduction)
    return denoising_loss(
        model_pred, noised.noise, lam=-alpha, mu=sigma, x0=noised.x0, weight=weight, reduction=reduction
    )


# The weights are min(snr, gamma) / snr, min(snr, gamma) / (snr + 1) and min(snr, gamma), in forms
# that give 0/0 neither at snr = 0 nor at snr = infinity.
_WEIGHTS = {
    "epsilon": lambda snr, gamma: gamma / snr.clamp(min=gamma),
    "v_prediction": lambda snr, gamma: snr.clamp(max=gamma) / (snr + 1),
    "sample": lambda snr, gamma: snr.clamp(max=gamma),
}


def _further_normals(noise: Normals, latents: Tensor) -> Callable[[Sequence[int], int], Tensor]:
    """A function that makes more normals for the same samples: from the Noise's further streams, in
    float32 at least, or from torch's generator. There the training scripts draw the offsets in
    torch's default dtype, and the perturbation in the noise's."""
    device = latents.device
    if isinstance(noise, Noise):
        dtype = torch.promote_types(latents.dtype, torch.float32)
        return lambda shape, stream: noise.at(stream=noise.stream + stream).randn(
            tuple(shape), dtype=dtype, device=device
        )
    dtypes = {1: torch.get_default_dtype(), 2: noise.dtype}
    return lambda shape, stream: torch.randn(*shape, dtype=dtypes[stream], device=device)
