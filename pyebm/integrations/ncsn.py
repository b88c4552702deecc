"""For repositories built like ncsn (Song & Ermon 2019): its losses, by their names and argument
orders. The samplers are ncsnv2's.

``from pyebm.integrations.ncsn import anneal_dsm_score_estimation, sliced_score_estimation_vr`` in
place of their own. Written from the published formulas. ``noise`` is everywhere a
:class:`pyebm.Noise`, used as it is (give each training step its own, ``noise.at(step=k)``); a
function like ``torch.randn_like``, or None, where torch.manual_seed governs it.

The sliced losses (in ``_ncsn_sliced.py``) evaluate the network once, where ncsn does so once for
each particle, on copies of the samples. They sum over all of a sample's elements, where ncsn sums
over the last dimension only, which is the same for samples (B, D).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .._checks import check_samples, checked_number
from .._modes import in_mode
from .._options import check_callable
from ..losses import denoising_loss, dsm_loss
from ..noise import Noise
from . import ncsnv2
from ._draws import Draws, Source, add_noise
from ._fits import fitted, output_like
from ._ncsn import check_labels, check_levels
from ._ncsn_sliced import (
    anneal_sliced_score_estimation_vr,
    partial_sliced_score_matching,
    single_sliced_score_matching,
    sliced_score_estimation,
    sliced_score_estimation_vr,
    sliced_score_matching,
    sliced_score_matching_vr,
)

__all__ = [
    "anneal_dsm_score_estimation",
    "anneal_dsm_score_estimation_freq",
    "anneal_sliced_score_estimation_vr",
    "dsm",
    "dsm_score_estimation",
    "partial_sliced_score_matching",
    "single_sliced_score_matching",
    "sliced_score_estimation",
    "sliced_score_estimation_vr",
    "sliced_score_matching",
    "sliced_score_matching_vr",
]


def anneal_dsm_score_estimation(
    scorenet: ncsnv2.ScoreNet,
    samples: Tensor,
    labels: Tensor,
    sigmas: Tensor,
    anneal_power: float = 2.0,
    *,
    noise: Source | Tensor = None,
) -> Tensor:
    """:func:`pyebm.integrations.ncsnv2.anneal_dsm_score_estimation` in ncsn's order of arguments.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.ncsn import anneal_dsm_score_estimation
        >>> x, labels, sigmas = torch.randn(8, 4), torch.zeros(8).long(), torch.tensor([1.0, 0.1])
        >>> net = lambda x, labels: -x
        >>> anneal_dsm_score_estimation(net, x, labels, sigmas, noise=pyebm.Noise(0)).shape
        torch.Size([])
    """
    return ncsnv2.anneal_dsm_score_estimation(scorenet, samples, sigmas, labels, anneal_power, noise=noise)


def anneal_dsm_score_estimation_freq(
    scorenet: ncsnv2.ScoreNet,
    samples: Tensor,
    labels: Tensor,
    sigmas: Tensor,
    anneal_power: float = 2.0,
    *,
    noise: Source = None,
) -> Tensor:
    """The same on the samples' spectra: ``scorenet`` is given the real parts of the noised
    ``fft2`` and then the imaginary ones, (B, 2 C, H, W), each of which has half of sigma's
    variance, and the loss is ``mean_b sigma^p / 2 sum_i (s + z / (sqrt(2) sigma))^2``.

    The spectra are those of ncsn: orthonormal, and shifted by ``fftshift`` over all dimensions, the
    samples and the channels among them, so that label b goes with the sample half a batch before.

    Args:
        samples: (B, C, H, W).
        scorenet, labels, sigmas, anneal_power: as in ncsn.
        noise: as in the module's docstring; a function is given the spectra, complex.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.ncsn import anneal_dsm_score_estimation_freq
        >>> x, labels, sigmas = torch.randn(8, 1, 4, 4), torch.zeros(8).long(), torch.tensor([1.0])
        >>> net = lambda x, labels: -x
        >>> anneal_dsm_score_estimation_freq(net, x, labels, sigmas, noise=pyebm.Noise(0)).shape
        torch.Size([])
    """
    call = "anneal_dsm_score_estimation_freq"
    check_callable(call, "scorenet", scorenet)
    batch = check_samples(call, "samples", samples)
    if samples.dim() != 4:
        raise ValueError(f"{call}: samples must be (B, C, H, W), got {tuple(samples.shape)}")
    check_levels(call, sigmas, samples)
    check_labels(call, labels, batch, len(sigmas))
    anneal_power = checked_number(call, "anneal_power", anneal_power)
    sigma = sigmas[labels]
    wide = samples.to(torch.promote_types(samples.dtype, torch.float32))
    spectra = torch.fft.fftshift(torch.fft.fft2(wide, norm="ortho"))
    parts = torch.cat((spectra.real, spectra.imag), dim=1)
    drawn = Draws(noise)(parts if isinstance(noise, Noise) or noise is None else spectra)
    if isinstance(drawn, Tensor):  # complex normals have variance 1 in both parts together
        drawn = fitted(call, math.sqrt(2) * torch.cat((drawn.real, drawn.imag), dim=1), parts)
    noised = add_noise(parts, sigma / math.sqrt(2), drawn)
    scores = output_like(call, "scorenet's output", scorenet(noised, labels), parts)
    weight = sigma.double() ** (anneal_power - 2)
    return denoising_loss(
        scores, drawn, kappa=sigma, lam=math.sqrt(0.5), weight=weight, half=True, reduction="batchmean"
    )


def dsm(
    energy_net: Callable[[Tensor], Tensor], samples: Tensor, sigma: float = 1.0, *, noise: Source = None
) -> Tensor:
    """Denoising score matching of an energy, ``1/2 mean_b sum_i (sigma^2 s + sigma z)^2`` with
    ``s = -grad E(x + sigma z)``. For images it is the sum over the last dimension and the mean over
    the others, as in ncsn.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.ncsn import dsm
        >>> dsm(lambda x: x.square().sum(1), torch.randn(8, 4), 0.5, noise=pyebm.Noise(0)).shape
        torch.Size([])
    """
    check_callable("dsm", "energy_net", energy_net)
    check_samples("dsm", "samples", samples)
    sigma = checked_number("dsm", "sigma", sigma, 0.0)
    drawn = Draws(noise)(samples)
    noisy = add_noise(samples, sigma, drawn)

    def gradient() -> Tensor:
        at = noisy if noisy.requires_grad else noisy.detach().requires_grad_()
        return torch.autograd.grad(energy_net(at).sum(), at, create_graph=True)[0]

    slope = in_mode(gradient, grad=True)
    width = samples.shape[-1] if samples.dim() > 1 else 1
    # The mean over elements, times the elements of the last dimension.
    mean = denoising_loss(slope, drawn, kappa=-(sigma**2), lam=sigma, half=True, reduction="mean")
    return mean * width


def dsm_score_estimation(
    scorenet: Callable[[Tensor], Tensor], samples: Tensor, sigma: float = 0.01, *, noise: Source = None
) -> Tensor:
    """Denoising score matching of a score at one noise level:
    ``mean_b 1/2 sum_i (s(x + sigma z) + z / sigma)^2``.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.ncsn import dsm_score_estimation
        >>> dsm_score_estimation(lambda x: -x, torch.randn(8, 4), 0.5, noise=pyebm.Noise(0)).shape
        torch.Size([])
    """
    call = "dsm_score_estimation"
    check_callable(call, "scorenet", scorenet)
    check_samples(call, "samples", samples)
    sigma = checked_number(call, "sigma", sigma, 0.0, open_low=True)
    drawn = Draws(noise)(samples)
    scores = output_like(call, "scorenet's output", scorenet(add_noise(samples, sigma, drawn)), samples)
    return dsm_loss(scores, sigma, drawn)
