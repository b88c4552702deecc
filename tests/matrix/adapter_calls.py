"""The adapters' calls, as functions of one tensor and a Noise. One whose package is missing is left
out of a run, and stays in the table."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import peers
import torch
from calls import CALLS, Parts, call, score
from torch import Tensor, nn

from pyebm import Noise

LEVELS = torch.tensor([1.0, 0.5, 0.1])


def one_for_all(x: Tensor, value: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """The same for each sample, so that a part of a batch has what the whole has."""
    return torch.full((len(x),), value, dtype=dtype, device=x.device)


class Denoiser(nn.Module):
    def forward(self, x: Tensor, *_: object, **__: object) -> Tensor:
        return x / (1 + x**2)


class VP:
    """A variance-preserving SDE with score_sde's attributes."""

    T, N, beta_0, beta_1 = 1, 10, 0.1, 20.0
    discrete_betas = torch.linspace(0.01, 0.5, 10)

    def discretize(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        beta = 0.05 + 0.4 * t
        return ((1 - beta).sqrt().reshape(-1, *[1] * (x.dim() - 1)) - 1) * x, beta.sqrt()


@call("ncsnv2: anneal_dsm_score_estimation", "loss", "perturb", "")
def _ncsnv2_loss(x: Tensor, noise: Noise, _: Parts) -> Tensor:
    from pyebm.integrations.ncsnv2 import anneal_dsm_score_estimation

    levels = LEVELS.to(x.device)
    return anneal_dsm_score_estimation(
        lambda x, _: score(x), x, levels, one_for_all(x, 1, torch.int64), noise=noise
    )


@call("score_sde: reverse_diffusion", "function", "affine_step", "")
def _predictor(x: Tensor, noise: Noise, _: Parts) -> Tensor:
    from pyebm.integrations.score_sde import predictors

    predictor = predictors(noise)["reverse_diffusion"](VP(), lambda x, _: score(x))
    return predictor.update_fn(x, one_for_all(x, 0.5))[0]


@call("edm: EDMLoss", "function", "perturb", "")
def _edm_loss(x: Tensor, noise: Noise, _: Parts) -> Tensor:
    from pyebm.integrations.edm import EDMLoss

    return EDMLoss(noise=noise)(Denoiser(), x)


@call("diffusers: add_noise, loss", "loss", "(add_noise|perturb)", "diffusers")
def _diffusers_loss(x: Tensor, noise: Noise, _: Parts) -> Tensor:
    from pyebm.integrations import diffusers as fused

    times = one_for_all(x, 500, torch.int64)
    noisy, noised = fused.add_noise(OBJECTS["diffusers"], x, noise, times)
    return fused.loss(score(noisy), noised)


@call("diffusers: DDPMScheduler.step", "function", "(affine_)?step", "diffusers")
def _diffusers_step(x: Tensor, noise: Noise, _: Parts) -> Tensor:
    return OBJECTS["diffusers"].step(score(x), 500, x, generator=noise).prev_sample


@call("k-diffusion: Denoiser.loss", "function", "perturb", "k_diffusion")
def _k_diffusion_loss(x: Tensor, noise: Noise, _: Parts) -> Tensor:
    sigma = one_for_all(x, 0.5)
    return OBJECTS["k_diffusion"].loss(x, noise, sigma)


@call("torchebm: EulerMaruyamaIntegrator.step", "function", "affine_step", "torchebm")
def _torchebm_step(x: Tensor, noise: Noise, _: Parts) -> Tensor:
    step = OBJECTS["torchebm"].step
    return step({"x": x}, 0.1, drift=lambda x, _: score(x), noise_scale=0.7, noise=noise)["x"]


@call("ebmkit: LangevinDynamics.step", "sampler", "affine_step", "ebm")
def _ebmkit_step(x: Tensor, noise: Noise, _: Parts) -> Tensor:
    from pyebm.integrations.ebmkit import LangevinDynamics

    with torch.enable_grad():
        return LangevinDynamics(0.1, noise=noise).step(lambda x: (x**4).sum(1) / 4, x)


def objects() -> dict[str, Any]:
    """Those of the packages that are here, made once and outside of whatever is done to a call."""
    made: dict[str, Any] = {}
    for package in ("diffusers", "k_diffusion", "torchebm"):
        if importlib.util.find_spec(package) is None:
            continue
        peers.package(package)  # which k-diffusion needs beside an import
        module = importlib.import_module(f"pyebm.integrations.{package}")
        if package == "diffusers":
            made[package] = module.DDPMScheduler()
            made[package].set_timesteps(10)
        elif package == "k_diffusion":
            made[package] = module.Denoiser(Denoiser(), sigma_data=0.5)
        else:
            made[package] = module.EulerMaruyamaIntegrator()
    return made


OBJECTS = objects()
RUNNABLE = {name: one for name, one in CALLS.items() if one.runs}
