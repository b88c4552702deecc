"""ebmkit's other samplers, with fused updates and noise that has a name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._checks import check_samples, checked_number
from .._options import check_callable, checked_count
from ..noise import Noise
from ._draws import step, step_and_mean
from ._ebmkit_named import Named
from ._packages import require

require("ebm")
from ebm import diffusion as of_diffusion  # noqa: E402
from ebm import samplers as theirs  # noqa: E402

Energy = Callable[..., Tensor]


class _Fused(Named):
    step_size: float
    _energy_grad: Any
    _last_accept: Tensor | None

    def _checked(self, energy: Any, x: Tensor) -> float:
        """The step size, of a call that can be made."""
        call = type(self).__name__
        check_callable(call, "energy", energy)
        check_samples(call, "x", x)
        return checked_number(call, "step_size", self.step_size, 0.0)

    def _accepted(self, x: Tensor, proposal: Tensor, log_alpha: Tensor, drawn: Any) -> Tensor:
        accept = _uniforms(drawn, log_alpha).log() < log_alpha
        self._last_accept = accept.float().mean()
        return torch.where(accept.reshape(-1, *[1] * (x.dim() - 1)), proposal, x)


class UnderdampedLangevin(_Fused, theirs.UnderdampedLangevin):
    """ebmkit's ``UnderdampedLangevin``: ``v' = (1 - eps gamma) v - eps grad E + sqrt(2 gamma eps)
    z`` in one pass, then ``x' = x + eps v'``.

    Args:
        step_size, friction, steps: as in ebmkit.
        noise: as for :class:`LangevinDynamics`.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.ebmkit import UnderdampedLangevin
        >>> sampler = UnderdampedLangevin(step_size=0.1, steps=200, noise=pyebm.Noise(0))
        >>> x = sampler.sample(lambda x: 0.5 * x.square().sum(1), torch.zeros(1000, 2))
        >>> bool(0.9 < x.std() < 1.15)
        True
    """

    _original = "ebm.samplers.UnderdampedLangevin"
    _v: Tensor | None

    def step(self, energy: Energy, x: Tensor) -> Tensor:
        """One transition of every chain."""
        eps = self._checked(energy, x)
        gamma = checked_number(type(self).__name__, "friction", self.friction, 0.0)
        _, grad = self._energy_grad(energy, x)
        x = x.detach()
        v = torch.zeros_like(x) if self._v is None or self._v.shape != x.shape else self._v
        self._v = step(v, grad, 1 - eps * gamma, -eps, math.sqrt(2 * gamma * eps), self._draws(x))
        return x + eps * self._v


class MALA(_Fused, theirs.MALA):
    """ebmkit's ``MALA``, with the proposal and its mean in one pass. The uniforms that accept and
    reject are one a sample, from the noise's next stream.

    Args:
        step_size, steps: as in ebmkit.
        noise: as for :class:`LangevinDynamics`.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.ebmkit import MALA
        >>> sampler = MALA(step_size=0.3, steps=100, noise=pyebm.Noise(0))
        >>> x = sampler.sample(lambda x: 0.5 * x.square().sum(1), torch.zeros(1000, 2))
        >>> bool(0.9 < x.std() < 1.1)
        True
    """

    _original = "ebm.samplers.MALA"

    def step(self, energy: Energy, x: Tensor) -> Tensor:
        """One transition of every chain."""
        eps = self._checked(energy, x)
        if eps == 0:
            raise ValueError("MALA: step_size must be > 0, got 0")
        here, grad = self._energy_grad(energy, x)
        x, drawn = x.detach(), self._draws(x)
        proposal, mean = step_and_mean(x, grad, 1.0, -eps, math.sqrt(2 * eps), drawn)
        there, grad = self._energy_grad(energy, proposal)
        back = proposal - eps * grad
        forth = _squares(proposal - mean) - _squares(x - back)
        return self._accepted(x, proposal, here - there + forth / (4 * eps), drawn)


class HMC(_Fused, theirs.HMC):
    """ebmkit's ``HMC``, whose momenta and uniforms (of the noise's next stream) have names, so that
    a chain does not depend on its batch.

    Args:
        step_size, leapfrog_steps, steps: as in ebmkit.
        noise: as for :class:`LangevinDynamics`.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.ebmkit import HMC
        >>> sampler = HMC(step_size=0.3, leapfrog_steps=5, steps=30, noise=pyebm.Noise(0))
        >>> x = sampler.sample(lambda x: 0.5 * x.square().sum(1), torch.zeros(1000, 2))
        >>> bool(0.9 < x.std() < 1.1)
        True
    """

    _original = "ebm.samplers.HMC"

    def step(self, energy: Energy, x: Tensor) -> Tensor:
        """One trajectory of every chain."""
        eps = self._checked(energy, x)
        leaps = checked_count("HMC", "leapfrog_steps", self.leapfrog_steps, 1)
        x = x.detach()
        drawn = self._draws(x)
        p = drawn.randn(x.shape, dtype=x.dtype, device=x.device) if isinstance(drawn, Noise) else drawn
        before, grad = self._energy_grad(energy, x)
        before = before + 0.5 * _squares(p)
        proposal = x
        for i in range(leaps):
            p = p - (0.5 if i == 0 else 1.0) * eps * grad
            proposal = proposal + eps * p
            after, grad = self._energy_grad(energy, proposal)
        p = p - 0.5 * eps * grad
        log_alpha = before - (after + 0.5 * _squares(p))
        return self._accepted(x, proposal, log_alpha, drawn)


class AnnealedLangevinDynamics(_Fused, theirs.AnnealedLangevinDynamics):
    """ebmkit's ``AnnealedLangevinDynamics``: ``x - alpha / 2 grad E(x, sigma) + sqrt(alpha) z`` in
    one pass, alpha = step_size (sigma / sigma_L)^2.

    Args:
        sigmas, step_size, steps_per_sigma: as in ebmkit.
        noise: as for :class:`LangevinDynamics`.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.ebmkit import AnnealedLangevinDynamics
        >>> sigmas, noise = torch.tensor([2.0, 1.0, 0.1]), pyebm.Noise(0)
        >>> sampler = AnnealedLangevinDynamics(sigmas, 1e-3, 200, noise=noise)
        >>> energy = lambda x, sigma: 0.5 * x.square().sum(1) / (1 + sigma**2)
        >>> bool(0.8 < sampler.sample(energy, torch.zeros(1000, 2)).std() < 2.0)
        True
    """

    _original = "ebm.samplers.AnnealedLangevinDynamics"

    def step(self, energy: Energy, x: Tensor, sigma_index: int = -1) -> Tensor:
        """One transition of every chain at a level."""
        step_size = self._checked(energy, x)
        sigma = self.sigmas[sigma_index]
        alpha = step_size * (float(sigma) / float(self.sigmas[-1])) ** 2
        level = sigma.to(x.device)
        _, grad = self._energy_grad(lambda z: energy(z, level.expand(len(z))), x)
        x = x.detach()
        return step(x, grad, 1.0, -alpha / 2, math.sqrt(alpha), self._draws(x))


class DDPMAncestralSampler(_Fused, of_diffusion.DDPMAncestralSampler):
    """ebmkit's ``DDPMAncestralSampler``: ``(x - beta grad E(x, sigma_t)) / sqrt(alpha) + sqrt(beta)
    z`` in one pass, without noise at t = 0.

    Args:
        schedule, steps: as in ebmkit.
        noise: as for :class:`LangevinDynamics`.

    Example:
        >>> import torch, pyebm
        >>> from ebm.diffusion import VPSchedule
        >>> from pyebm.integrations.ebmkit import DDPMAncestralSampler
        >>> sampler = DDPMAncestralSampler(VPSchedule(100, "cosine"), noise=pyebm.Noise(0))
        >>> energy = lambda x, sigma: 0.5 * x.square().sum(1)  # of standard normal data
        >>> bool(0.9 < sampler.sample(energy, torch.randn(1000, 2)).std() < 1.1)
        True
    """

    _original = "ebm.diffusion.DDPMAncestralSampler"
    step_size: float = 0.0  # it has none

    def step(self, energy: Energy, x: Tensor, t: int = 0) -> Tensor:
        """One step back in time."""
        self._checked(energy, x)
        t = checked_count("DDPMAncestralSampler", "t", t)
        root, beta = math.sqrt(float(self.schedule.alphas[t])), float(self.schedule.betas[t])
        sigma = self.schedule.sigma[t].expand(len(x))
        _, grad = self._energy_grad(lambda z: energy(z, sigma), x)
        x = x.detach()
        if t == 0:
            return step(x, grad, 1 / root, -beta / root, 0.0, _UNUSED)
        return step(x, grad, 1 / root, -beta / root, math.sqrt(beta), self._draws(x))


_UNUSED = Noise(0)  # for steps in which the coefficient of z is 0


def _squares(x: Tensor) -> Tensor:
    return x.flatten(1).square().sum(1) if x.dim() > 1 else x.square()


def _uniforms(drawn: Noise | Tensor, like: Tensor) -> Tensor:
    """One uniform a sample, like ``like``."""
    if not isinstance(drawn, Noise):
        return torch.rand_like(like)
    beside = drawn.at(stream=drawn.stream + 1)
    return beside.rand((len(like), 1), dtype=like.dtype, device=like.device)[:, 0]
