"""Denoising score matching of a score or an energy, from clean data, over a ladder or a density of
noise levels."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .._checks import Coefficient, check_samples, checked_list, checked_number, coefficient
from .._composed.coefficients import require
from .._dtensor import by_samples
from .._name import Named
from .._options import check_callable, checked_flag, shown
from .._streams import LEVELS, beside
from ..noise import Noise, named
from ..perturb import perturb
from ..targets import Target
from ..targets._fused import Terms
from ..targets._learned import Learned
from ._reduction import by_kernel, reduction_of
from ._scores import checked_score, score_function
from .denoising import dsm_loss

_OP = "denoising_score_matching"
_WEIGHTS = ("ncsn", "edm", "deen")


@dataclass(frozen=True)
class LogUniform:
    """A density of noise levels: log sigma is uniform between log low and log high. NCSN's
    geometric ladder is its discrete form.

    Raises TypeError and ValueError for bounds that are no numbers, or not 0 < low <= high.

    Example:
        >>> import pyebm
        >>> sigma = pyebm.losses.LogUniform(0.01, 10.0).draw(1000, pyebm.Noise(0))
        >>> sigma.dtype, bool((sigma >= 0.01).all() and (sigma <= 10).all())
        (torch.float64, True)
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        low = checked_number("LogUniform", "low", self.low, 0.0, open_low=True)
        if checked_number("LogUniform", "high", self.high, 0.0, open_low=True) < low:
            raise ValueError(f"LogUniform: high must be at least low, {low:g}, got {self.high:g}")

    def draw(self, batch: int, noise: Noise, device: torch.device | str = "cpu") -> Tensor:
        """One level a sample, float64 (B,)."""
        low, high = math.log(self.low), math.log(self.high)
        return (low + (high - low) * _uniform(batch, noise, device)).exp()


@dataclass(frozen=True)
class LogNormal:
    """A density of noise levels: log sigma is normal, by default as in EDM (Karras et al. 2022).

    Raises TypeError and ValueError for arguments that are no numbers, and for a std < 0.

    Example:
        >>> import pyebm
        >>> sigma = pyebm.losses.LogNormal(-1.2, 1.2).draw(1000, pyebm.Noise(0))
        >>> bool((sigma.log().mean() + 1.2).abs() < 0.2)
        True
    """

    mean: float = -1.2
    std: float = 1.2

    def __post_init__(self) -> None:
        checked_number("LogNormal", "mean", self.mean)
        checked_number("LogNormal", "std", self.std, 0.0)

    def draw(self, batch: int, noise: Noise, device: torch.device | str = "cpu") -> Tensor:
        """One level a sample, float64 (B,)."""
        z = noise.randn((batch, 1), dtype=torch.float64, device=device).squeeze(1)
        return (self.mean + self.std * z).exp()


def _uniform(batch: int, noise: Noise, device: torch.device | str) -> Tensor:
    return noise.rand((batch, 1), dtype=torch.float64, device=device).squeeze(1)


Levels = Coefficient | Sequence[float] | LogUniform | LogNormal


