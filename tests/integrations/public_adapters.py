"""The public calls of the adapters that need no package, and of the diagnostics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hostile import count, flag, number, optional, refused, samples
from public_calls import NOISE, Call, x
from public_samplers import level_score, sigmas
from sdes import SDES

from pyebm import Noise, diagnostics
from pyebm.integrations import edm, ncsnv2, score_sde

Kinds = dict[str, Callable[[Any], list[Any]]]


def network(
    x: torch.Tensor, sigma: torch.Tensor, labels: Any = None, augment_labels: Any = None
) -> torch.Tensor:
    del sigma, labels, augment_labels
    return -x


class Net(torch.nn.Module):
    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        del labels
        return -x


def images() -> torch.Tensor:
    return x().reshape(3, 1, 2, 2)


def times() -> torch.Tensor:
    return torch.tensor([0.2, 0.5, 0.8])


def with_numbers(value: Any) -> list[Any]:
    return [tensor for tensor in samples(value) if not tensor.is_meta]


def info(value: Any) -> list[Any]:
    return [None] if value is None or (value == {} and isinstance(value, dict)) else []


def seeded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Seeds torch's generator, which gives levels, times and fresh seeds."""

    def run(**given: Any) -> Any:
        torch.manual_seed(0)
        return function(**given)

    return run


CALLS: dict[str, Call] = {
    "anneal_dsm_score_estimation": Call(
        ncsnv2.anneal_dsm_score_estimation,
        lambda: {"scorenet": level_score, "samples": x(), "sigmas": torch.tensor([1.0, 0.5]), "noise": NOISE},
        {
            "scorenet": refused,
            "samples": samples,
            "sigmas": refused,
            "labels": optional,
            "anneal_power": number(),
            "hook": optional,
        }
        | {"noise": optional},
    ),
    "anneal_Langevin_dynamics": Call(
        ncsnv2.anneal_Langevin_dynamics,
        lambda: {
            "x_mod": x(),
            "scorenet": level_score,
            "sigmas": [1.0, 0.5],
            "n_steps_each": 1,
            "noise": NOISE,
        },
        {
            "x_mod": with_numbers,
            "scorenet": refused,
            "sigmas": sigmas,
            "n_steps_each": count(),
            "step_lr": number(0),
            "final_only": flag,
            "verbose": flag,
            "denoise": flag,
            "noise": optional,
        },
    ),
    "anneal_Langevin_dynamics_inpainting": Call(
        ncsnv2.anneal_Langevin_dynamics_inpainting,
        lambda: {
            "x_mod": images().reshape(3, 1, 1, 2, 2).clone(),
            "refer_image": images(),
            "scorenet": level_score,
            "sigmas": [1.0, 0.5],
            "image_size": 2,
            "n_steps_each": 1,
            "noise": NOISE,
        },
        {
            "x_mod": refused,
            "refer_image": refused,
            "scorenet": refused,
            "sigmas": sigmas,
            "image_size": count(2, 2),
            "n_steps_each": count(),
            "step_lr": number(0),
            "noise": optional,
            "verbose": flag,
        },
    ),
    "EDMLoss": Call(
        lambda **given: edm.EDMLoss(**given)(network, images()),
        lambda: {"noise": NOISE},
        {
            "P_mean": number(),
            "P_std": number(0),
            "sigma_data": number(0, True),
            "noise": optional,
            "reduction": refused,
        },
    ),
    "EDMLoss.__call__": Call(
        lambda **given: edm.EDMLoss(noise=NOISE)(**given),
        lambda: {"net": network, "images": images()},
        {"net": refused, "images": samples, "augment_pipe": optional},
    ),
    "StackedRandomGenerator": Call(
        lambda **given: edm.StackedRandomGenerator(**given).randn((2, 3)),
        lambda: {"device": "cpu", "seeds": [1, 2]},
        {"device": refused, "seeds": refused},
    ),
    "StackedRandomGenerator.randn": Call(
        lambda **given: edm.StackedRandomGenerator("cpu", [1, 2, 3]).randn(**given),
        lambda: {"size": (3, 2)},
        {"size": refused, "dtype": refused},
    ),
    "StackedRandomGenerator.randn_like": Call(
        lambda **given: edm.StackedRandomGenerator("cpu", [1, 2, 3]).randn_like(**given),
        lambda: {"input": x()},
        {"input": samples},
    ),
    "StackedRandomGenerator.randint": Call(
        lambda low=0, high=9, size=(3, 2): edm.StackedRandomGenerator("cpu", [1, 2, 3]).randint(
            low, high, size=size
        ),
        dict,
        {"low": count(-(2**63), 8), "high": count(1, 2**32), "size": refused},
    ),
    "ess": Call(
        diagnostics.ess, lambda: {"states": x().reshape(4, 3)}, {"states": refused, "method": refused}
    ),
    "rhat": Call(
        diagnostics.rhat, lambda: {"states": x().reshape(4, 3)}, {"states": refused, "method": refused}
    ),
    "to_arviz": Call(
        lambda **given: torch.as_tensor(diagnostics.to_arviz(**given)["posterior"]["x"].values),
        lambda: {"states": x()},
        {
            "states": lambda value: [states for states in with_numbers(value) if states.dim() > 1],
            "info": info,
        },
    ),
}


