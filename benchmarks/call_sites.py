"""Both sides of each call site that pyebm.integrations replaces: the code around the network, for a
given network output.

Each function returns two callables: the package's own code (or a repository's published code), and
the same through its adapter.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

import pyebm

from . import rivals
from .timing import Run

NOISE = pyebm.Noise(0)
SIGMAS = torch.logspace(1.7, -2, 200)


def randn(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def with_gradient(loss: Callable[[Callable[..., Tensor]], Tensor], shape: tuple[int, ...]) -> Run:
    """Runs the loss with a network that returns a fixed output, and takes the gradient in that
    output."""
    output = randn(shape, 1).requires_grad_()
    return lambda: torch.autograd.grad(loss(lambda *_, **__: output).sum(), output)


def diffusers_training(shape: tuple[int, ...], kind: str, gamma: float | None) -> tuple[Run, Run]:
    theirs = rivals.get("diffusers")
    compute_snr = rivals.get("diffusers", "training_utils").compute_snr
    from pyebm.integrations import diffusers as ours

    scheduler, x0 = theirs.DDPMScheduler(), randn(shape)
    times = torch.randint(0, 1000, shape[:1], generator=torch.Generator().manual_seed(0))

    def their_loss(net: Callable[..., Tensor]) -> Tensor:
        z = torch.randn_like(x0)
        pred = net(scheduler.add_noise(x0, z, times))
        target = z if kind == "epsilon" else scheduler.get_velocity(x0, z, times)
        if gamma is None:
            return mse_loss(pred.float(), target.float())
        snr = compute_snr(scheduler, times)
        weight = torch.stack([snr, gamma * torch.ones_like(times)], dim=1).min(dim=1)[0] / (snr + 1)
        losses = mse_loss(pred.float(), target.float(), reduction="none")
        return (losses.mean(dim=list(range(1, losses.dim()))) * weight).mean()

    def our_loss(net: Callable[..., Tensor]) -> Tensor:
        noisy, noised = ours.add_noise(scheduler, x0, NOISE, times)
        return ours.loss(net(noisy), noised, kind, gamma)

    return with_gradient(their_loss, shape), with_gradient(our_loss, shape)


def diffusers_step(shape: tuple[int, ...], name: str) -> tuple[Run, Run]:
    theirs = rivals.get("diffusers")
    from pyebm.integrations import diffusers as ours

    x, output = randn(shape), randn(shape, 1)

    def run(package: Any) -> Run:
        if name == "DDPM":
            ddpm = package.DDPMScheduler()
            ddpm.set_timesteps(50)
            return lambda: ddpm.step(output, ddpm.timesteps[20], x)
        ve = package.ScoreSdeVeScheduler()
        ve.set_timesteps(100)
        ve.set_sigmas(100)
        return (
            (lambda: ve.step_pred(output, ve.timesteps[50], x))
            if name == "pred"
            else (lambda: ve.step_correct(output, x))
        )

    return run(theirs), run(ours)


def k_diffusion_loss(shape: tuple[int, ...]) -> tuple[Run, Run]:
    theirs = rivals.get("k-diffusion", "layers").Denoiser
    from pyebm.integrations.k_diffusion import Denoiser

    x0, sigma = randn(shape), (randn(shape[:1]) - 1).exp()

    def run(cls: Any, noise: Callable[[], Any]) -> Run:
        return with_gradient(lambda net: cls(Module(net), 0.5).loss(x0, noise(), sigma), shape)

    return run(theirs, lambda: torch.randn_like(x0)), run(Denoiser, lambda: NOISE)


class Module(torch.nn.Module):
    """Wraps a function where a package wants a module."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.function(*args, **kwargs)


def k_diffusion_path(shape: tuple[int, ...]) -> tuple[Run, Run]:
    """The noise of a run of DPM++ SDE with 20 steps: a new sampler, and two queries a step."""
    theirs = rivals.get("k-diffusion", "sampling").BrownianTreeNoiseSampler
    from pyebm.integrations.k_diffusion import BrownianTreeNoiseSampler

    x, sigmas = randn(shape), torch.linspace(1, 0, 21).square() * 14 + 0.1

    def run(cls: Any, seed: Any) -> Run:
        def queried() -> list[Tensor]:
            draw = cls(x, 0.05, 20.0, seed=seed)
            return [
                draw(before, after)
                for before, last in itertools.pairwise(sigmas)
                for after in ((before * last).sqrt(), last)
            ]

        return queried

    return run(theirs, 0), run(BrownianTreeNoiseSampler, NOISE)


