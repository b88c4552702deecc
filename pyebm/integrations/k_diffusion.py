"""For k-diffusion: a Denoiser whose loss is fused, and the noise of its ancestral samplers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .._checks import check_samples, check_tensor
from .._options import shown
from ..losses import denoising_loss
from ..noise import Noise
from ._draws import Draws, Normals, Source, add_noise, step
from ._fits import checked_scale, fitted, output_like, widened
from ._k_denoisers import (
    CompVisDenoiser,
    CompVisVDenoiser,
    DenoiserWithVariance,
    DiscreteEpsDDPMDenoiser,
    DiscreteVDDPMDenoiser,
    OpenAIDenoiser,
    SimpleLossDenoiser,
    VDenoiser,
)
from ._k_package import config as theirs
from ._k_package import layers
from ._k_samplers import sample_dpm_2, sample_euler, sample_heun
from ._saved import Saved
from .brownian import BrownianTreeNoiseSampler

__all__ = [
    "BrownianTreeNoiseSampler",
    "CompVisDenoiser",
    "CompVisVDenoiser",
    "Denoiser",
    "DenoiserWithVariance",
    "DiscreteEpsDDPMDenoiser",
    "DiscreteVDDPMDenoiser",
    "OpenAIDenoiser",
    "SimpleLossDenoiser",
    "VDenoiser",
    "noise_sampler",
    "sample_dpm_2",
    "sample_euler",
    "sample_heun",
]


class Denoiser(Saved, layers.Denoiser):
    """k-diffusion's Denoiser (Karras et al. 2022) with a ``loss`` of two passes, which stores
    neither the unscaled noisy input nor the target.

    ``loss(input, noise, sigma, **kwargs)`` gives the loss of k-diffusion, (B,). Its noise may be a
    :class:`pyebm.Noise` or a tensor of normals. Its target is
    ``(x0 - c_skip (x0 + sigma z)) / c_out``. With ``scales`` other than 1, which weight the error
    by frequency, the error is made in one pass and k-diffusion's own functions weigh it.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.k_diffusion import Denoiser
        >>> model = Denoiser(lambda x, sigma: x, sigma_data=0.5)
        >>> model.loss(torch.randn(4, 3, 8, 8), pyebm.Noise(0), torch.rand(4) + 0.1).shape
        torch.Size([4])
    """

    _original = "k_diffusion.layers.Denoiser"
    _draws = None

    def loss(self, input: Tensor, noise: Normals, sigma: Tensor, **kwargs: Any) -> Tensor:
        """The loss of each sample, (B,)."""
        call = "Denoiser.loss"
        batch = check_samples(call, "input", input)
        check_tensor(call, "sigma", sigma)
        count = sigma.numel()
        if sigma.dim() > 1 or not (count == 1 or count == batch) or sigma.device != input.device:
            raise ValueError(
                f"{call}: sigma must be ({batch},), one for each sample of input and on its device, or one"
                f" for all, got {shown(sigma)}"
            )
        checked_scale(call, "sigma", sigma, open_low=True)
        if not isinstance(noise, (Noise, Tensor)):
            raise TypeError(f"{call}: noise must be a Noise or a tensor, got {type(noise).__name__}")
        s, wide = sigma.double(), widened(input, sigma)
        noise = fitted(call, noise, wide) if isinstance(noise, Tensor) else noise
        c_skip, c_out, c_in = self.get_scalings(s)
        output = self.inner_model(add_noise(wide, s * c_in, noise, alpha=c_in), sigma, **kwargs)
        output = output_like(call, "inner_model's output", output, wide)
        lam, mu = c_skip * s / c_out, (c_skip - 1) / c_out
        if self.scales == 1:
            weight = self._weights(sigma) / max(input[0].numel(), 1)
            return denoising_loss(output, noise, lam=lam, mu=mu, x0=wide, weight=weight, reduction="sample")
        error = output + step(wide, wide, mu, 0.0, lam, noise)
        squares: Tensor = layers.dct(error) ** 2
        shape, options = squares.shape[2:], {"dtype": squares.dtype, "device": squares.device}
        by_frequency = layers.freq_weight_nd(shape, self.scales, **options)
        weights = torch.as_tensor(self._weights(sigma), device=squares.device).to(squares)
        losses: Tensor = (squares * by_frequency).flatten(1).mean(1) * weights
        return losses

    def _weights(self, sigma: Tensor) -> Any:
        """The weighting in float64; a function of the caller's is given sigma as it came."""
        known = self.weighting in (self._weighting_soft_min_snr, self._weighting_snr)
        weights = self.weighting(sigma.double() if known else sigma)
        return weights.double() if isinstance(weights, Tensor) else weights


# The classes that make_denoiser_wrapper puts ours in place of.
_OURS = {layers.Denoiser: Denoiser}


def make_denoiser_wrapper(config: dict[str, Any]) -> Callable[[Any], Any]:
    """k-diffusion's ``K.config.make_denoiser_wrapper``, through which its train.py makes its
    Denoiser: ours, with the configuration's options. Those configurations whose class has none of
    ours (with a variance, or of the simple loss) stay k-diffusion's.

    Example:
        >>> from pyebm.integrations.k_diffusion import make_denoiser_wrapper
        >>> type(make_denoiser_wrapper({"model": {"sigma_data": 0.5}})(None)).__module__
        'pyebm.integrations.k_diffusion'
    """
    wrapper: Callable[[Any], Any] = theirs.make_denoiser_wrapper(config)
    if not isinstance(wrapper, partial) or wrapper.func not in _OURS:
        return wrapper
    return partial(_OURS[wrapper.func], *wrapper.args, **wrapper.keywords)


def noise_sampler(x: Tensor, noise: Source = None) -> Callable[[Tensor, Tensor], Tensor]:
    """A ``noise_sampler`` for the ancestral samplers: its k-th call returns normals like x, drawn
    from ``noise`` at its step + k.

    ``sample_euler_ancestral(model, x, sigmas, noise_sampler=noise_sampler(x, pyebm.Noise(0)))``; a
    sample's noise then depends neither on its batch nor on the device. With
    ``pyebm.Noise(seeds, sample_ids=torch.zeros_like(seeds))`` it is a function of the sample's own
    seed. The samplers named SDE need a Brownian path instead; leave them k-diffusion's own.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.k_diffusion import noise_sampler
        >>> x = torch.zeros(4, 3)
        >>> sampler = noise_sampler(x, pyebm.Noise(0))
        >>> torch.equal(sampler(1.0, 0.5), pyebm.Noise(0).randn((4, 3)))
        True
    """
    check_samples("noise_sampler", "x", x)
    draws = Draws(noise)

    def normals(_sigma: Tensor, _sigma_next: Tensor) -> Tensor:
        drawn = draws(x)
        return drawn.randn(x.shape, dtype=x.dtype, device=x.device) if isinstance(drawn, Noise) else drawn

    return normals
