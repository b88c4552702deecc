"""ebmkit's samplers whose time goes elsewhere than into the noise: their own code, whose draws have
names."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from torch import Tensor

from .._checks import check_samples
from .._options import check_callable
from ..noise import Noise
from ._draws import Draws, Source, noise_norms, step
from ._fits import norms
from ._named_draws import NamedDraws, seeded
from ._packages import require
from ._saved import Saved

require("ebm")
from ebm import samplers as theirs  # noqa: E402

Energy = Callable[..., Tensor]


class Named(Saved):
    """A sampler with ``noise``: a :class:`pyebm.Noise`, whose step plus k names the numbers of this
    object's k-th draw; ``torch.randn_like`` for the bits of ebmkit's own class; or None, where
    torch.manual_seed governs it."""

    def __init__(self, *args: Any, noise: Source = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._draws = Draws(noise)


class _Whole(Named):
    """A step, all of whose draws take the noise in their order."""

    def step(self, energy: Energy, x: Tensor) -> Tensor:
        """One transition of every chain."""
        with NamedDraws(self._draws):
            return super().step(energy, x)  # type: ignore[misc, no-any-return]


class PreconditionedLangevin(Named, theirs.PreconditionedLangevin):
    """ebmkit's ``PreconditionedLangevin`` with named draws.

    Args:
        precond, step_size, steps: as in ebmkit.
        noise: as for :class:`LangevinDynamics`.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.ebmkit import PreconditionedLangevin
        >>> scale = torch.tensor([1.0, 9.0])
        >>> sampler = PreconditionedLangevin(scale, 0.1, 200, noise=pyebm.Noise(0))
        >>> x = sampler.sample(lambda x: 0.5 * (x.square() / scale).sum(1), torch.zeros(1000, 2))
        >>> bool(0.9 < x.std(0)[0] < 1.15 and 2.7 < x.std(0)[1] < 3.4)
        True
    """

    _original = "ebm.samplers.PreconditionedLangevin"

    def step(self, energy: Energy, x: Tensor) -> Tensor:
        """One transition of every chain."""
        check_callable("PreconditionedLangevin", "energy", energy)
        check_samples("PreconditionedLangevin", "x", x)
        m = self._precond.to(device=x.device, dtype=x.dtype)
        _, grad = self._energy_grad(energy, x)
        x, drawn = x.detach(), self._draws(x)
        z = drawn.randn(x.shape, dtype=x.dtype, device=x.device) if isinstance(drawn, Noise) else drawn
        stepped: Tensor = x - self.step_size * (m * grad) + (2 * self.step_size * m).sqrt() * z
        return stepped


class PredictorCorrector(Named, theirs.PredictorCorrector):
    """ebmkit's ``PredictorCorrector``, each update in one pass. The corrector's ``|z|`` is that of
    a draw of its own, as there, which is not stored.

    Args:
        sigmas, n_corrector, snr, steps: as in ebmkit.
        noise: as for :class:`LangevinDynamics`.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.ebmkit import PredictorCorrector
        >>> sigmas = torch.logspace(1, -1, 100)
        >>> sampler = PredictorCorrector(sigmas, noise=pyebm.Noise(0))
        >>> energy = lambda x, sigma: 0.5 * x.square().sum(1) / (1 + sigma**2)
        >>> bool(0.8 < sampler.sample(energy, 10 * torch.randn(1000, 2)).std() < 1.2)
        True
    """

    _original = "ebm.samplers.PredictorCorrector"

    def step(self, energy: Energy, x: Tensor, sigma_index: int = 0) -> Tensor:
        """The corrector's steps at a level, and the predictor's to the next one."""
        check_callable("PredictorCorrector", "energy", energy)
        check_samples("PredictorCorrector", "x", x)
        here, below = self.sigmas[sigma_index], self.sigmas[sigma_index + 1]
        x = x.detach()
        for _ in range(self.n_corrector):
            score = self._score_at(energy, x, here)
            ratio = noise_norms(self._draws(x), x).mean() / norms(score).mean().clamp_min(1e-8)
            eps = 2 * (self.snr * ratio) ** 2
            x = step(x, score, 1.0, eps, (2 * eps).sqrt(), self._draws(x))
        gap = float(here**2 - below**2)
        return step(x, self._score_at(energy, x, here), 1.0, gap, gap**0.5, self._draws(x))


class AdaptiveMALA(Named, theirs.AdaptiveMALA):
    """ebmkit's ``AdaptiveMALA`` with named draws. Its step size is tuned over the whole batch.

    Args:
        step_size, steps, warmup, ...: as in ebmkit.
        noise: as for :class:`LangevinDynamics`.
    """

    _original = "ebm.samplers.AdaptiveMALA"

    def _transition(self, energy: Energy, x: Tensor) -> tuple[Tensor, Tensor]:
        with NamedDraws(self._draws):
            return super()._transition(energy, x)  # type: ignore[no-any-return]


class NUTS(Named, theirs.NUTS):
    """ebmkit's ``NUTS``, each of whose steps draws from torch's generator as the noise seeds it: a
    run is a function of the noise, while a chain depends on its batch, whose deepest tree decides
    how many numbers a step takes.

    Args:
        step_size, steps, warmup, ...: as in ebmkit.
        noise: as for :class:`LangevinDynamics`.
    """

    _original = "ebm.samplers.NUTS"

    def _draw(self, energy: Energy, x0: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        with seeded(self._draws, x0):
            return super()._draw(energy, x0, eps)  # type: ignore[no-any-return]


class ParallelTempering(Named, theirs.ParallelTempering):
    """ebmkit's ``ParallelTempering`` with named draws: those of its swaps, and those of a base
    sampler that has no noise of its own.

    Args:
        base_sampler, temperatures, ...: as in ebmkit.
        noise: as for :class:`LangevinDynamics`.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.ebmkit import MALA, ParallelTempering
        >>> base = MALA(step_size=0.3, noise=pyebm.Noise(0))
        >>> sampler = ParallelTempering(base, (1.0, 3.0), steps=50, noise=pyebm.Noise(1))
        >>> x = sampler.sample(lambda x: 0.5 * x.square().sum(1), torch.zeros(1000, 2))
        >>> bool(0.9 < x.std() < 1.1)
        True
    """

    _original = "ebm.samplers.ParallelTempering"

    def step(self, energy: Energy, x: Tensor) -> Tensor:
        """One sweep, and its swaps."""
        with nullcontext() if isinstance(self.base, Named) else NamedDraws(self._draws):
            return super().step(energy, x)  # type: ignore[no-any-return]

    def _swap(self, energy: Energy) -> None:
        with NamedDraws(self._draws):
            super()._swap(energy)


class TemperedTransitions(_Whole, theirs.TemperedTransitions):
    """ebmkit's ``TemperedTransitions`` with named draws, as :class:`ParallelTempering`.

    Args:
        base_sampler, temperatures, ...: as in ebmkit.
        noise: as for :class:`LangevinDynamics`.
    """

    _original = "ebm.samplers.TemperedTransitions"


class GibbsWithGradients(_Whole, theirs.GibbsWithGradients):
    """ebmkit's ``GibbsWithGradients`` with named draws: a chain does not depend on its batch.

    Args:
        steps: as in ebmkit.
        noise: as for :class:`LangevinDynamics`.
    """

    _original = "ebm.samplers.GibbsWithGradients"


class CategoricalGibbsWithGradients(_Whole, theirs.CategoricalGibbsWithGradients):
    """ebmkit's ``CategoricalGibbsWithGradients`` with named draws, as
    :class:`GibbsWithGradients`."""

    _original = "ebm.samplers.CategoricalGibbsWithGradients"


class GibbsSampler(Named, theirs.GibbsSampler):
    """ebmkit's ``GibbsSampler``, whose model draws from torch's generator as the noise seeds it at
    each step, as for :class:`NUTS`."""

    _original = "ebm.samplers.GibbsSampler"

    def step(self, energy: Energy, x: Tensor) -> Tensor:
        """One transition of every chain."""
        with seeded(self._draws, x):
            return super().step(energy, x)  # type: ignore[no-any-return]
