"""The rule of test_refusals.py for the adapters' newer calls, each with its own package."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hostile import count, flag, number, optional, refused, samples
from peers import package
from public_adapters import images, seeded, with_numbers
from public_calls import NOISE, Call, energy, x
from public_more_adapters import limit, package_free
from test_package_refusals import integers, level


def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    return x / (1 + sigma.reshape(-1, *[1] * (x.dim() - 1)) ** 2)


def k_diffusion() -> dict[str, Call]:
    from pyebm.integrations import k_diffusion as ours

    abar = torch.linspace(0.999, 0.01, 10)
    network = {
        "DenoiserWithVariance": ours.DenoiserWithVariance(
            lambda x, sigma, return_variance: (x, sigma if return_variance else None)
        ),
        "SimpleLossDenoiser": ours.SimpleLossDenoiser(lambda x, _: x, sigma_data=0.5),
        "VDenoiser": ours.VDenoiser(lambda x, _: x),
        "DiscreteEpsDDPMDenoiser": ours.DiscreteEpsDDPMDenoiser(lambda x, _: x, abar, quantize=True),
        "DiscreteVDDPMDenoiser": ours.DiscreteVDDPMDenoiser(lambda x, _: x, abar, quantize=True),
    }
    losses = {
        f"{name}.loss": Call(
            made.loss,
            lambda: {"input": images(), "noise": NOISE, "sigma": torch.tensor([0.1, 0.5, 1.0])},
            {"input": samples, "noise": refused, "sigma": level},
        )
        for name, made in network.items()
    }
    samplers = {
        name: Call(
            getattr(ours, name),
            lambda: {
                "model": denoise,
                "x": images(),
                "sigmas": torch.tensor([2.0, 1.0, 0.0]),
                "disable": True,
                "noise": NOISE,
            },
            {
                "model": refused,
                "x": samples,
                "sigmas": refused,
                "extra_args": lambda value: [value] * (value is None or value == {}),
                "callback": optional,
                "s_churn": number(),
                "s_tmin": limit,
                "s_tmax": limit,
                "s_noise": number(),
                "noise": optional,
            },
        )
        for name in ("sample_euler", "sample_heun", "sample_dpm_2")
    }
    return losses | samplers


def diffusers() -> dict[str, Call]:
    from diffusers import FlowMatchEulerDiscreteScheduler

    from pyebm.integrations import diffusers as ours

    flow = FlowMatchEulerDiscreteScheduler()
    noised = ours.add_flow_noise(flow, images(), NOISE, flow.timesteps[[1, 5, 9]])[1]
    calls = {
        "add_flow_noise": Call(
            lambda **given: ours.add_flow_noise(**given)[0],
            lambda: {"scheduler": flow, "latents": images(), "noise": NOISE, "timesteps": flow.timesteps[:3]},
            {"scheduler": refused, "latents": with_numbers, "noise": refused},
        ),
        "flow_loss": Call(
            ours.flow_loss,
            lambda: {"model_pred": images(), "noised": noised},
            {"model_pred": samples, "noised": refused, "weighting_scheme": refused}
            | {"precondition_outputs": flag, "reduction": refused},
        ),
        "density_timesteps": Call(
            ours.density_timesteps,
            lambda: {"scheduler": flow, "noise": NOISE, "batch": 3, "weighting_scheme": "logit_normal"},
            {"scheduler": refused, "noise": refused, "batch": count(0, 2**20), "weighting_scheme": refused}
            | {"logit_mean": number(), "logit_std": number(0), "mode_scale": number(), "device": optional},
        ),
    }
    options = {
        "DDIMScheduler": {"eta": number(0), "use_clipped_model_output": flag},
        "LCMScheduler": {},
        "TCDScheduler": {"eta": number(0, high=1.01)},
        "EulerDiscreteScheduler": {
            "s_churn": number(),
            "s_noise": number(),
            "s_tmin": limit,
            "s_tmax": limit,
        },
        "EulerAncestralDiscreteScheduler": {},
        "FlowMatchEulerDiscreteScheduler": {},
    }
    for name, kinds in options.items():

        def step(name: str = name, **given: Any) -> Any:
            scheduler = getattr(ours, name)()
            scheduler.set_timesteps(5)
            return scheduler.step(timestep=scheduler.timesteps[1], return_dict=False, **given)

        good = {"model_output": images(), "sample": images(), "generator": NOISE}
        calls[f"{name}.step"] = Call(
            step,
            lambda good=good: good,
            {"model_output": refused, "sample": refused, "generator": optional} | kinds,
        )
    return calls


def torchebm() -> dict[str, Call]:
    from torchebm.core import GaussianModel

    from pyebm.integrations import torchebm as ours

    model = GaussianModel(torch.zeros(4), torch.eye(4))
    calls = {
        name: Call(
            lambda name=name, **given: getattr(ours, name)(model, noise=NOISE).compute_loss(**given),
            lambda: {"x": x()},
            {"x": lambda value: with_numbers(value) or integers(value)},
        )
        for name in ("ScoreMatching", "SlicedScoreMatching")
    }
    calls["HamiltonianMonteCarlo"] = Call(
        lambda **given: ours.HamiltonianMonteCarlo(model, 0.1, 2, **given).sample(x(), n_steps=2),
        lambda: {"noise": NOISE},
        {"noise": optional},
    )
    for name in ("FlowMatchingLoss", "EquilibriumMatchingLoss"):
        calls[name] = Call(
            lambda name=name, **given: getattr(ours, name)(Still(), noise=NOISE).training_losses(**given)[
                "loss"
            ],
            lambda: {"x1": x()},
            {"x1": lambda value: with_numbers(value) or integers(value)},
        )
    return calls


class Still(torch.nn.Module):
    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        del t
        return -x


def ebmkit() -> dict[str, Call]:
    from pyebm.integrations import ebmkit as ours

    calls = {}
    for name, kinds in {
        "UnderdampedLangevin": {"step_size": number(0), "friction": number(0)},
        "MALA": {"step_size": number(0, True)},
        "HMC": {"step_size": number(0), "leapfrog_steps": count(1, 64)},
    }.items():
        calls[name] = Call(
            lambda name=name, **given: getattr(ours, name)(**given).step(energy, x()),
            lambda: {"noise": NOISE},
            kinds | {"noise": optional},
        )
        calls[f"{name}.step"] = Call(
            lambda name=name, **given: getattr(ours, name)(noise=NOISE).step(**given),
            lambda: {"energy": energy, "x": x()},
            {"energy": refused, "x": samples},
        )
    ladder = torch.tensor([2.0, 1.0])
    calls["PredictorCorrector.step"] = Call(
        lambda **given: ours.PredictorCorrector(ladder, noise=NOISE).step(**given),
        lambda: {"energy": lambda x, _: energy(x), "x": x()},
        {"energy": refused},
    )
    return calls


CALLS = {
    "ebm": ebmkit,
    "torchebm": torchebm,
    "": package_free,
    "k_diffusion": k_diffusion,
    "diffusers": diffusers,
}


@pytest.mark.filterwarnings("ignore")  # warnings about torch's prototypes
@pytest.mark.parametrize("name", CALLS)
def test_is_refused_by_name_or_right(name):
    if name:
        package(name)
    wrong = []
    for call, table in CALLS[name]().items():
        again = table._replace(function=seeded(table.function))
        wrong += [
            f"{call}({argument}=...): {said}" for argument in table.kinds for said in again.wrong(argument)
        ]
    assert not wrong, "\n".join(wrong)
