"""k-diffusion's other denoisers, with losses of two passes: :class:`Denoiser` has its own file."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from .._checks import check_samples, check_tensor
from .._options import shown
from ..losses import denoising_loss
from ..noise import Noise
from ._draws import Normals, add_noise
from ._fits import checked_scale, fitted, output_like, widened
from ._k_package import external, layers
from ._saved import Saved


class _Stateless(Saved):
    """A denoiser's loss is given its noise, so there are no draws to save."""

    _draws = None


class DenoiserWithVariance(_Stateless, layers.DenoiserWithVariance):
    """k-diffusion's denoiser whose network predicts a log variance too:
    ``mean_i ((F - target)^2 / exp(logvar) + logvar) / 2``.

    Its ``loss(input, noise, sigma, **kwargs)`` takes a :class:`pyebm.Noise` or a tensor of normals;
    ``inner_model(..., return_variance=True)`` returns the output and a log variance for each
    sample, or for each element.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.k_diffusion import DenoiserWithVariance
        >>> network = lambda x, sigma, return_variance: (x, torch.zeros(len(x)))
        >>> loss = DenoiserWithVariance(network, sigma_data=0.5).loss
        >>> loss(torch.randn(4, 3, 8, 8), pyebm.Noise(0), torch.rand(4) + 0.1).shape
        torch.Size([4])
    """

    _original = "k_diffusion.layers.DenoiserWithVariance"

    def loss(self, input: Tensor, noise: Normals, sigma: Tensor, **kwargs: Any) -> Tensor:
        """The loss of each sample, (B,)."""
        call = "DenoiserWithVariance.loss"
        input, noise, s = _checked(call, input, noise, sigma)
        c_skip, c_out, c_in = self.get_scalings(s)
        noised = add_noise(input, s * c_in, noise, alpha=c_in)
        output, logvar = self.inner_model(noised, sigma, return_variance=True, **kwargs)
        output = output_like(call, "inner_model's output", output, input)
        by_sample = logvar.numel() == len(input)
        error = denoising_loss(
            output,
            noise,
            lam=c_skip * s / c_out,
            mu=(c_skip - 1) / c_out,
            x0=input,
            reduction="sample" if by_sample else "none",
        )
        if by_sample:
            error, logvar = error[:, None] / _elements(input), logvar.reshape(-1, 1)
        else:
            logvar = logvar.reshape(*logvar.shape, *[1] * (output.dim() - logvar.dim()))
        losses: Tensor = ((error / logvar.exp() + logvar) / 2).flatten(1).mean(1)
        return losses


class SimpleLossDenoiser(_Stateless, layers.SimpleLossDenoiser):
    """k-diffusion's denoiser with the loss L_simple, the mean of ``(eps - z)^2`` with
    ``eps = (x - D(x)) / sigma``.

    The loss is computed as ``((x0 - D) / sigma)^2``, which is the same and cancels nothing. It
    takes a :class:`pyebm.Noise` or a tensor of normals.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.k_diffusion import SimpleLossDenoiser
        >>> loss = SimpleLossDenoiser(lambda x, sigma: x, sigma_data=0.5).loss
        >>> loss(torch.randn(4, 3, 8, 8), pyebm.Noise(0), torch.rand(4) + 0.1).shape
        torch.Size([4])
    """

    _original = "k_diffusion.layers.SimpleLossDenoiser"

    def loss(self, input: Tensor, noise: Normals, sigma: Tensor, **kwargs: Any) -> Tensor:
        """The loss of each sample, (B,)."""
        call = "SimpleLossDenoiser.loss"
        input, noise, s = _checked(call, input, noise, sigma)
        c_skip, c_out, c_in = self.get_scalings(s)
        output = self.inner_model(add_noise(input, s * c_in, noise, alpha=c_in), sigma, **kwargs)
        return denoising_loss(
            output_like(call, "inner_model's output", output, input),
            noise,
            kappa=-c_out / s,
            lam=-c_skip,
            mu=(1 - c_skip) / s,
            x0=input,
            weight=1 / _elements(input),
            reduction="sample",
        )


class VDenoiser(_Stateless, external.VDenoiser):
    """k-diffusion's wrapper of a v-diffusion network, whose ``loss`` takes a :class:`pyebm.Noise`
    or a tensor of normals.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.k_diffusion import VDenoiser
        >>> loss = VDenoiser(lambda x, t: x).loss
        >>> loss(torch.randn(4, 3, 8, 8), pyebm.Noise(0), torch.rand(4) + 0.1).shape
        torch.Size([4])
    """

    _original = "k_diffusion.external.VDenoiser"

    def loss(self, input: Tensor, noise: Normals, sigma: Tensor, **kwargs: Any) -> Tensor:
        """The loss of each sample, (B,)."""
        return _v_loss(self, self.inner_model, input, noise, sigma, kwargs)


