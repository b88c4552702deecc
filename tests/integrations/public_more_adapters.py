"""The newer public calls of the adapters that need no package: brownian, ncsn, EDM's losses and
samplers."""

from __future__ import annotations

from typing import Any

import torch
from hostile import count, flag, number, optional, refused, samples, seed
from public_adapters import images, with_numbers
from public_calls import NOISE, Call, energy

from pyebm.integrations import brownian, edm, ncsn, ncsnv2

limit = number(tensors=True, integers=True, infinite=True)


def package_free() -> dict[str, Call]:
    """All of them."""
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
        "anneal_dsm_score_estimation_freq": Call(
            ncsn.anneal_dsm_score_estimation_freq,
            lambda: (
                {"scorenet": lambda x, _: -x, "samples": images(), "labels": labels, "sigmas": levels}
                | {"noise": NOISE}
            ),
            {"scorenet": refused, "labels": refused, "anneal_power": number(), "noise": optional},
        ),
        "single_sliced_score_matching": Call(
            lambda **given: ncsn.single_sliced_score_matching(**given)[0],
            lambda: {"energy_net": energy, "samples": images(), "noise": NOISE},
            {"energy_net": refused, "samples": samples, "detach": flag, "noise_type": refused},
        ),
        "anneal_sliced_score_estimation_vr": Call(
            ncsn.anneal_sliced_score_estimation_vr,
            lambda: (
                {"scorenet": lambda x, _: -x, "samples": images(), "labels": labels, "sigmas": levels}
                | {"noise": NOISE}
            ),
            {"scorenet": refused, "labels": refused, "sigmas": refused, "n_particles": count(1, 64)}
            | {"noise": optional},
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
