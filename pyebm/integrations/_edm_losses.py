"""EDM's other losses (those of Song et al. 2021 in its terms), and EDM2's, whose weighting is
learned."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._checks import check_samples, checked_number
from .._options import check_callable, check_choice
from .._schemas import REDUCTIONS
from ..losses import denoising_loss
from ._draws import Draws, Source, add_noise
from ._fits import fitted, output_like, widened
from ._saved import Saved

Augment = Callable[[Tensor], tuple[Tensor, Tensor]]


class _Loss(Saved):
    """The part that the losses share: the noise, its level and the step through the network."""

    def __init__(self, reduction: str, noise: Source, options: dict[str, float]) -> None:
        check_choice(type(self).__name__, "reduction", reduction, REDUCTIONS)
        self.reduction = reduction
        # A pickle of this may be loaded as EDM's class, which keeps its arguments in these two.
        self._init_args, self._init_kwargs = (), options
        self.__dict__.update(options)
        self._draws = Draws(noise)

    def _drawn(self, images: Tensor, law: str, augment: Augment | None = None) -> tuple[Any, ...]:
        """(clean images, augment labels, the noise, normals or uniforms for the levels)."""
        call = type(self).__name__
        shape = (check_samples(call, "images", images), *[1] * (images.dim() - 1))
        if augment is not None:
            check_callable(call, "augment_pipe", augment, "a function or None")
        noise = self._draws(images) if self._draws.is_ours else None
        if noise is None:
            level = getattr(torch, law)(shape, device=images.device)
        else:
            level = getattr(noise.at(stream=noise.stream + 1), law)(shape, device=images.device)
        clean, labels = (images, None) if augment is None else augment(images)
        return clean, labels, self._draws(clean) if noise is None else noise, level

    def _noisy(self, clean: Tensor, sigma: Tensor, noise: Any) -> tuple[Tensor, Tensor]:
        """The clean images as wide as sigma, and the noisy ones."""
        wide = widened(clean, sigma)
        noise = fitted(type(self).__name__, noise, wide) if isinstance(noise, Tensor) else noise
        return wide, add_noise(wide, sigma, noise)


BLOCK = 2**20  # elements: more are never made at a time beside the network's output


def stand_in(denoised: Tensor, clean: Tensor, weight: Tensor, log_variance: Tensor | None = None) -> Tensor:
    """Like the elementwise losses ``w (D - y)^2``, or ``w (D - y)^2 / e^u + u``, with the count,
    the mean and the standard deviation of each sample's, and nothing elementwise stored.

    A sample has two values, on either side of its mean m: ``m + s sqrt((1 - p) / p)`` for a share p
    of its elements, and ``m - s sqrt(p / (1 - p))`` for the others, s being the deviation. The
    gradient of their sum is that of the losses'; s is a constant to it.
    """
    sizes = clean.shape[1:]
    means = denoising_loss(denoised, clean, weight=weight / max(math.prod(sizes), 1), reduction="sample")
    w = weight.detach().reshape(-1)
    spread = _deviations(denoised.detach(), clean.detach(), means.detach() / w) * w
    if log_variance is not None:
        u = log_variance.reshape(-1)
        means, spread = means / u.exp() + u, spread / u.detach().exp()
    at = min((k for k, size in enumerate(sizes) if size > 1), key=lambda k: sizes[k], default=None)
    shape = [len(clean), *[1] * len(sizes)]
    if at is None:
        return means.reshape(shape).expand(clean.shape)
    size = shape[1 + at] = sizes[at]
    few = size // 2
    offsets = torch.full((size,), -math.sqrt(few / (size - few)), device=clean.device)
    offsets[:few] = math.sqrt((size - few) / few)
    values = means[:, None] + spread.to(means.dtype)[:, None] * offsets
    return values.reshape(shape).expand(clean.shape)


def _deviations(denoised: Tensor, clean: Tensor, means: Tensor) -> Tensor:
    """The standard deviation of each sample's ``(D - y)^2``, whose means are given: (B,)."""
    count = max(clean[:1].numel(), 1)
    rows = max(1, BLOCK // count)
    norms = []
    for one, other in zip(denoised.split(rows), clean.split(rows), strict=True):
        squares = (one - other).reshape(len(one), -1)
        squares.mul_(squares)
        norms.append(torch.linalg.vector_norm(squares, dim=1))
    fourth = torch.cat(norms).double().square() / count if norms else means
    return (fourth - means.square()).clamp_min(0).sqrt()


class _ScoreLoss(_Loss):
    """``(D(y + sigma z, sigma) - y)^2 / sigma^2`` with a sigma made of one uniform a sample."""

    def __call__(
        self,
        net: Callable[..., Tensor],
        images: Tensor,
        labels: Tensor | None = None,
        augment_pipe: Augment | None = None,
    ) -> Tensor:
        """The loss of each element, like images, or as reduction says."""
        check_callable(type(self).__name__, "net", net)
        clean, augment_labels, noise, uniform = self._drawn(images, "rand", augment_pipe)
        sigma = self._level(uniform)
        wide, noisy = self._noisy(clean, sigma, noise)
        denoised = net(noisy, sigma, labels, augment_labels=augment_labels)
        denoised = output_like(type(self).__name__, "net's output", denoised, wide)
        weight = sigma.double() ** -2
        if self.reduction == "sum":
            return stand_in(denoised, wide, weight)
        return denoising_loss(denoised, wide, weight=weight, reduction=self.reduction)

    def _level(self, uniform: Tensor) -> Tensor:
        raise NotImplementedError


class VPLoss(_ScoreLoss):
    """EDM's VPLoss: ``(D - y)^2 / sigma(t)^2`` with ``sigma(t)^2 = exp(beta_d t^2 / 2 + beta_min
    t) - 1`` and t uniform from 1 down to epsilon_t.

    Args:
        beta_d, beta_min, epsilon_t: as in EDM.
        noise: a :class:`pyebm.Noise`, whose step plus k names the noise of the k-th call (the
            levels come from its next stream); ``torch.randn_like`` for the bits of a run without
            pyebm; or None, where torch.manual_seed governs it.
        reduction: as for :class:`EDMLoss`.

    ``exp - 1`` is expm1 in float64, as at t near epsilon_t it is far below float32's rounding of
    exp.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.edm import VPLoss
        >>> net = lambda x, sigma, labels, augment_labels=None: x / (1 + sigma**2)
        >>> VPLoss(noise=pyebm.Noise(0))(net, torch.randn(4, 3, 8, 8)).shape
        torch.Size([4, 3, 8, 8])
    """

    _original = "training.loss.VPLoss"
    beta_d: float
    beta_min: float
    epsilon_t: float

    def __init__(
        self,
        beta_d: float = 19.9,
        beta_min: float = 0.1,
        epsilon_t: float = 1e-5,
        *,
        noise: Source = None,
        reduction: str = "none",
    ) -> None:
        options = {
            "beta_d": checked_number("VPLoss", "beta_d", beta_d, 0.0),
            "beta_min": checked_number("VPLoss", "beta_min", beta_min, 0.0, open_low=True),
            "epsilon_t": checked_number("VPLoss", "epsilon_t", epsilon_t, 0.0, open_low=True),
        }
        super().__init__(reduction, noise, options)

    def sigma(self, t: float | Tensor) -> Tensor:
        """The noise level at the time t."""
        t = t if isinstance(t, Tensor) else torch.as_tensor(t, device="cpu")
        exact = t.double()
        level = torch.expm1(0.5 * self.beta_d * exact**2 + self.beta_min * exact).sqrt()
        return level.to(t.dtype) if t.is_floating_point() else level.float()

    def _level(self, uniform: Tensor) -> Tensor:
        return self.sigma(1 + uniform * (self.epsilon_t - 1))


class VELoss(_ScoreLoss):
    """EDM's VELoss: ``(D - y)^2 / sigma^2`` with log sigma uniform between sigma_min and
    sigma_max.

    Args:
        sigma_min, sigma_max: as in EDM.
        noise, reduction: as for :class:`VPLoss`.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.edm import VELoss
        >>> net = lambda x, sigma, labels, augment_labels=None: x / (1 + sigma**2)
        >>> VELoss(noise=pyebm.Noise(0))(net, torch.randn(4, 3, 8, 8)).shape
        torch.Size([4, 3, 8, 8])
    """

    _original = "training.loss.VELoss"
    sigma_min: float
    sigma_max: float

    def __init__(
        self,
        sigma_min: float = 0.02,
        sigma_max: float = 100.0,
        *,
        noise: Source = None,
        reduction: str = "none",
    ) -> None:
        options = {
            "sigma_min": checked_number("VELoss", "sigma_min", sigma_min, 0.0, open_low=True),
            "sigma_max": checked_number("VELoss", "sigma_max", sigma_max, 0.0, open_low=True),
        }
        super().__init__(reduction, noise, options)

    def _level(self, uniform: Tensor) -> Tensor:
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** uniform


class EDM2Loss(_Loss):
    """EDM2's loss (Karras et al. 2024, eq. 21): ``w(sigma) (D - y)^2 / e^u + u``, in which the
    network predicts the log variance u of its error beside the denoised images.

    ``net(noisy, sigma, labels, return_logvar=True)`` returns both; u has a value for each sample,
    (B, 1, 1, 1), or for each element.

    Args:
        P_mean, P_std, sigma_data: as in EDM2.
        noise: as for :class:`VPLoss`.
        reduction: "none", elementwise, as in EDM2; or "sum", as for :class:`EDMLoss` where u has a
            value for each sample.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.edm import EDM2Loss
        >>> def net(x, sigma, labels, return_logvar):
        ...     return x / (1 + sigma**2), torch.zeros(len(x), 1, 1, 1)
        >>> EDM2Loss(noise=pyebm.Noise(0))(net, torch.randn(4, 3, 8, 8)).shape
        torch.Size([4, 3, 8, 8])
    """

    _original = "training.training_loop.EDM2Loss"
    P_mean: float
    P_std: float
    sigma_data: float

    def __init__(
        self,
        P_mean: float = -0.4,
        P_std: float = 1.0,
        sigma_data: float = 0.5,
        *,
        noise: Source = None,
        reduction: str = "none",
    ) -> None:
        check_choice("EDM2Loss", "reduction", reduction, ("none", "sum"))
        options = {
            "P_mean": checked_number("EDM2Loss", "P_mean", P_mean),
            "P_std": checked_number("EDM2Loss", "P_std", P_std, 0.0),
            "sigma_data": checked_number("EDM2Loss", "sigma_data", sigma_data, 0.0, open_low=True),
        }
        super().__init__(reduction, noise, options)

    def __call__(self, net: Callable[..., Any], images: Tensor, labels: Tensor | None = None) -> Tensor:
        """The loss of each element, like images, or as reduction says."""
        check_callable("EDM2Loss", "net", net)
        clean, _, noise, normal = self._drawn(images, "randn")
        sigma = (normal * self.P_std + self.P_mean).exp()
        wide, noisy = self._noisy(clean, sigma, noise)
        denoised, logvar = net(noisy, sigma, labels, return_logvar=True)
        denoised = output_like("EDM2Loss", "net's output", denoised, wide)
        s, data = sigma.double(), self.sigma_data
        weight = (s**2 + data**2) / (s * data) ** 2
        if self.reduction == "sum" and logvar.numel() == len(wide):
            return stand_in(denoised, wide, weight, logvar)
        losses: Tensor = (
            denoising_loss(denoised, wide, weight=weight, reduction="none") / logvar.exp() + logvar
        )
        return losses
