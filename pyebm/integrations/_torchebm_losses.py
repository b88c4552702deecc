"""torchebm's losses beside score matching: contrastive divergence and those along a path from noise
to data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..losses import denoising_loss
from ..noise import Noise
from ..perturb import perturb
from ._draws import Source
from ._fits import output_like, widened
from ._packages import require
from ._torchebm_named import NamedLoss
from ._torchebm_samplers import named_integrator

require("torchebm")
# These imports name the classes' own files: the package loads its names lazily, which type checkers
# can't follow.
from torchebm.couplings import independent  # noqa: E402
from torchebm.losses import contrastive_divergence as cd  # noqa: E402
from torchebm.losses import (  # noqa: E402
    energy_matching,
    equilibrium_matching,
    flow_matching,
)

Terms = dict[str, Any]


class ContrastiveDivergence(NamedLoss, cd.ContrastiveDivergence):
    """torchebm's loss of that name. The noise names its buffer, the starts that it picks there, the
    noise on the data, and what the sampler draws that has no noise of its own.

    Args:
        model, sampler, ...: as in torchebm.
        noise: a :class:`pyebm.Noise`, whose step plus k names this object's k-th draw; a function
            like ``torch.randn_like``; or None for torchebm's own draws. A generator given to the
            call takes precedence.

    Example:
        >>> import torch, pyebm
        >>> from torchebm.core import DoubleWellModel
        >>> from pyebm.integrations.torchebm import ContrastiveDivergence, LangevinDynamics
        >>> model = DoubleWellModel()
        >>> sampler = LangevinDynamics(model, step_size=0.01, noise=pyebm.Noise(0))
        >>> loss = ContrastiveDivergence(model, sampler, persistent=True, noise=pyebm.Noise(1))
        >>> value, negatives = loss(torch.randn(32, 2))
        >>> negatives.shape
        torch.Size([32, 2])
    """

    _original = "torchebm.losses.ContrastiveDivergence"

    def forward(
        self, x: Tensor, *args: Any, generator: torch.Generator | None = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """The loss and the negative samples; arguments as in torchebm."""
        with self._naming(generator):
            return super().forward(x, *args, generator=generator, **kwargs)  # type: ignore[no-any-return]


class PersistentContrastiveDivergence(ContrastiveDivergence, cd.PersistentContrastiveDivergence):
    """:class:`ContrastiveDivergence` with ``persistent=True``, as in torchebm."""

    _original = "torchebm.losses.PersistentContrastiveDivergence"


class _AlongAPath(NamedLoss):
    """A loss whose samples lie between noise and data, at times that are drawn too."""

    coupling: Any
    interpolant: Any
    model: Any
    loss_weight_fn: Any

    def training_losses(
        self,
        x1: Tensor,
        model_kwargs: dict[str, Any] | None = None,
        x0: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Terms:
        """The terms of the loss; arguments as in torchebm."""
        x1 = self._data("x1", x1)
        ours = x0 is None and generator is None and isinstance(self._draws.source, Noise)
        if ours and self._regression and type(self.coupling) is independent.IndependentCoupling:
            return self._fused(x1, model_kwargs or {})
        with self._naming(generator):
            return super().training_losses(x1, model_kwargs, x0, generator)  # type: ignore[misc, no-any-return]

    @property
    def _regression(self) -> bool:
        """Whether the output is compared with a multiple of the path's velocity."""
        return False

    def _target(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The factor of the velocity in the target, and the time that the model is given."""
        raise NotImplementedError

    def _fused(self, x1: Tensor, model_kwargs: dict[str, Any]) -> Terms:
        """The regression onto ``f (d_alpha x1 + d_sigma z)``, of which neither z nor the target is
        stored."""
        noise: Noise = self._draws(x1)
        with self._naming(None):
            t = self._sample_t(len(x1), None)  # type: ignore[attr-defined]
        (alpha, d_alpha), (sigma, d_sigma) = (
            self.interpolant.compute_alpha_t(t),
            self.interpolant.compute_sigma_t(t),
        )
        factor, clock = self._target(t)
        xt = perturb(x1, sigma, noise, alpha=alpha)
        with self.autocast_context():  # type: ignore[attr-defined]
            output = self.model(xt, clock, **model_kwargs)
        output = output[0] if isinstance(output, tuple) else output
        wide = widened(output_like(type(self).__name__, "the model's output", output, x1), x1)
        error = denoising_loss(
            wide, noise, lam=-factor * d_sigma, mu=-factor * d_alpha, x0=x1, reduction="sample"
        )
        loss = error / max(x1[:1].numel(), 1)
        if self.loss_weight_fn is not None:
            loss = loss * self.loss_weight_fn(t)
        return {"loss": loss, "pred": output, "weights": None}


class FlowMatchingLoss(_AlongAPath, flow_matching.FlowMatchingLoss):
    """torchebm's loss of that name: ``mean_b w_b mean_i (v - (d_alpha x1 + d_sigma z))^2`` at
    ``alpha x1 + sigma z``. With the independent coupling neither z nor the target is stored.

    Args:
        model, interpolant, ...: as in torchebm.
        noise: a :class:`pyebm.Noise`, whose step plus k names this object's k-th draw: the source,
            then what the coupling draws, then the times; a function like ``torch.randn_like``; or
            None for torchebm's own draws, which a generator or an x0 that the call is given have
            too.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.torchebm import FlowMatchingLoss
        >>> class Net(torch.nn.Module):
        ...     def forward(self, x, t):
        ...         return -x
        >>> FlowMatchingLoss(Net(), noise=pyebm.Noise(0))(torch.randn(64, 2)).shape
        torch.Size([])
    """

    _original = "torchebm.losses.FlowMatchingLoss"
    negate_velocity: bool
    _regression = True

    def _target(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.full_like(t, -1.0 if self.negate_velocity else 1.0), t


class EquilibriumMatchingLoss(_AlongAPath, equilibrium_matching.EquilibriumMatchingLoss):
    """torchebm's loss of that name: the target is ``-c(t) (d_alpha x1 + d_sigma z)``. With the
    independent coupling, prediction="velocity" and without an energy or a dispersion neither z nor
    the target is stored.

    Args:
        model, prediction, ...: as in torchebm.
        noise: as for :class:`FlowMatchingLoss`.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.torchebm import EquilibriumMatchingLoss
        >>> class Net(torch.nn.Module):
        ...     def forward(self, x, t):
        ...         return -x
        >>> EquilibriumMatchingLoss(Net(), noise=pyebm.Noise(0))(torch.randn(64, 2)).shape
        torch.Size([])
    """

    _original = "torchebm.losses.EquilibriumMatchingLoss"
    time_invariant: bool

    @property
    def _regression(self) -> bool:
        kind = self.prediction, self.energy_type, self.apply_dispersion
        return kind == ("velocity", "none", False)

    def _target(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -self._compute_ct(t), torch.zeros_like(t) if self.time_invariant else t


class EnergyMatchingLoss(_AlongAPath, energy_matching.EnergyMatchingLoss):
    """torchebm's loss of that name. Its draws have names, those of the optimal transport too; the
    chains of a sampler that is not given are those of our :class:`EulerMaruyamaIntegrator`, on the
    noise's next stream.

    Args:
        model, sampler, ...: as in torchebm.
        noise: as for :class:`FlowMatchingLoss`.

    Example:
        >>> import torch, pyebm
        >>> from torchebm.core import DoubleWellModel
        >>> from pyebm.integrations.torchebm import EnergyMatchingLoss
        >>> loss = EnergyMatchingLoss(DoubleWellModel(), n_langevin_steps=5, noise=pyebm.Noise(0))
        >>> loss(torch.randn(64, 2)).shape
        torch.Size([])
    """

    _original = "torchebm.losses.EnergyMatchingLoss"

    def __init__(
        self, model: Any, sampler: Any = None, *args: Any, noise: Source = None, **kwargs: Any
    ) -> None:
        super().__init__(model, sampler, *args, noise=noise, **kwargs)
        if sampler is None and isinstance(noise, Noise):
            beside = noise.at(stream=noise.stream + 1)
            self.sampler.integrator = named_integrator(beside, self.sampler)
