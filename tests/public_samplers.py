"""The public calls of the samplers: their constructors, their runs, their states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from hostile import count, flag, mask, number, optional, pair, refused, samples, seed
from public_calls import BOUND, CLIP, NOISE, NOT_NEGATIVE, POSITIVE, Call, energy, x

from pyebm import Noise, samplers
from pyebm.samplers import State, Trajectory


def level_score(x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    del level
    return -x


OPTIONS = {"temperature": NOT_NEGATIVE, "clamp": pair, "score_clip": CLIP, "mask": mask, **BOUND}
METROPOLIS = {
    "energy_fn": refused,
    "step_size": POSITIVE,
    "score_fn": optional,
    "temperature": number(0, True, tensors=True),
    "mass": number(0, True, none=True, tensors=True),
    "warmup": count(),
    "adapt_mass": lambda value: (
        [False] if not isinstance(value, torch.Tensor) and flag(value) == [False] else []
    ),
    "target_acceptance": number(0, True, 1),
    "per": refused,
    "group": optional,
    "mask": mask,
    **BOUND,
}


def sigmas(value: Any) -> list[Any]:
    return [value.tolist()] if isinstance(value, np.ndarray) and value.dtype == float else []


MADE: dict[str, tuple[type, Callable[[], dict[str, Any]], dict[str, Callable[[Any], list[Any]]]]] = {
    "Langevin": (
        samplers.Langevin,
        lambda: {"score_fn": torch.neg, "step_size": 0.1},
        {
            "score_fn": refused,
            "step_size": POSITIVE,
            "noise_scale": number(0, none=True, tensors=True),
            **OPTIONS,
        },
    ),
    "AnnealedLangevin": (
        samplers.AnnealedLangevin,
        lambda: {"score_fn": level_score, "sigmas": [1.0, 0.5], "step_lr": 0.1, "n_steps_each": 1},
        {
            "score_fn": refused,
            "sigmas": sigmas,
            "step_lr": number(0, True),
            "n_steps_each": count(1),
            "denoise": flag,
            "known": optional,
            **OPTIONS,
        },
    ),
    "MALA": (samplers.MALA, lambda: {"energy_fn": energy, "step_size": 0.1}, METROPOLIS),
    "HMC": (
        samplers.HMC,
        lambda: {"energy_fn": energy, "step_size": 0.1, "n_leapfrog": 2},
        METROPOLIS | {"n_leapfrog": count(1), "jitter": number(0, high=1)},
    ),
    "UnderdampedLangevin": (
        samplers.UnderdampedLangevin,
        lambda: {"score_fn": torch.neg, "step_size": 0.1},
        {"score_fn": refused, "step_size": number(0, True), "friction": number(0, True)}
        | OPTIONS
        | {"temperature": number(0)},
    ),
    "PredictorCorrector": (
        samplers.PredictorCorrector,
        lambda: {"score_fn": level_score, "sde": samplers.VE(), "n": 3},
        {
            "score_fn": refused,
            "sde": refused,
            "n": count(2),
            "predictor": optional,
            "corrector_steps": count(),
            "snr": number(0, True),
            "per": refused,
            "probability_flow": flag,
            "denoise": flag,
            "known": optional,
            "clamp": pair,
            "mask": mask,
            **BOUND,
        },
    ),
}


def made_call(kind: type, good: Callable[[], dict[str, Any]], kinds: dict[str, Any]) -> Call:
    def run(**given: Any) -> Any:
        sampler = kind(**given)
        return sampler(x(), min(2, sampler.length or 2), noise=NOISE)

    return Call(run, good, kinds)


CALLS: dict[str, Call] = {f"samplers.{name}": made_call(*row) for name, row in MADE.items()}


def empty_dict(value: Any) -> list[Any]:
    return [{}] if value == {} and isinstance(value, dict) else []


def drawn(value: Any) -> list[Any]:
    """The kind of a noise that may be an int, which is its seed."""
    return [] if isinstance(value, (torch.Tensor, bool, type(None))) else seed(value)


CALLS |= {
    "Sampler.__call__": Call(
        lambda **given: (torch.manual_seed(0), samplers.Langevin(torch.neg, 0.1)(**given))[1],
        lambda: {"x0": x(), "n_steps": 2, "noise": NOISE},
        {
            "x0": samples,
            "n_steps": count(),
            "noise": lambda value: [None] if value is None else drawn(value),
            "thin": count(1, none=True),
            "callback": optional,
            "progress": flag,
            "graph": lambda value: flag(value) if value is not True else [],
        },
    ),
    "SDE.VE": Call(
        lambda **given: samplers.VE(**given).sigma(0.5),
        lambda: {"sigma_min": 1e-3, "sigma_max": 50.0},
        {"sigma_min": number(0, True, 50), "sigma_max": number(1e-3)},
    ),
    "sigma_at": Call(
        samplers.AnnealedLangevin(level_score, [1.0, 0.5], 0.1, 2).sigma_at,
        lambda: {"k": 0},
        {"k": count(0, 3)},
    ),
    "prior": Call(
        samplers.PredictorCorrector(level_score, samplers.VE(), 3).prior,
        lambda: {"shape": (3, 2), "noise": NOISE},
        {"shape": refused, "noise": drawn, "dtype": refused, "device": optional},
    ),
    "State": Call(
        lambda **given: State(**given).x,
        lambda: {"x": x(), "noise": NOISE},
        {"x": samples, "noise": drawn, "extra": empty_dict},
    ),
    "State.from_state_dict": Call(
        State.from_state_dict, lambda: {"state": State(x(), NOISE).state_dict()}, {"state": refused}
    ),
    "Noise.from_state_dict": Call(
        Noise.from_state_dict, lambda: {"state": NOISE.state_dict()}, {"state": refused}
    ),
    "Trajectory": Call(
        Trajectory,
        lambda: {"states": x().reshape(1, 3, 4), "state": State(x(), NOISE), "info": {}, "thin": 1},
        {"states": refused, "state": refused, "info": empty_dict, "thin": count(1)},
    ),
}