# --- score_sde


LOSS: Kinds = {"train": flag, "reduce_mean": flag, "noise": optional}
OF_A_LOSS: dict[str, tuple[Callable[..., Any], str, str, Kinds]] = {
    "get_sde_loss_fn": (
        score_sde.get_sde_loss_fn,
        "sde",
        "vp",
        LOSS | {"continuous": flag, "likelihood_weighting": flag, "eps": number(0, high=1)},
    ),
    "get_smld_loss_fn": (score_sde.get_smld_loss_fn, "vesde", "ve", LOSS),
    "get_ddpm_loss_fn": (score_sde.get_ddpm_loss_fn, "vpsde", "vp", LOSS),
}


def loss_calls(name: str, get: Callable[..., Any], sde: str, kind: str, kinds: Kinds) -> dict[str, Call]:
    def good() -> dict[str, Any]:
        return {sde: SDES[kind], "train": True, "noise": NOISE}

    return {
        name: Call(lambda **given: get(**given)(Net(), images()), good, kinds | {sde: refused}),
        f"{name}()": Call(
            lambda **given: get(**good())(**given),
            lambda: {"model": Net(), "batch": images()},
            {"model": refused, "batch": samples},
        ),
    }


UPDATES: dict[str, tuple[type, str, dict[str, Any], Kinds]] = {
    "EulerMaruyamaPredictor": (score_sde.EulerMaruyamaPredictor, "subvp", {}, {"probability_flow": flag}),
    "ReverseDiffusionPredictor": (score_sde.ReverseDiffusionPredictor, "vp", {}, {"probability_flow": flag}),
    "AncestralSamplingPredictor": (
        score_sde.AncestralSamplingPredictor,
        "ve",
        {},
        {"probability_flow": lambda value: [flag for flag in flag(value) if not flag]},
    ),
    "LangevinCorrector": (
        score_sde.LangevinCorrector,
        "vp",
        {"snr": 0.1, "n_steps": 1},
        {"snr": number(0), "n_steps": count()},
    ),
    "AnnealedLangevinDynamics": (
        score_sde.AnnealedLangevinDynamics,
        "subvp",
        {"snr": 0.1, "n_steps": 1},
        {"snr": number(0), "n_steps": count()},
    ),
}


def update_calls(name: str, made: type, kind: str, options: dict[str, Any], kinds: Kinds) -> dict[str, Call]:
    def good() -> dict[str, Any]:
        # Each object gets a new Noise: objects that are given the same Noise would share its draws.
        return {"sde": SDES[kind], "score_fn": level_score, "noise": Noise(5), **options}

    return {
        name: Call(
            lambda **given: made(**given).update_fn(images(), times()),
            good,
            kinds | {"sde": refused, "score_fn": refused, "noise": optional},
        ),
        f"{name}.update_fn": Call(
            lambda **given: made(**good()).update_fn(**given),
            lambda: {"x": images(), "t": times()},
            {"x": samples, "t": refused},
        ),
    }


for _name, _loss in OF_A_LOSS.items():
    CALLS |= loss_calls(_name, *_loss)
for _name, _update in UPDATES.items():
    CALLS |= update_calls(_name, *_update)
CALLS = {name: call._replace(function=seeded(call.function)) for name, call in CALLS.items()}
