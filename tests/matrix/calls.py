"""The table's calls: every public function of tensors, as a function of one tensor, a Noise, and
the objects it needs."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import torch
from cases import normal
from torch import Tensor, nn

import pyebm
from pyebm import Noise, samplers, targets

NOISE = Noise(3, step=2)


def samples(dtype: torch.dtype = torch.float32, batch: int = 4, seed: int = 0) -> Tensor:
    return normal(batch, 2, dtype=dtype, seed=seed)


def energy(x: Tensor) -> Tensor:
    square = x * x  # torch's own powers have other bits under vmap
    return (square * square).sum(1) / 4


def score(x: Tensor) -> Tensor:
    return -(x**3)


def score_at(x: Tensor, level: Tensor) -> Tensor:
    return -x / (1 + level.reshape(-1, 1)).to(x.dtype)


class Parts(nn.Module):
    """The objects: targets, losses, and samplers around functions and around targets."""

    def __init__(self) -> None:
        super().__init__()
        self.well = targets.DoubleWell()
        self.gaussian = targets.Gaussian(torch.tensor([0.5, -1.0]), torch.tensor([2.0, 0.5]))
        self.full = targets.Gaussian(covariance=torch.tensor([[1.0, 0.5], [0.5, 2.0]]))
        self.mixture = targets.GaussianMixture(torch.tensor([[-1.0, 0.0], [1.0, 0.5]]), 0.7)
        self.dsm = pyebm.losses.DSMLoss(weight="sigma2")
        self.denoising = pyebm.losses.DenoisingLoss(reduction="sample")
        self.langevin = [samplers.Langevin(score, 0.1), samplers.Langevin(self.well, 0.01)]
        self.annealed = samplers.AnnealedLangevin(score_at, [1.0, 0.5], 0.1, 2)
        self.predictor = samplers.PredictorCorrector(score_at, samplers.VE(), 3)
        self.mala = [samplers.MALA(energy, 0.1), samplers.MALA(self.well, 0.01)]
        self.hmc = [samplers.HMC(energy, 0.1, 2), samplers.HMC(self.well, 0.05, 2)]
        self.underdamped = [
            samplers.UnderdampedLangevin(score, 0.1),
            samplers.UnderdampedLangevin(self.well, 0.01),
        ]

    @property
    def targets(self) -> list[targets.Target]:
        return [self.well, self.gaussian, self.full, self.mixture]

    @property
    def normalised(self) -> list[targets.Target]:
        return [self.gaussian, self.full, self.mixture]


Function = Callable[[Tensor, Noise, Parts], Tensor]


@dataclass(frozen=True)
class Call:
    """A row of the table: ``run(x, noise, parts)`` makes the call, and ``op`` is its name in an
    error."""

    name: str
    run: Function
    kind: str
    op: str
    package: str | None = None
    """What an adapter's call needs; "" for nothing. None where it is no adapter's."""

    def __call__(self, x: Tensor) -> Tensor:
        return self.run(x, NOISE, PARTS)

    @property
    def constant(self) -> bool:
        """Whether its result is a constant to autograd: a draw, or a sampler's, which runs under
        no_grad."""
        return self.kind in ("draw", "sampler")

    @property
    def runs(self) -> bool:
        """Whether its package is here."""
        return not self.package or importlib.util.find_spec(self.package) is not None

    @property
    def in_place(self) -> bool:
        """Whether x must not require grad."""
        return self.kind == "in place"


CALLS: dict[str, Call] = {}
PARTS = Parts()


def call(
    name: str, kind: str, op: str | None = None, package: str | None = None
) -> Callable[[Function], Function]:
    def register(run: Function) -> Function:
        CALLS[name] = Call(name, run, kind, op or name, package)
        return run

    return register


def stacked(results: list[Tensor]) -> Tensor:
    """The results of several objects, by sample: (B, objects, ...)."""
    return torch.stack(results, 1)


@call("perturb", "function")
def _perturb(x: Tensor, noise: Noise, _: Parts) -> Tensor:
    return pyebm.perturb(x, 0.5, noise, alpha=0.8)


@call("dsm_loss", "loss")
def _dsm_loss(x: Tensor, noise: Noise, _: Parts) -> Tensor:
    return pyebm.dsm_loss(x, 0.5, noise)


@call("denoising_loss", "loss")
def _denoising_loss(x: Tensor, noise: Noise, _: Parts) -> Tensor:
    return pyebm.denoising_loss(x, noise, lam=-0.7, kappa=0.5, weight=2.0)


@call("DSMLoss", "loss", "dsm_loss")
def _dsm_module(x: Tensor, noise: Noise, parts: Parts) -> Tensor:
    return parts.dsm(x, 0.5, noise)


@call("DenoisingLoss", "function", "denoising_loss")
def _denoising_module(x: Tensor, noise: Noise, parts: Parts) -> Tensor:
    return parts.denoising(x, noise)


@call("fisher_divergence", "loss")
def _fisher_divergence(x: Tensor, _: Noise, parts: Parts) -> Tensor:
    return pyebm.fisher_divergence(score, parts.gaussian, x)


@call("score_matching", "loss")
def _score_matching(x: Tensor, _: Noise, parts: Parts) -> Tensor:
    return pyebm.score_matching(score, x) + pyebm.score_matching(parts.well, x)


@call("sliced_score_matching", "loss")
def _sliced_score_matching(x: Tensor, noise: Noise, _: Parts) -> Tensor:
    reduced = pyebm.sliced_score_matching(score, x, noise, 2)
    return reduced + pyebm.sliced_score_matching(score, x, noise, 2, "sphere", False)


@call("denoising_score_matching", "loss")
def _denoising_score_matching(x: Tensor, noise: Noise, _: Parts) -> Tensor:
    return pyebm.denoising_score_matching(score, x, [0.5, 1.0], noise)


@call("contrastive_divergence", "loss")
def _contrastive_divergence(x: Tensor, _: Noise, __: Parts) -> Tensor:
    return pyebm.contrastive_divergence(energy, x, 0.5 * x, l2=0.1)


@call("langevin_step", "function")
def _langevin_step(x: Tensor, noise: Noise, _: Parts) -> Tensor:
    return pyebm.langevin_step(x, score(x), 0.1, noise, clamp=(-3.0, 3.0))


@call("langevin_step_", "in place")
def _langevin_step_(x: Tensor, noise: Noise, _: Parts) -> Tensor:
    return pyebm.langevin_step_(x.clone(), score(x), 0.1, noise)


@call("affine_step", "function")
def _affine_step(x: Tensor, noise: Noise, _: Parts) -> Tensor:
    return pyebm.affine_step(x, score(x), 0.9, 0.1, 0.3, noise)


@call("langevin_chain", "function")
def _langevin_chain(x: Tensor, noise: Noise, parts: Parts) -> Tensor:
    return stacked(
        [pyebm.langevin_chain(x, target, 3, 0.01, noise) for target in (parts.well, parts.mixture)]
    )


@call("energy_score", "function")
def _energy_score(x: Tensor, _: Noise, __: Parts) -> Tensor:
    return pyebm.energy_score(energy, x, create_graph=True)


@call("Target.energy", "target", "energy")
def _energy(x: Tensor, _: Noise, parts: Parts) -> Tensor:
    return stacked([target.energy(x) for target in parts.targets])


@call("Target.score", "target", "score")
def _score(x: Tensor, _: Noise, parts: Parts) -> Tensor:
    return stacked([target.score(x) for target in parts.targets])


@call("Target.log_prob", "target", "log_prob")
def _log_prob(x: Tensor, _: Noise, parts: Parts) -> Tensor:
    return stacked([target.log_prob(x) for target in parts.normalised])


@call("Target.sample", "draw")
def _sample(x: Tensor, noise: Noise, parts: Parts) -> Tensor:
    return stacked([target.sample(x.shape[0], noise, dtype=x.dtype) for target in parts.normalised])


@call("Noise.randn", "draw")
def _randn(x: Tensor, noise: Noise, _: Parts) -> Tensor:
    return noise.randn(x.shape, dtype=x.dtype, device=x.device)


@call("Noise.rand", "draw")
def _rand(x: Tensor, noise: Noise, _: Parts) -> Tensor:
    return noise.rand(x.shape, dtype=x.dtype, device=x.device)


@call("Langevin", "sampler")
def _langevin(x: Tensor, noise: Noise, parts: Parts) -> Tensor:
    return stacked([sampler(x, 3, noise=noise) for sampler in parts.langevin])


@call("AnnealedLangevin", "sampler")
def _annealed(x: Tensor, noise: Noise, parts: Parts) -> Tensor:
    return parts.annealed(x, noise=noise.at(step=0))


@call("PredictorCorrector", "sampler")
def _predictor_corrector(x: Tensor, noise: Noise, parts: Parts) -> Tensor:
    return parts.predictor(x, noise=noise.at(step=0))


@call("MALA", "sampler")
def _mala(x: Tensor, noise: Noise, parts: Parts) -> Tensor:
    return stacked([sampler(x, 3, noise=noise) for sampler in parts.mala])


@call("HMC", "sampler")
def _hmc(x: Tensor, noise: Noise, parts: Parts) -> Tensor:
    return stacked([sampler(x, 3, noise=noise) for sampler in parts.hmc])


@call("UnderdampedLangevin", "sampler")
def _underdamped(x: Tensor, noise: Noise, parts: Parts) -> Tensor:
    return stacked([sampler(x, 3, noise=noise) for sampler in parts.underdamped])


class Model(nn.Module):
    """A layer, and the call of what it makes: a scalar that has a gradient even where the call is a
    constant to autograd."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net, self.parts, self.call = nn.Linear(2, 2), Parts(), call

    def forward(self, x: Tensor, noise: Noise = NOISE) -> Tensor:
        x = self.net(x)
        given = x.detach() if self.call.in_place else x
        return self.call.run(given, noise, self.parts).mean() + x.square().mean()


class Exported(nn.Module):
    """The call alone as a module, with its Noise inside."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.parts, self.run = Parts(), call.run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x, NOISE, self.parts)
