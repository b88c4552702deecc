"""ncsn's sliced score matching."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._checks import check_samples
from .._modes import in_mode
from .._options import check_callable, check_choice, checked_count, checked_flag
from ..losses._projections import projections
from ..noise import Noise
from ._draws import Draws, Source, add_noise
from ._fits import fitted
from ._ncsn import check_labels, check_levels

Triple = tuple[Tensor, Tensor, Tensor]
Net = Callable[[Tensor], Tensor]


def single_sliced_score_matching(
    energy_net: Net,
    samples: Tensor,
    noise: Source | Tensor = None,
    detach: bool = False,
    noise_type: str = "radermacher",
) -> Triple:
    """Sliced score matching of an energy along one direction v a sample,
    ``mean_b ((v's)^2 / 2 + v'(ds/dx)v)`` with ``s = -grad E``.

    Args:
        noise: as in the module's docstring, of the directions; or they themselves, like samples.
        detach: leave the loss without a gradient, as in ncsn.
        noise_type: "radermacher", "sphere" or "gaussian", as in ncsn.

    Returns:
        The loss, s, and ``(ds/dx)v``.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.ncsn import single_sliced_score_matching
        >>> energy, x = lambda x: 0.5 * x.square().sum(1), torch.randn(8, 4)
        >>> loss, s, product = single_sliced_score_matching(energy, x, pyebm.Noise(0))
        >>> torch.equal(s, -x)
        True
    """
    kinds = ("radermacher", "sphere", "gaussian")
    call = "single_sliced_score_matching"
    return _single(call, energy_net, samples, noise, detach, noise_type, kinds)


def partial_sliced_score_matching(
    energy_net: Net,
    samples: Tensor,
    noise: Source | Tensor = None,
    detach: bool = False,
    noise_type: str = "radermacher",
) -> Triple:
    """:func:`single_sliced_score_matching` with the first term integrated, ``|s|^2 / 2``;
    noise_type is "radermacher" or "gaussian"."""
    kinds = ("radermacher", "gaussian")
    call = "partial_sliced_score_matching"
    return _single(call, energy_net, samples, noise, detach, noise_type, kinds)


def sliced_score_matching(
    energy_net: Net, samples: Tensor, n_particles: int = 1, *, noise: Source = None
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
    energy_net: Net, samples: Tensor, n_particles: int = 1, *, noise: Source = None
) -> Triple:
    """The same along normals, with the first term integrated in closed form (eq. 8):
    ``(loss, mean |s|^2 / 2, mean v'(ds/dx)v)``."""
    call = "sliced_score_matching_vr"
    return _sliced(call, "energy_net", energy_net, samples, n_particles, noise, vr=True)


def sliced_score_estimation(
    score_net: Net, samples: Tensor, n_particles: int = 1, *, noise: Source = None
) -> Triple:
    """:func:`sliced_score_matching` of a network that gives the score."""
    call = "sliced_score_estimation"
    return _sliced(call, "score_net", score_net, samples, n_particles, noise, vr=False)


def sliced_score_estimation_vr(
    score_net: Net, samples: Tensor, n_particles: int = 1, *, noise: Source = None
) -> Triple:
    """:func:`sliced_score_matching_vr` of a network that gives the score."""
    call = "sliced_score_estimation_vr"
    return _sliced(call, "score_net", score_net, samples, n_particles, noise, vr=True)


def anneal_sliced_score_estimation_vr(
    scorenet: Callable[[Tensor, Tensor], Tensor],
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
    check_levels(call, sigmas, samples)
    check_labels(call, labels, len(samples), len(sigmas))
    sigma = sigmas[labels]
    draws = Draws(noise)
    drawn = draws(samples)
    noisy = add_noise(samples, sigma, drawn)
    norm, trace = _terms(
        call, lambda x: scorenet(x, labels), noisy, n_particles, draws, drawn, vr=True, energy=False
    )
    return ((norm + trace) * sigma**2).mean()


def _single(
    call: str, net: Any, x: Tensor, noise: Any, detach: bool, noise_type: str, kinds: tuple[str, ...]
) -> Triple:
    check_callable(call, "energy_net", net)
    check_samples(call, "samples", x)
    detach = checked_flag(call, "detach", detach)
    check_choice(call, "noise_type", noise_type, kinds)
    drawn = noise if isinstance(noise, Tensor) else Draws(noise)(x)
    if isinstance(drawn, Noise):
        kind = "rademacher" if noise_type == "radermacher" else noise_type
        (v,) = projections(kind, drawn, x, 1)
    else:
        v = fitted(call, drawn, x)
        if not isinstance(noise, Tensor) and noise_type != "gaussian":
            length = v.flatten(1).norm(dim=1).reshape(-1, *[1] * (x.dim() - 1))
            v = v.sign() if noise_type == "radermacher" else v / length * math.sqrt(math.prod(x.shape[1:]))

    def followed() -> tuple[Tensor, Tensor]:
        at = x if x.requires_grad else x.detach().requires_grad_()
        (s,) = torch.autograd.grad(-net(at).sum(), at, create_graph=True)
        return s, torch.autograd.grad((s * v.to(s.dtype)).sum(), at, create_graph=True)[0]

    s, product = in_mode(followed, grad=True)
    partial = len(kinds) == 2
    first = _sums(s.square()) / 2 if partial else _sums(s * v.to(s.dtype)).square() / 2
    each = first + _sums(product * v.to(s.dtype))
    return (each.detach() if detach else each).mean(), s, product


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