@functools.partial(by_samples, samples="x")
def denoising_score_matching(
    fn: Target | Callable[..., Tensor],
    x: Tensor,
    sigma: Levels,
    noise: Noise,
    *,
    conditional: bool = False,
    sigma_data: float = 0.5,
    weight: Coefficient | str | None = "ncsn",
    reduction: str = "batchmean",
    backend: str | None = None,
) -> Tensor:
    """Denoising score matching of data: :func:`pyebm.perturb`, the score, and :func:`dsm_loss`, in
    one call.

    ``1/2 w_b sum_i (s(x + sigma z) + z / sigma)^2`` (Vincent 2011), whose gradient is that of the
    Fisher divergence to the density of x + sigma z.

    Args:
        fn: the score, a function (B, ...) -> (B, ...) with a graph to its parameters, or one of
            :mod:`pyebm.targets`; for an energy ``functools.partial(pyebm.energy_score, energy,
            create_graph=True)``. A learned target with a condition gets sigma as its condition.
        x: clean data (B, ...), float16, bfloat16, float32 or float64; any strides.
        sigma: > 0 (with weight="ncsn" it may be 0): a number, or a tensor as :func:`dsm_loss` takes
            it; a list of numbers, the ladder from which each sample draws one (NCSN); or a density
            of them, ``LogUniform(low, high)`` or ``LogNormal(mean, std)`` (EDM).
        noise: names z and, on a stream of their own (docs/noise.md), the levels that are drawn.
        conditional: whether a function is called with the levels too, ``fn(x, sigma)``, sigma a
            tensor (B,).
        sigma_data: the data's standard deviation, for weight="edm".
        weight: by name, of sigma: "ncsn" sigma^2 (Song & Ermon 2019); "edm" ``sigma^2 (sigma^2 +
            sigma_data^2) / sigma_data^2``, half of EDM's loss of the denoiser; "deen" sigma^4
            (Saremi et al. 2018), half of the square of the denoiser's error. Or None, a number, or
            a tensor, as :func:`dsm_loss` takes it.
        reduction, backend: as in :func:`dsm_loss`.

    Returns and raises as :func:`dsm_loss`; ValueError too for a score of another shape than x.

    Example:
        >>> import torch, pyebm
        >>> nn = torch.nn
        >>> net = nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 1))
        >>> energy = pyebm.targets.MLPEnergy(net)
        >>> sigmas, noise = [1.0, 0.5, 0.25], pyebm.Noise(0)
        >>> loss = pyebm.denoising_score_matching(energy, torch.randn(64, 2), sigmas, noise)
        >>> loss.backward()
    """
    check_samples(_OP, "x", x)
    name = named(_OP, noise, x)
    conditional = checked_flag(_OP, "conditional", conditional)
    spread = checked_number(_OP, "sigma_data", sigma_data, 0.0, open_low=True)
    levels = _levels(sigma, x, noise)
    if isinstance(weight, str):
        weight = _weight(weight, levels, spread)
    if isinstance(fn, Learned) and backend is None:
        fused = _fused(fn, x, levels, name, weight, reduction)
        if fused is not None:
            return fused
    noisy = perturb(x, levels, noise, backend=backend)
    if isinstance(fn, Learned) and fn.condition and fn.c is None:
        conditioned: Any = fn.score
        score = conditioned(noisy, _by_sample(levels, x))
    elif conditional and not isinstance(fn, Target):
        check_callable(_OP, "fn", fn, "a function of x and sigma")
        score = fn(noisy, _by_sample(levels, x))
    else:
        score = score_function(_OP, "fn", fn)(noisy)
    return dsm_loss(
        checked_score(_OP, "fn", score, x), levels, noise, weight=weight, reduction=reduction, backend=backend
    )


def _fused(
    fn: Learned,
    x: Tensor,
    sigma: Coefficient,
    named_by: Named,
    weight: Coefficient | str | None,
    reduction: str,
) -> Tensor | None:
    """The loss from the kernel, ``1/2 w / sigma^2 |sigma s(x + sigma z) + z|^2``; None if the
    kernel does not take fn or x, or if a level or a weight differs within a sample."""
    batch = x.shape[0]
    rows = [one for one in (sigma, weight) if isinstance(one, Tensor)]
    if x.dtype not in (torch.float32, torch.float64) or any(one.numel() not in (1, batch) for one in rows):
        return None
    positive = weight != "sigma2" if isinstance(weight, str) else True  # "sigma2" divides by no sigma
    kappa, kappas = coefficient(_OP, "sigma", sigma, x, low=0.0, open_low=positive)
    if kappas is not None:
        require(_OP, "sigma", kappas, positive)
    times = weight.double() if isinstance(weight, Tensor) else 1.0 if weight is None else weight
    by = 1.0 if isinstance(times, str) else times / _squared(sigma)
    name, seeds, ids = named_by
    terms = Terms(kappa=kappa, kappa_rows=kappas, name=name, seeds=seeds, ids=ids)
    c = _by_sample(sigma, x) if fn.condition and fn.c is None else None
    return by_kernel(fn, x, reduction_of(_OP, x, by, reduction), terms, c)


