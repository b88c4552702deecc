"""The rule of test_refusals.py for the adapters' newer calls, each with its own package."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hostile import count, flag, number, optional, refused, samples, seed
from peers import package
from public_adapters import images, seeded, with_numbers
from public_calls import NOISE, Call, energy, x
from test_package_refusals import integers, level

from pyebm.integrations import brownian, edm, ncsn, ncsnv2


def anything(value: Any) -> list[Any]:
    """For arguments that are taken and not used."""
    return [value]


limit = number(tensors=True, integers=True, infinite=True)


def nothing() -> dict[str, Call]:
    """The calls that need no package."""
    time = number(tensors=True, integers=True)
    return {
        "BrownianPath": Call(
            lambda **given: brownian.BrownianPath(**given)(0.5, 2.0),
            lambda: {"x": images(), "noise": NOISE.at(step=0)},
            {"x": samples, "noise": refused},
        ),
        "BrownianPath()": Call(
            brownian.BrownianPath(images(), NOISE.at(step=0)),
            lambda: {"t0": 0.25, "t1": 3.0},
            {"t0": time, "t1": time},
        ),
        "BrownianTreeNoiseSampler": Call(
            lambda **given: brownian.BrownianTreeNoiseSampler(**given)(0.5, 2.0),
            lambda: {"x": images(), "sigma_min": 0.1, "sigma_max": 10.0, "seed": 1},
            {"x": samples, "seed": lambda value: [] if isinstance(value, torch.Tensor) else seed(value)}
            | {"transform": refused},
        ),
        "BrownianTreeNoiseSampler()": Call(
            brownian.BrownianTreeNoiseSampler(images(), seed=1),
            lambda: {"sigma": 0.25, "sigma_next": 3.0},
            {"sigma": time, "sigma_next": time},
        ),
        **ncsn_losses(),
        **edm_losses(),
        **edm_samplers(),
    }


class Denoiser:
    """A denoiser of EDM's shape, with a log variance where it is asked for."""

    sigma_min, sigma_max, round_sigma = 0.01, 50.0, staticmethod(torch.as_tensor)

    def __call__(
        self, x: Any, sigma: Any, _labels: Any, augment_labels: Any = None, return_logvar: bool = False
    ) -> Any:
        del augment_labels
        return (0.5 * x, torch.zeros_like(sigma)) if return_logvar else 0.5 * x


def ncsn_losses() -> dict[str, Call]:
    labels, levels = torch.tensor([0, 1, 1]), torch.tensor([1.0, 0.5])
    calls = {
        "dsm": Call(
            ncsn.dsm,
            lambda: {"energy_net": energy, "samples": images(), "sigma": 0.5, "noise": NOISE},
            {"energy_net": refused, "samples": samples, "sigma": number(0), "noise": optional},
        ),
        "dsm_score_estimation": Call(
            ncsn.dsm_score_estimation,
            lambda: {"scorenet": torch.neg, "samples": images(), "sigma": 0.5, "noise": NOISE},
            {"scorenet": refused, "samples": samples, "sigma": number(0, True), "noise": optional},
        ),
        "anneal_sliced_score_estimation_vr": Call(
            ncsn.anneal_sliced_score_estimation_vr,
            lambda: (
                {"scorenet": lambda x, _: -x, "samples": images(), "labels": labels, "sigmas": levels}
                | {"noise": NOISE}
            ),
            {"scorenet": refused, "labels": refused, "n_particles": count(1, 64), "noise": optional},
        ),
        "anneal_Langevin_dynamics_interpolation": Call(
            ncsnv2.anneal_Langevin_dynamics_interpolation,
            lambda: (
                {"x_mod": images(), "scorenet": lambda x, _: -x, "sigmas": [1.0, 0.5]}
                | {"n_interpolations": 2, "n_steps_each": 1, "noise": NOISE}
            ),
            {"x_mod": with_numbers, "scorenet": refused, "n_interpolations": count(1, 64)}
            | {"n_steps_each": count(0, 64), "step_lr": number(0), "final_only": flag, "noise": optional},
        ),
    }
    for name, net, function in (
        ("sliced_score_matching", "energy_net", energy),
        ("sliced_score_estimation_vr", "score_net", torch.neg),
    ):
        calls[name] = Call(
            getattr(ncsn, name),
            lambda net=net, function=function: {net: function, "samples": images(), "noise": NOISE},
            {net: refused, "samples": samples, "n_particles": count(1, 64), "noise": optional},
        )
    return calls


def edm_losses() -> dict[str, Call]:
    positive = number(0, True)
    options = {
        edm.VELoss: {"sigma_min": positive, "sigma_max": positive},
        edm.VPLoss: {"beta_d": number(0), "beta_min": positive, "epsilon_t": positive},
        edm.EDM2Loss: {"P_mean": number(), "P_std": number(0), "sigma_data": positive},
    }
    calls: dict[str, Call] = {}
    for cls, kinds in options.items():
        calls[cls.__name__] = Call(
            lambda cls=cls, **given: cls(**given)(Denoiser(), images()),
            lambda: {"noise": NOISE},
            kinds | {"noise": optional, "reduction": refused},
        )
        augment = {} if cls is edm.EDM2Loss else {"augment_pipe": optional}
        calls[f"{cls.__name__}()"] = Call(
            lambda cls=cls, **given: cls(noise=NOISE)(**given),
            lambda: {"net": Denoiser(), "images": images()},
            {"net": refused, "images": samples} | augment,
        )
    return calls


def edm_samplers() -> dict[str, Call]:
    level = number(0, True)
    kinds = {
        "net": refused,
        "latents": with_numbers,
        "randn_like": optional,
        "num_steps": count(1, 1000),
        "sigma_min": level,
        "sigma_max": level,
        "rho": level,
        "S_churn": number(),
        "S_min": limit,
        "S_max": limit,
        "S_noise": number(),
    }
    more = dict.fromkeys(("solver", "discretization", "schedule", "scaling"), refused)
    more |= {"epsilon_s": level, "C_1": level, "C_2": level, "M": count(1, 1000), "alpha": level}
    more |= {"sigma_min": number(0, True, none=True), "sigma_max": number(0, True, none=True)}

    def good() -> dict[str, Any]:
        return {"net": Denoiser(), "latents": images(), "randn_like": NOISE, "num_steps": 2}

    return {
        "edm_sampler": Call(edm.edm_sampler, good, kinds),
        "ablation_sampler": Call(edm.ablation_sampler, good, kinds | more),
    }


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
    return calls


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
    return calls


CALLS = {"ebm": ebmkit, "torchebm": torchebm, "": nothing, "k_diffusion": k_diffusion, "diffusers": diffusers}


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
