"""The rule of test_refusals.py for the adapters of packages: our code checks these arguments;
the packages check their own."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hostile import flag, number, optional, refused, samples
from peers import package
from public_adapters import images, seeded, with_numbers
from public_calls import NOISE, Call, energy, x

from pyebm.integrations import _packages


def ebmkit() -> dict[str, Call]:
    from pyebm.integrations.ebmkit import LangevinDynamics

    return {
        "LangevinDynamics": Call(
            lambda **given: LangevinDynamics(**given).step(energy, x()),
            lambda: {"noise": NOISE},
            {
                "step_size": number(0),
                "noise_scale": number(none=True),
                "grad_clip": number(0, none=True),
                "noise": optional,
            },
        ),
        "LangevinDynamics.step": Call(
            LangevinDynamics(noise=torch.zeros_like).step,
            lambda: {"energy": energy, "x": x()},
            {"energy": refused, "x": samples},
        ),
    }


def torchebm() -> dict[str, Call]:
    from torchebm.core import GaussianModel

    from pyebm.integrations.torchebm import DenoisingScoreMatching, EulerMaruyamaIntegrator

    model = GaussianModel(torch.zeros(4), torch.eye(4))
    return {
        "EulerMaruyamaIntegrator.step": Call(
            lambda **given: EulerMaruyamaIntegrator(noise=NOISE).step(**given, drift=lambda x, _: -x),
            lambda: {"state": {"x": x()}, "step_size": 0.1, "noise_scale": 1.0},
            {"state": refused, "step_size": number(0, tensors=True), "noise": optional},
        ),
        "EulerMaruyamaIntegrator": Call(
            lambda **given: EulerMaruyamaIntegrator(**given).step(
                {"x": x()}, 0.1, drift=lambda x, _: -x, noise_scale=1.0
            ),
            dict,
            {"noise": optional},
        ),
        "DenoisingScoreMatching": Call(
            lambda **given: DenoisingScoreMatching(model, **given)(x()),
            lambda: {"noise": NOISE},
            {"noise": optional},  # torchebm itself makes a float of noise_scale
        ),
        "DenoisingScoreMatching.compute_loss": Call(
            lambda **given: DenoisingScoreMatching(model, noise=NOISE).compute_loss(**given),
            lambda: {"x": x()},
            {"x": lambda value: with_numbers(value) or integers(value)},
        ),
    }


def integers(value: Any) -> list[Any]:
    """torchebm makes floats of int32 tensors."""
    return [value.float()] if isinstance(value, torch.Tensor) and value.dtype is torch.int32 else []


def k_diffusion() -> dict[str, Call]:
    from pyebm.integrations.k_diffusion import Denoiser, noise_sampler

    return {
        "Denoiser.loss": Call(
            Denoiser(lambda x, _: x, sigma_data=0.5).loss,
            lambda: {"input": images(), "noise": NOISE, "sigma": torch.tensor([0.1, 0.5, 1.0])},
            {"input": samples, "noise": refused, "sigma": level},
        ),
        "noise_sampler": Call(
            lambda **given: noise_sampler(**given)(1.0, 0.5),
            lambda: {"x": x(), "noise": NOISE},
            {"x": samples, "noise": optional},
        ),
    }


def level(value: Any) -> list[Any]:
    """A level for all samples may come as a tensor without dimensions."""
    one = isinstance(value, torch.Tensor) and not (value.is_nested or value.is_meta or value.is_complex())
    return [value.reshape(1)] if one and not value.dim() and value > 0 else []


def diffusers() -> dict[str, Call]:
    from diffusers import DDPMScheduler as Theirs

    from pyebm.integrations.diffusers import DDPMScheduler, ScoreSdeVeScheduler, add_noise, loss

    noised = add_noise(Theirs(), images(), NOISE, torch.tensor([1, 10, 500]))[1]
    ve = ScoreSdeVeScheduler(num_train_timesteps=100, sigma_max=10.0)
    ve.set_timesteps(10)
    ve.set_sigmas(10)
    step = {"model_output": images(), "sample": images(), "generator": NOISE, "return_dict": False}
    of_a_step = {"model_output": refused, "sample": refused, "generator": optional}
    return {
        "add_noise": Call(
            lambda **given: add_noise(**given)[0],
            lambda: {
                "scheduler": Theirs(),
                "latents": images(),
                "noise": NOISE,
                "timesteps": torch.tensor([1, 10, 500]),
            },
            {
                "scheduler": refused,
                "latents": lambda value: [tensor for tensor in with_numbers(value) if tensor.dim() > 1],
                "noise": refused,
                "noise_offset": number(),
                "input_perturbation": number(),
            },
        ),
        "loss": Call(
            loss,
            lambda: {"model_pred": images(), "noised": noised},
            {
                "model_pred": refused,
                "noised": refused,
                "prediction_type": optional,
                "snr_gamma": number(0, True, none=True),
                "reduction": refused,
            },
        ),
        "DDPMScheduler.step": Call(
            lambda **given: DDPMScheduler(num_train_timesteps=100).step(**given),
            lambda: step | {"timestep": 50},
            of_a_step | {"timestep": timestep},
        ),
        "ScoreSdeVeScheduler.step_pred": Call(
            lambda **given: copy.deepcopy(ve).step_pred(**given),
            lambda: step | {"timestep": 0.5},
            of_a_step | {"timestep": time},
        ),
        "ScoreSdeVeScheduler.step_correct": Call(
            lambda **given: copy.deepcopy(ve).step_correct(**given), lambda: step, of_a_step
        ),
    }


def timestep(value: Any) -> list[Any]:
    """0, 1 and 2 are timesteps, in whatever type they come."""
    if isinstance(value, torch.Tensor):
        integer = value.numel() == 1 and not (
            value.is_meta or value.is_floating_point() or value.is_complex()
        )
        return [int(value)] if integer else []
    return (
        [int(value)]
        if flag(value) and isinstance(value, bool)
        else [2]
        if type(value).__name__ == "int64"
        else []
    )


def time(value: Any) -> list[Any]:
    """Times are in [0, 1], one for all or one a sample."""
    return [one for one in number(0, tensors=True, integers=True)(value) if one <= 1]


CALLS = {"diffusers": diffusers, "torchebm": torchebm, "ebm": ebmkit, "k_diffusion": k_diffusion}


def test_every_package_is_here():
    assert set(CALLS) == set(_packages.TESTED)


@pytest.mark.filterwarnings("ignore")  # warnings about torch's prototypes
@pytest.mark.parametrize("name", CALLS)
def test_is_refused_by_name_or_right(name):
    package(name)
    wrong = []
    for call, table in CALLS[name]().items():
        again = table._replace(function=seeded(table.function))
        wrong += [
            f"{call}({argument}=...): {said}" for argument in table.kinds for said in again.wrong(argument)
        ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("scale", [0.0, -0.1, float("nan"), float("inf")])
def test_a_scale_of_noise_that_is_none(scale):
    package("torchebm")
    from torchebm.core import GaussianModel

    from pyebm.integrations.torchebm import DenoisingScoreMatching

    with pytest.raises(ValueError, match="DenoisingScoreMatching: noise_scale must be > 0 and finite"):
        DenoisingScoreMatching(GaussianModel(torch.zeros(4), torch.eye(4)), noise_scale=scale)
