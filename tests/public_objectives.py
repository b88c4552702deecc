"""The public calls of the objectives, and what contrastive divergence trains with."""

from __future__ import annotations

import torch
from hostile import count, flag, number, optional, refused, samples
from public_calls import BOUND, NOISE, NOT_NEGATIVE, Call, energy, x

import pyebm
from pyebm import targets

REDUCED = {"weight": number(none=True, tensors=True), "reduction": refused}


def cubed(x: torch.Tensor, _: object = None) -> torch.Tensor:
    return -(x**3)


CALLS: dict[str, Call] = {
    "fisher_divergence": Call(
        pyebm.fisher_divergence,
        lambda: {"score_fn": torch.neg, "target": targets.DoubleWell(), "x": x()},
        {"score_fn": refused, "target": refused, "x": samples, **REDUCED},
    ),
    "score_matching": Call(
        pyebm.score_matching,
        lambda: {"fn": cubed, "x": x()},
        {
            "fn": refused,
            "x": samples,
            "method": refused,
            "noise": optional,
            "n_projections": count(1),
            **REDUCED,
        },
    ),
    "sliced_score_matching": Call(
        pyebm.sliced_score_matching,
        lambda: {"fn": cubed, "x": x(), "noise": NOISE},
        {
            "fn": refused,
            "x": samples,
            "noise": refused,
            "n_projections": count(1),
            "projection": refused,
            "variance_reduced": flag,
            **REDUCED,
        },
    ),
    "denoising_score_matching": Call(
        pyebm.denoising_score_matching,
        lambda: {"fn": cubed, "x": x(), "sigma": 0.5, "noise": NOISE},
        {
            "fn": refused,
            "x": samples,
            "sigma": NOT_NEGATIVE,
            "noise": refused,
            "conditional": flag,
            "sigma_data": number(0, True),
            **REDUCED,
            **BOUND,
        },
    ),
    "contrastive_divergence": Call(
        pyebm.contrastive_divergence,
        lambda: {"energy_fn": energy, "x_data": x(), "x_model": x(1)},
        {"energy_fn": refused, "x_data": refused, "x_model": refused, "l2": number(0), **REDUCED},
    ),
    "ReplayBuffer": Call(
        lambda **given: pyebm.ReplayBuffer(**given).draw(1, NOISE).x,
        lambda: {"size": 5, "shape": (2,)},
        {
            "size": count(1, 2**31),
            "shape": lambda value: [()] * (value == [] and isinstance(value, list)),
            "reinit": lambda value: number(0, high=1)(value) or [1.0] * (number(1, high=1.1)(value) == [1.0]),
            "init": optional,
            "dtype": refused,
            "device": optional,
            "mesh": optional,
        },
    ),
    "ReplayBuffer.draw": Call(
        lambda **given: pyebm.ReplayBuffer(5, (2,)).draw(**given).x,
        lambda: {"count": 2, "noise": NOISE},
        {"count": count(0, 5), "noise": refused},
    ),
    "ContrastiveDivergence": Call(
        lambda **given: pyebm.losses.ContrastiveDivergence(**given)(x(), NOISE),
        lambda: {"energy": energy, "sampler": pyebm.samplers.Langevin(torch.neg, 0.1), "n_steps": 2},
        {
            "energy": refused,
            "sampler": refused,
            "n_steps": count(1, 2**20),
            "buffer": optional,
            "l2": number(0),
            "kl": number(0),
        },
    ),
    "ContrastiveDivergence.forward": Call(
        pyebm.losses.ContrastiveDivergence(lambda x: energy(x), pyebm.samplers.Langevin(torch.neg, 0.1), 2),
        lambda: {"x": x(), "noise": NOISE},
        {"x": samples, "noise": refused},
    ),
    "LogUniform": Call(
        pyebm.losses.LogUniform,
        lambda: {"low": 0.1, "high": 1e9},
        {"low": number(0, True, 1e9), "high": number(0.1)},
    ),
}