class _Epsilon:
    """The loss of a network that predicts the noise: the mean of ``(eps - z)^2``."""

    def loss(self: Any, input: Tensor, noise: Normals, sigma: Tensor, **kwargs: Any) -> Tensor:
        """The loss of each sample, (B,)."""
        call = f"{type(self).__name__}.loss"
        input, noise, s = _checked(call, input, noise, sigma)
        _, c_in = self.get_scalings(s)
        eps = self.get_eps(add_noise(input, s * c_in, noise, alpha=c_in), self.sigma_to_t(sigma), **kwargs)
        eps = output_like(call, "the network's output", eps, input)
        return denoising_loss(eps, noise, weight=1 / _elements(input), reduction="sample")


class _Velocity:
    """The loss of a network that predicts v."""

    def loss(self: Any, input: Tensor, noise: Normals, sigma: Tensor, **kwargs: Any) -> Tensor:
        """The loss of each sample, (B,)."""
        return _v_loss(self, self.get_v, input, noise, sigma, kwargs)


class DiscreteEpsDDPMDenoiser(_Epsilon, _Stateless, external.DiscreteEpsDDPMDenoiser):
    """k-diffusion's wrapper of a DDPM network that predicts the noise, whose ``loss`` takes a
    :class:`pyebm.Noise` or a tensor of normals.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.k_diffusion import DiscreteEpsDDPMDenoiser
        >>> abar = torch.linspace(0.999, 0.01, 10)
        >>> loss = DiscreteEpsDDPMDenoiser(lambda x, t: x, abar, quantize=True).loss
        >>> loss(torch.randn(4, 3, 8, 8), pyebm.Noise(0), torch.rand(4) + 0.1).shape
        torch.Size([4])
    """

    _original = "k_diffusion.external.DiscreteEpsDDPMDenoiser"


class OpenAIDenoiser(_Epsilon, _Stateless, external.OpenAIDenoiser):
    """k-diffusion's wrapper of an OpenAI diffusion network, with the loss of
    :class:`DiscreteEpsDDPMDenoiser`."""

    _original = "k_diffusion.external.OpenAIDenoiser"


class CompVisDenoiser(_Epsilon, _Stateless, external.CompVisDenoiser):
    """k-diffusion's wrapper of a CompVis network, with the loss of
    :class:`DiscreteEpsDDPMDenoiser`."""

    _original = "k_diffusion.external.CompVisDenoiser"


class DiscreteVDDPMDenoiser(_Velocity, _Stateless, external.DiscreteVDDPMDenoiser):
    """k-diffusion's wrapper of a DDPM network that predicts v, whose ``loss`` takes a
    :class:`pyebm.Noise` or a tensor of normals.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.k_diffusion import DiscreteVDDPMDenoiser
        >>> abar = torch.linspace(0.999, 0.01, 10)
        >>> loss = DiscreteVDDPMDenoiser(lambda x, t: x, abar, quantize=True).loss
        >>> loss(torch.randn(4, 3, 8, 8), pyebm.Noise(0), torch.rand(4) + 0.1).shape
        torch.Size([4])
    """

    _original = "k_diffusion.external.DiscreteVDDPMDenoiser"


class CompVisVDenoiser(_Velocity, _Stateless, external.CompVisVDenoiser):
    """k-diffusion's wrapper of a CompVis network that predicts v, with the loss of
    :class:`DiscreteVDDPMDenoiser`."""

    _original = "k_diffusion.external.CompVisVDenoiser"


def _v_loss(
    denoiser: Any, network: Any, input: Tensor, noise: Normals, sigma: Tensor, kwargs: dict[str, Any]
) -> Tensor:
    call = f"{type(denoiser).__name__}.loss"
    input, noise, s = _checked(call, input, noise, sigma)
    c_skip, c_out, c_in = denoiser.get_scalings(s)
    output = network(add_noise(input, s * c_in, noise, alpha=c_in), denoiser.sigma_to_t(sigma), **kwargs)
    return denoising_loss(
        output_like(call, "the network's output", output, input),
        noise,
        lam=c_skip * s / c_out,
        mu=(c_skip - 1) / c_out,
        x0=input,
        weight=1 / _elements(input),
        reduction="sample",
    )


def _elements(input: Tensor) -> int:
    return max(math.prod(input.shape[1:]), 1)


def _checked(call: str, input: Tensor, noise: Normals, sigma: Tensor) -> tuple[Tensor, Normals, Tensor]:
    """The three arguments, checked to fit together: input as wide as sigma, sigma in float64."""
    batch = check_samples(call, "input", input)
    check_tensor(call, "sigma", sigma)
    if sigma.dim() > 1 or sigma.numel() not in (1, batch) or sigma.device != input.device:
        raise ValueError(
            f"{call}: sigma must be ({batch},), one for each sample of input and on its device, or one"
            f" for all, got {shown(sigma)}"
        )
    checked_scale(call, "sigma", sigma, open_low=True)
    if not isinstance(noise, (Noise, Tensor)):
        raise TypeError(f"{call}: noise must be a Noise or a tensor, got {type(noise).__name__}")
    wide = widened(input, sigma)
    return wide, fitted(call, noise, wide) if isinstance(noise, Tensor) else noise, sigma.double()
