"""Both sides of the call sites in torchebm and ebmkit, as in :mod:`pyebm.benchmarks.call_sites`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import rivals
from .call_sites import NOISE, Module, randn
from .timing import Run


def torchebm_step(shape: tuple[int, ...]) -> tuple[Run, Run]:
    theirs = rivals.get("torchebm", "integrators").EulerMaruyamaIntegrator()
    from pyebm.integrations.torchebm import EulerMaruyamaIntegrator

    ours, x, drift = EulerMaruyamaIntegrator(noise=NOISE), randn(shape), randn(shape, 1)

    def run(integrator: Any) -> Run:
        return lambda: integrator.step({"x": x}, 0.01, noise_scale=1.0, drift=lambda *_: drift)

    return run(theirs), run(ours)


def ebmkit_step(shape: tuple[int, ...]) -> tuple[Run, Run]:
    theirs = rivals.get("ebmkit").LangevinDynamics
    from pyebm.integrations.ebmkit import LangevinDynamics

    x, grad = randn(shape), randn(shape, 1)

    def run(cls: Any, **options: Any) -> Run:
        sampler = cls(step_size=0.01, clamp=(-3.0, 3.0), **options)
        sampler._energy_grad = lambda *_: (None, grad)
        return lambda: sampler.step(torch.sum, x)  # never asked: its gradient is given

    return run(theirs), run(LangevinDynamics, noise=NOISE)


def torchebm_flow_loss(shape: tuple[int, ...]) -> tuple[Run, Run]:
    theirs = rivals.get("torchebm", "losses").FlowMatchingLoss
    from pyebm.integrations.torchebm import FlowMatchingLoss

    x, output = randn(shape), randn(shape, 1).requires_grad_()

    def run(cls: Any, **noise: Any) -> Run:
        loss = cls(Module(lambda *_: output), **noise)
        return lambda: torch.autograd.grad(loss(x), output)

    return run(theirs), run(FlowMatchingLoss, noise=NOISE)


def torchebm_sde_step(shape: tuple[int, ...]) -> tuple[Run, Run]:
    """A step of FlowSampler's SDE, whose diffusion has a value a sample."""
    theirs = rivals.get("torchebm", "integrators").EulerMaruyamaIntegrator()
    from pyebm.integrations.torchebm import EulerMaruyamaIntegrator

    x, drift = randn(shape), randn(shape, 1)
    diffusion = torch.full((shape[0], *[1] * (len(shape) - 1)), 0.3)

    def run(integrator: Any) -> Run:
        return lambda: integrator.step({"x": x}, 0.01, diffusion=diffusion, drift=lambda *_: drift)

    return run(theirs), run(EulerMaruyamaIntegrator(noise=NOISE))


def ebmkit_predictor_corrector(shape: tuple[int, ...]) -> tuple[Run, Run]:
    theirs = rivals.get("ebmkit").samplers.PredictorCorrector
    from pyebm.integrations.ebmkit import PredictorCorrector

    x, score, sigmas = randn(shape), randn(shape, 1), torch.tensor([2.0, 1.5])

    def run(cls: Any, **noise: Any) -> Run:
        sampler = cls(sigmas, **noise)
        sampler._score_at = lambda *_: score
        return lambda: sampler.step(torch.sum, x)

    return run(theirs), run(PredictorCorrector, noise=NOISE)


# --- names alone: the package's own code, whose draws have names


def torchebm_riemannian(shape: tuple[int, ...]) -> tuple[Run, Run]:
    """A proposal of five leapfrog steps."""
    theirs = rivals.get("torchebm", "samplers").RiemannianManifoldHMC
    gaussian = rivals.get("torchebm", "core").GaussianModel
    from pyebm.integrations.torchebm import RiemannianManifoldHMC

    x, width = randn(shape), shape[1]
    model = gaussian(torch.zeros(width), torch.eye(width))

    def metric(x: Tensor) -> Tensor:
        return torch.eye(width) * (1 + 0.1 * x.square().sum(1))[:, None, None]

    def run(cls: Any, **noise: Any) -> Run:
        sampler = cls(model, metric, 0.1, 5, **noise)
        return lambda: sampler.sample(x, n_steps=1)

    return run(theirs), run(RiemannianManifoldHMC, noise=NOISE)


def energy(x: Tensor) -> Tensor:
    return 0.5 * x.square().sum(1)


def ebmkit_named(shape: tuple[int, ...], name: str) -> tuple[Run, Run]:
    """A step of a sampler that keeps ebmkit's code."""
    theirs = rivals.get("ebmkit").samplers
    from pyebm.integrations import ebmkit as ours

    x = randn(shape)

    def run(package: Any, **noise: Any) -> Run:
        made = {
            "NUTS": lambda: package.NUTS(0.3, warmup=0, **noise),
            "ParallelTempering": lambda: package.ParallelTempering(
                package.MALA(0.3, **noise), (1.0, 2.0), **noise
            ),
            "PreconditionedLangevin": lambda: package.PreconditionedLangevin(torch.ones(shape[1]), **noise),
        }[name]()
        return lambda: made.sample(energy, x, steps=1)

    return run(theirs), run(ours, noise=NOISE)