def _squared(sigma: Coefficient) -> Coefficient:
    return sigma.double() ** 2 if isinstance(sigma, Tensor) else float(sigma) ** 2


def _levels(sigma: Any, x: Tensor, noise: Noise) -> Coefficient:
    batch = x.shape[0]
    if isinstance(sigma, (LogUniform, LogNormal)):
        return sigma.draw(batch, beside(noise, LEVELS), x.device)
    if not isinstance(sigma, (list, tuple)):
        return sigma  # type: ignore[no-any-return]
    ladder = checked_list(_OP, "sigma", sigma)
    if not ladder or not all(0.0 < level < math.inf for level in ladder):
        raise ValueError(f"{_OP}: sigma must be a ladder of numbers > 0, finite, got {shown(sigma)}")
    rungs = (len(ladder) * _uniform(batch, beside(noise, LEVELS), x.device)).long().clamp(max=len(ladder) - 1)
    return torch.tensor(ladder, dtype=torch.float64, device=x.device)[rungs]


def _weight(name: str, sigma: Coefficient, spread: float) -> Coefficient | str:
    if name not in _WEIGHTS:
        raise ValueError(
            f"{_OP}: weight must be one of {', '.join(map(repr, _WEIGHTS))}, None, a number or a tensor, got"
            f" {shown(name)}"
        )
    if name == "ncsn":
        return "sigma2"
    sigma = sigma.double() if isinstance(sigma, Tensor) else float(sigma)
    return sigma**4 if name == "deen" else sigma**2 * (sigma**2 + spread**2) / spread**2


def _by_sample(sigma: Coefficient, x: Tensor) -> Tensor:
    """The levels in the form that a network gets, (B,) in x's dtype."""
    batch = x.shape[0]
    if not isinstance(sigma, Tensor):
        return x.new_full((batch,), sigma)
    if sigma.numel() not in (1, batch):
        raise ValueError(
            f"{_OP}: sigma must be one level a sample for a score that is given it, got {tuple(sigma.shape)}"
        )
    return sigma.reshape(-1).expand(batch).to(x.dtype)


class DenoisingScoreMatchingLoss(nn.Module):
    """:func:`denoising_score_matching` as a module, which holds the noise levels and their
    weights. A call raises what that function raises.

    Example:
        >>> import torch, pyebm
        >>> loss = pyebm.losses.DenoisingScoreMatchingLoss(pyebm.losses.LogUniform(0.1, 3.0))
        >>> loss(torch.neg, torch.zeros(4, 2), pyebm.Noise(0)).shape
        torch.Size([])
    """

    sigma: Levels
    conditional: bool
    sigma_data: float
    weight: Coefficient | str | None
    reduction: str
    backend: str | None

    def __init__(
        self,
        sigma: Levels,
        *,
        conditional: bool = False,
        sigma_data: float = 0.5,
        weight: Coefficient | str | None = "ncsn",
        reduction: str = "batchmean",
        backend: str | None = None,
    ) -> None:
        super().__init__()
        self.sigma, self.conditional, self.sigma_data = sigma, conditional, sigma_data
        self.weight, self.reduction, self.backend = weight, reduction, backend

    def forward(self, fn: Target | Callable[..., Tensor], x: Tensor, noise: Noise) -> Tensor:
        options: dict[str, Any] = {
            "weight": self.weight,
            "reduction": self.reduction,
            "backend": self.backend,
        }
        levels: dict[str, Any] = {"conditional": self.conditional, "sigma_data": self.sigma_data}
        return denoising_score_matching(fn, x, self.sigma, noise, **levels, **options)

    def extra_repr(self) -> str:
        return (
            f"{self.sigma!r}, conditional={self.conditional}, weight={self.weight!r},"
            f" reduction={self.reduction!r}"
        )