def ncsnv2_loss(shape: tuple[int, ...]) -> tuple[Run, Run]:
    from pyebm.integrations.ncsnv2 import anneal_dsm_score_estimation

    x = randn(shape)
    labels = torch.randint(0, 200, shape[:1], generator=torch.Generator().manual_seed(0))

    def published(net: Callable[..., Tensor]) -> Tensor:
        s = SIGMAS[labels].view(-1, *[1] * (x.dim() - 1))
        noise = torch.randn_like(x) * s
        target = -1 / s**2 * noise
        scores = net(x + noise, labels).flatten(1)
        return (0.5 * ((scores - target.flatten(1)) ** 2).sum(-1) * s.flatten() ** 2).mean()

    return (
        with_gradient(published, shape),
        with_gradient(lambda net: anneal_dsm_score_estimation(net, x, SIGMAS, labels, noise=NOISE), shape),
    )


def ncsnv2_step(shape: tuple[int, ...]) -> tuple[Run, Run]:
    from pyebm.integrations.ncsnv2 import anneal_Langevin_dynamics

    x, score = randn(shape), randn(shape, 1)

    def published() -> Tensor:
        state = x
        for _ in range(10):
            state = state + 1e-5 * score + torch.randn_like(state) * 2e-5**0.5
        return state

    def ours() -> Any:
        return anneal_Langevin_dynamics(
            x, lambda *_: score, [1.0], 10, 1e-5, final_only=True, denoise=False, noise=NOISE
        )

    return published, ours


class VE:
    """The VE SDE with the attributes of score_sde's SDE objects."""

    T, N = 1, 1000
    discrete_sigmas = torch.logspace(-2, 1.7, 1000)

    def marginal_prob(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return x, 0.01 * 5000.0**t

    def discretize(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        index = (t * (self.N - 1)).long()
        g = (self.discrete_sigmas[index] ** 2 - self.discrete_sigmas[index - 1] ** 2).sqrt()
        return torch.zeros_like(x), g


def score_sde_loss(shape: tuple[int, ...]) -> tuple[Run, Run]:
    from pyebm.integrations.score_sde import get_sde_loss_fn

    x, sde = randn(shape), VE()
    ours = get_sde_loss_fn(sde, True, likelihood_weighting=False, noise=NOISE)

    def published(net: Callable[..., Tensor]) -> Tensor:
        t = torch.rand(x.shape[0]) * (1 - 1e-5) + 1e-5
        z = torch.randn_like(x)
        mean, std = sde.marginal_prob(x, t)
        wide = std.view(-1, *[1] * (x.dim() - 1))
        losses = torch.square(net(mean + wide * z, std) * wide + z)
        return losses.flatten(1).mean(-1).mean()

    return with_gradient(published, shape), with_gradient(lambda net: ours(Module(net), x), shape)


def score_sde_step(shape: tuple[int, ...]) -> tuple[Run, Run]:
    from pyebm.integrations.score_sde import correctors, predictors

    x, score, t, sde = randn(shape), randn(shape, 1), torch.full(shape[:1], 0.5), VE()
    corrector = correctors(NOISE)["langevin"](sde, lambda *_: score, 0.16, 1)
    predictor = predictors(NOISE)["reverse_diffusion"](sde, lambda *_: score)

    def published() -> Any:
        z = torch.randn_like(x)
        eps = (
            (0.16 * z.flatten(1).norm(dim=-1).mean() / score.flatten(1).norm(dim=-1).mean()) ** 2
            * 2
            * torch.ones_like(t)
        )
        wide = eps.view(-1, *[1] * (x.dim() - 1))
        corrected = x + wide * score + torch.sqrt(wide * 2) * z
        f, g = sde.discretize(corrected, t)
        wide = g.view(-1, *[1] * (x.dim() - 1))
        mean = corrected - (f - wide**2 * score)
        return mean + wide * torch.randn_like(x), mean

    return published, lambda: predictor.update_fn(corrector.update_fn(x, t)[0], t)


def edm_loss(shape: tuple[int, ...], reduction: str) -> tuple[Run, Run]:
    from pyebm.integrations.edm import EDMLoss

    y, loss = randn(shape), EDMLoss(noise=NOISE, reduction=reduction)

    def published(net: Callable[..., Tensor]) -> Tensor:
        sigma = (torch.randn([y.shape[0], 1, 1, 1]) * 1.2 - 1.2).exp()
        weight = (sigma**2 + 0.25) / (sigma * 0.5) ** 2
        return weight * (net(y + torch.randn_like(y) * sigma, sigma) - y) ** 2

    return with_gradient(published, shape), with_gradient(lambda net: loss(net, y), shape)
