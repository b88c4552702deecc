"""For repositories built like EDM (Karras et al. 2022): its loss, named in their options, and its
sampler's random generator.

``loss_kwargs.class_name = "pyebm.integrations.edm.EDMLoss"``, and ``StackedRandomGenerator`` in
place of theirs in generate.py. Written from the published formulas.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .._checks import check_samples, checked_number
from .._name import WORD
from .._options import (
    check_callable,
    check_choice,
    shown,
)
from .._schemas import REDUCTIONS
from ..losses import denoising_loss
from ..noise import Noise
from ._draws import Draws, Source, add_noise
from ._edm_losses import EDM2Loss, VELoss, VPLoss, stand_in
from ._edm_samplers import ablation_sampler, edm_sampler
from ._fits import fitted, output_like, widened
from ._saved import Saved
from ._stacked import StackedRandomGenerator

__all__ = [
    "EDM2Loss",
    "EDMLoss",
    "StackedRandomGenerator",
    "VELoss",
    "VPLoss",
    "ablation_sampler",
    "edm_sampler",
]


class EDMLoss(Saved):
    """``w(sigma) (D(y + sigma z, sigma) - y)^2``, w = (sigma^2 + sd^2) / (sigma sd)^2, log sigma ~
    N(P_mean, P_std^2).

    Args:
        P_mean, P_std, sigma_data: as in EDM.
        noise: a :class:`pyebm.Noise`, whose step plus k names the noise of the k-th call (sigma
            comes from its next stream, so that it depends on the sample alone too); an int, the
            seed of one, or a pair (seed, step), which EDM can write among its options as JSON: each
            rank then draws the noise of its own part of the batch; ``torch.randn_like`` for the
            bits of a run without pyebm; or None, where torch.manual_seed governs it.
        reduction: "none", elementwise, as in EDM; with "sum" the elementwise losses are never made:
            two values a sample stand in for them, so that the training loop's own ``.sum()``, and
            the count, the mean and the standard deviation that it logs, are what they were; or
            another reduction of :func:`pyebm.denoising_loss`, as it is there.

    It is called as ``loss(net, images, labels=None, augment_pipe=None)``. It can be pickled; a copy
    goes on from the same call. Without pyebm its pickle loads as EDM's own
    ``training.loss.EDMLoss`` where that can be imported, and as a record of its options elsewhere.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.edm import EDMLoss
        >>> net = lambda x, sigma, labels, augment_labels=None: x / (1 + sigma**2)
        >>> EDMLoss(noise=pyebm.Noise(0))(net, torch.randn(4, 3, 8, 8)).shape
        torch.Size([4, 3, 8, 8])
    """

    P_mean: float
    P_std: float
    sigma_data: float

    _original = "training.loss.EDMLoss"

    def __init__(
        self,
        P_mean: float = -1.2,
        P_std: float = 1.2,
        sigma_data: float = 0.5,
        *,
        noise: Source | int | Sequence[int] = None,
        reduction: str = "none",
    ) -> None:
        self.P_mean = checked_number("EDMLoss", "P_mean", P_mean)
        self.P_std = checked_number("EDMLoss", "P_std", P_std, 0.0)
        self.sigma_data = checked_number("EDMLoss", "sigma_data", sigma_data, 0.0, open_low=True)
        check_choice("EDMLoss", "reduction", reduction, REDUCTIONS)
        self.reduction = reduction
        # A pickle of this may be loaded as EDM's class, which keeps its arguments in these two.
        self._init_args = ()
        self._init_kwargs = {"P_mean": self.P_mean, "P_std": self.P_std, "sigma_data": self.sigma_data}
        self._by_rank = isinstance(noise, (int, list, tuple)) and not isinstance(noise, bool)
        self._draws = Draws(_seeded(noise) if self._by_rank else noise)  # type: ignore[arg-type]

    def __call__(
        self,
        net: Callable[..., Tensor],
        images: Tensor,
        labels: Tensor | None = None,
        augment_pipe: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None,
    ) -> Tensor:
        """The loss of each element, like images, or as reduction says."""
        check_callable("EDMLoss", "net", net)
        batch = check_samples("EDMLoss", "images", images)
        if augment_pipe is not None:
            check_callable("EDMLoss", "augment_pipe", augment_pipe, "a function or None")
        shape = (batch, *[1] * (images.dim() - 1))
        if self._draws.is_ours:  # a Noise has no shape yet, so it can name the noise levels too
            noise = self._draws(images)
            if self._by_rank and dist.is_available() and dist.is_initialized():
                noise = noise.shard(first_sample=dist.get_rank() * batch)
            normal = noise.at(stream=noise.stream + 1).randn(shape, device=images.device)
            clean, augment_labels = augment_pipe(images) if augment_pipe is not None else (images, None)
        else:
            normal = torch.randn(shape, device=images.device)
            clean, augment_labels = augment_pipe(images) if augment_pipe is not None else (images, None)
            noise = self._draws(clean)
        sigma = (normal * self.P_std + self.P_mean).exp()
        wide = widened(clean, sigma)
        noise = fitted("EDMLoss", noise, wide) if isinstance(noise, Tensor) else noise
        denoised = net(add_noise(wide, sigma, noise), sigma, labels, augment_labels=augment_labels)
        denoised = output_like("EDMLoss", "net's output", denoised, wide)
        s, data = sigma.double(), self.sigma_data
        weight = (s**2 + data**2) / (s * data) ** 2
        # The residual D - y has no noise in it, so the loss takes the clean images in its place.
        if self.reduction == "sum":
            return stand_in(denoised, wide, weight)
        return denoising_loss(denoised, wide, weight=weight, reduction=self.reduction)


def _seeded(noise: Any) -> Noise:
    """The Noise of an int or a pair (seed, step)."""
    seed, step = (noise, 0) if isinstance(noise, int) else noise if len(noise) == 2 else (None, None)
    must = "a Noise, a seed, a pair (seed, step), a function such as torch.randn_like, or None"
    if type(seed) is not int or type(step) is not int:
        raise TypeError(f"EDMLoss: noise must be {must}, got {shown(noise)}")
    if not -(2**63) <= seed < 2**64 or not 0 <= step < WORD:
        raise ValueError(
            f"EDMLoss: noise must be a seed of 64 bits, and a step in [0, 2**32), got {shown(noise)}"
        )
    return Noise(seed, step=step)
