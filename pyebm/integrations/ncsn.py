"""For repositories built like ncsn (Song & Ermon 2019): its losses, by their names and argument
orders. The samplers are ncsnv2's.

``from pyebm.integrations.ncsn import anneal_dsm_score_estimation, sliced_score_estimation_vr`` in
place of their own. Written from the published formulas. ``noise`` is everywhere a
:class:`pyebm.Noise`, used as it is (give each training step its own, ``noise.at(step=k)``); a
function like ``torch.randn_like``, or None, where torch.manual_seed governs it.

The sliced losses evaluate the network once, where ncsn does so once for each particle, on copies of
the samples. They sum over all of a sample's elements, where ncsn sums over the last dimension only,
which is the same for samples (B, D).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._checks import check_samples, checked_number
from .._modes import in_mode
from .._options import check_callable, checked_count
from ..losses import denoising_loss, dsm_loss
from ..losses._projections import projections
from ..noise import Noise
from . import ncsnv2
from ._draws import Draws, Source, add_noise, output_like
from ._ncsn import check_labels

Triple = tuple[Tensor, Tensor, Tensor]


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


def sliced_score_matching(
    energy_net: Callable[[Tensor], Tensor], samples: Tensor, n_particles: int = 1, *, noise: Source = None
) -> Triple:
    """Sliced score matching of an energy along unit vectors v (Song et al. 2019, eq. 7):
    ``(loss, mean (v's)^2 / 2, mean v'(ds/dx)v)``.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.ncsn import sliced_score_matching
        >>> energy = lambda x: 0.5 * x.square().sum(1)
        >>> len(sliced_score_matching(energy, torch.randn(8, 4), 3, noise=pyebm.Noise(0)))
        3
    """
    call = "sliced_score_matching"
    return _sliced(call, "energy_net", energy_net, samples, n_particles, noise, vr=False)


def sliced_score_matching_vr(
    energy_net: Callable[[Tensor], Tensor], samples: Tensor, n_particles: int = 1, *, noise: Source = None
) -> Triple:
    """The same along normals, with the first term integrated in closed form (eq. 8):
    ``(loss, mean |s|^2 / 2, mean v'(ds/dx)v)``."""
    call = "sliced_score_matching_vr"
    return _sliced(call, "energy_net", energy_net, samples, n_particles, noise, vr=True)


def sliced_score_estimation(
    score_net: Callable[[Tensor], Tensor], samples: Tensor, n_particles: int = 1, *, noise: Source = None
) -> Triple:
    """:func:`sliced_score_matching` of a network that gives the score."""
    call = "sliced_score_estimation"
    return _sliced(call, "score_net", score_net, samples, n_particles, noise, vr=False)


def sliced_score_estimation_vr(
    score_net: Callable[[Tensor], Tensor], samples: Tensor, n_particles: int = 1, *, noise: Source = None
) -> Triple:
    """:func:`sliced_score_matching_vr` of a network that gives the score."""
    call = "sliced_score_estimation_vr"
    return _sliced(call, "score_net", score_net, samples, n_particles, noise, vr=True)


def anneal_sliced_score_estimation_vr(
    scorenet: ncsnv2.ScoreNet,
    samples: Tensor,
    labels: Tensor,
    sigmas: Tensor,
    n_particles: int = 1,
    *,
    noise: Source = None,
) -> Tensor:
    """Sliced score matching at noise levels, ``mean_b sigma_b^2 (|s|^2 / 2 + v'(ds/dx)v)``. The
    Noise perturbs the samples, and names the projections beside that."""
    call = "anneal_sliced_score_estimation_vr"
    check_callable(call, "scorenet", scorenet)
    check_samples(call, "samples", samples)
    check_labels(call, labels, len(samples), len(sigmas))
    sigma = sigmas[labels]
    draws = Draws(noise)
    drawn = draws(samples)
    noisy = add_noise(samples, sigma, drawn)
    norm, trace = _terms(
        call, lambda x: scorenet(x, labels), noisy, n_particles, draws, drawn, vr=True, energy=False
    )
    return ((norm + trace) * sigma**2).mean()


def _sliced(
    call: str, name: str, net: Any, samples: Tensor, n_particles: int, noise: Source, vr: bool
) -> Triple:
    check_callable(call, name, net)
    check_samples(call, "samples", samples)
    draws = Draws(noise)
    drawn = draws(samples) if draws.is_ours else None
    norm, trace = _terms(call, net, samples, n_particles, draws, drawn, vr=vr, energy=name == "energy_net")
    return (norm + trace).mean(), norm.mean(), trace.mean()


def _terms(
    call: str,
    net: Any,
    x: Tensor,
    n_particles: int,
    draws: Draws,
    drawn: Any,
    *,
    vr: bool,
    energy: bool,
) -> tuple[Tensor, Tensor]:
    """Each sample's ``|s|^2 / 2`` or ``(v's)^2 / 2``, and its ``v'(ds/dx)v``."""
    count, elements = checked_count(call, "n_particles", n_particles, 1), math.prod(x.shape[1:])
    if isinstance(drawn, Noise):
        along = projections("gaussian" if vr else "sphere", drawn, x, count)
        along = along if vr else along / math.sqrt(elements)  # unit vectors
    else:
        along = draws(x.expand(count, *x.shape).reshape(-1, *x.shape[1:])).reshape(count, *x.shape)
        if not vr:
            length = along.flatten(2).norm(dim=2)
            along = along / length.reshape(*length.shape, *[1] * (x.dim() - 1))

    def followed() -> tuple[Tensor, Tensor]:
        at = x if x.requires_grad else x.detach().requires_grad_()
        s = net(at)
        if energy:
            (s,) = torch.autograd.grad(-s.sum(), at, create_graph=True)
        norms, traces = [], []
        for v in along:
            v = v.to(s.dtype)
            (product,) = torch.autograd.grad((s * v).sum(), at, create_graph=True)
            traces.append(_sums(product * v))
            if not vr:
                norms.append(_sums(s * v).square() / 2)
        first = _sums(s.square()) / 2 if vr else torch.stack(norms).mean(0)
        return first, torch.stack(traces).mean(0)

    return in_mode(followed, grad=True)


def _sums(x: Tensor) -> Tensor:
    """Each sample's sum, (B,)."""
    return x.flatten(1).sum(1) if x.dim() > 1 else x
