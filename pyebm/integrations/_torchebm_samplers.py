"""torchebm's samplers, with noise that has a name."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..noise import Noise
from ._draws import Source
from ._packages import require
from ._torchebm_integrators import EulerMaruyamaIntegrator
from ._torchebm_named import Named

require("torchebm")
# These imports name the classes' own files: the package loads its names lazily, which type checkers
# can't follow.
from torchebm.integrators import euler_maruyama as integrators  # noqa: E402
from torchebm.samplers import flow, hmc, langevin_dynamics  # noqa: E402


class _OverAnIntegrator(Named):
    """The sampler's integrator takes the noise; a first state that is not given takes the next
    stream's."""

    integrator: Any
    device: Any
    dtype: Any

    def __init__(self, *args: Any, noise: Source = None, **kwargs: Any) -> None:
        beside = noise.at(stream=noise.stream + 1) if isinstance(noise, Noise) else noise
        super().__init__(*args, noise=beside, **kwargs)
        if type(self.integrator) is integrators.EulerMaruyamaIntegrator:
            self.integrator = named_integrator(noise, self)

    def _init_state(self, x: Any, dim: Any, n_samples: int, generator: Any = None) -> Tensor:
        with self._naming(generator):
            return super()._init_state(x, dim, n_samples, generator)  # type: ignore[misc, no-any-return]


def named_integrator(noise: Source, owner: Any) -> EulerMaruyamaIntegrator:
    return EulerMaruyamaIntegrator(noise=noise, device=owner.device, dtype=owner.dtype)


class LangevinDynamics(_OverAnIntegrator, langevin_dynamics.LangevinDynamics):
    """torchebm's sampler of that name over our :class:`EulerMaruyamaIntegrator`, unless another one
    is given.

    Args:
        model, step_size, ...: as in torchebm.
        noise: as for :class:`EulerMaruyamaIntegrator`. A first state that is not given comes from
            its next stream.

    Example:
        >>> import torch, pyebm
        >>> from torchebm.core import GaussianModel
        >>> from pyebm.integrations.torchebm import LangevinDynamics
        >>> model = GaussianModel(torch.zeros(2), torch.eye(2))
        >>> sampler = LangevinDynamics(model, step_size=0.1, noise=pyebm.Noise(0))
        >>> bool(0.9 < sampler.sample(dim=2, n_samples=1000, n_steps=200).std() < 1.15)
        True
    """

    _original = "torchebm.samplers.LangevinDynamics"


class FlowSampler(_OverAnIntegrator, flow.FlowSampler):
    """torchebm's sampler of that name. With mode="sde" its steps are those of our
    :class:`EulerMaruyamaIntegrator`; with mode="ode" the first state alone is drawn.

    Args:
        model, mode, ...: as in torchebm.
        noise: as for :class:`LangevinDynamics`.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.torchebm import FlowSampler
        >>> velocity = lambda x, t: (2 * t - 1)[:, None] / (1 - 2 * t + 2 * t**2)[:, None] * x
        >>> class Net(torch.nn.Module):
        ...     def forward(self, x, t):
        ...         return velocity(x, t)  # of standard normal data
        >>> sampler = FlowSampler(Net(), "sde", diffusion_form="sigma", noise=pyebm.Noise(0))
        >>> bool(0.9 < sampler.sample(dim=2, n_samples=1000, n_steps=100).std() < 1.1)
        True
    """

    _original = "torchebm.samplers.FlowSampler"


class _Whole(Named):
    """A run, all of whose draws take the noise in their order."""

    def sample(self, *args: Any, generator: torch.Generator | None = None, **kwargs: Any) -> Any:
        """As torchebm's method."""
        with self._naming(generator):
            return super().sample(*args, generator=generator, **kwargs)  # type: ignore[misc]


class HamiltonianMonteCarlo(_Whole, hmc.HamiltonianMonteCarlo):
    """torchebm's sampler of that name, whose momenta and uniforms have names: a chain does not
    depend on its batch.

    Args:
        model, step_size, ...: as in torchebm.
        noise: a :class:`pyebm.Noise`, whose step plus k names this object's k-th draw: a first
            state that is not given, then each proposal's momenta and uniforms; a function like
            ``torch.randn_like``; or None for torchebm's own draws. A generator given to ``sample``
            takes precedence.

    Example:
        >>> import torch, pyebm
        >>> from torchebm.core import GaussianModel
        >>> from pyebm.integrations.torchebm import HamiltonianMonteCarlo
        >>> model = GaussianModel(torch.zeros(2), torch.eye(2))
        >>> sampler = HamiltonianMonteCarlo(model, 0.3, 5, noise=pyebm.Noise(0))
        >>> bool(0.9 < sampler.sample(torch.zeros(1000, 2), n_steps=30).std() < 1.1)
        True
    """

    _original = "torchebm.samplers.HamiltonianMonteCarlo"


class RiemannianManifoldHMC(_Whole, hmc.RiemannianManifoldHMC):
    """torchebm's sampler of that name with named draws, as :class:`HamiltonianMonteCarlo`. Nothing
    else is ours: its time goes into the metric's Cholesky factors.

    Args:
        model, metric_fn, ...: as in torchebm.
        noise: as for :class:`HamiltonianMonteCarlo`.

    Example:
        >>> import torch, pyebm
        >>> from torchebm.core import GaussianModel
        >>> from pyebm.integrations.torchebm import RiemannianManifoldHMC
        >>> model = GaussianModel(torch.zeros(2), torch.eye(2))
        >>> metric = lambda x: torch.eye(2).expand(len(x), 2, 2)
        >>> sampler = RiemannianManifoldHMC(model, metric, 0.3, 5, noise=pyebm.Noise(0))
        >>> bool(0.9 < sampler.sample(torch.zeros(1000, 2), n_steps=3).std() < 1.1)
        True
    """

    _original = "torchebm.samplers.RiemannianManifoldHMC"
