"""Every public call with arguments that work, and the kind of each argument."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from hostile import (
    HOSTILE,
    UNNAMED,
    count,
    dense,
    flag,
    mask,
    number,
    optional,
    pair,
    refused,
    same,
    samples,
    seed,
)

import pyebm
from pyebm import Noise, NoiseCounter, diagnostics, targets


class Call(NamedTuple):
    function: Callable[..., Any]
    good: Callable[[], dict[str, Any]]
    kinds: dict[str, Callable[[Any], list[Any]]]

    def run(self, **spoilt: Any) -> Any:
        return self.function(**(self.good() | spoilt))

    def wrong(self, argument: str) -> list[str]:
        """Describes the hostile values that the call neither refuses by the argument's name nor
        takes for the plain value that they stand for."""
        return [
            f"{label}: {said}" for label, make in HOSTILE.items() if (said := self._wrong(argument, make))
        ]

    def _wrong(self, argument: str, make: Callable[[], Any]) -> str | None:
        try:
            result = self.run(**{argument: make()})
        except Exception as error:
            named = isinstance(error, (TypeError, ValueError, RuntimeError)) and re.search(
                rf"\b{argument}\b", str(error)
            )
            fine = named and not any(text in str(error) for text in UNNAMED)
            return None if fine else f"{type(error).__name__}: {str(error)[:200]}"
        plain = self.kinds[argument](make())
        if not plain:
            return "taken"
        return None if same(result, self.run(**{argument: plain[0]})) else f"taken, but not as {plain[0]!r}"


def x(seed: int = 0) -> torch.Tensor:
    return Noise(seed).randn((3, 4))


NOISE = Noise(5)
BOUND = {"backend": optional}
COEFFICIENT, POSITIVE, NOT_NEGATIVE = (
    number(tensors=True),
    number(0, True, tensors=True),
    number(0, tensors=True),
)
CLIP = number(0, True, none=True, infinite=True, tensors=True, integers=True)
STEP = {
    "x": samples,
    "score": refused,
    "step_size": POSITIVE,
    "noise": refused,
    "temperature": NOT_NEGATIVE,
    "clamp": pair,
    "score_clip": CLIP,
    "mask": mask,
    "return_mean": flag,
} | BOUND


def step() -> dict[str, Any]:
    return {"x": x(), "score": x(1), "step_size": 0.1, "noise": NOISE}


CALLS: dict[str, Call] = {
    "perturb": Call(
        pyebm.perturb,
        lambda: {"x": x(), "sigma": 0.5, "noise": NOISE},
        {"x": samples, "sigma": NOT_NEGATIVE, "noise": refused, "alpha": COEFFICIENT, **BOUND},
    ),
    "langevin_step": Call(pyebm.langevin_step, step, STEP),
    "langevin_step_": Call(pyebm.langevin_step_, step, STEP),
    "affine_step": Call(
        pyebm.affine_step,
        lambda: {"x": x(), "g": x(1), "a": 1.0, "b": 0.5, "c": 0.5, "noise": NOISE},
        {
            "x": samples,
            "g": refused,
            "a": COEFFICIENT,
            "b": COEFFICIENT,
            "c": COEFFICIENT,
            "noise": refused,
            "clamp": pair,
            "mask": mask,
            "return_mean": flag,
            **BOUND,
        },
    ),
    "langevin_chain": Call(
        pyebm.langevin_chain,
        lambda: {"x": x(), "target": targets.DoubleWell(), "n_steps": 2, "step_size": 0.01, "noise": NOISE},
        {
            "x": samples,
            "target": refused,
            "n_steps": count(),
            "step_size": POSITIVE,
            "noise": refused,
            "temperature": NOT_NEGATIVE,
            "clamp": pair,
            "score_clip": CLIP,
            "mask": mask,
            "thin": count(1, none=True),
            "return_diverged": flag,
            "progress": flag,
            **BOUND,
        },
    ),
    "dsm_loss": Call(
        pyebm.dsm_loss,
        lambda: {"score": x(), "sigma": 0.5, "noise": NOISE},
        {
            "score": samples,
            "sigma": POSITIVE,
            "noise": refused,
            "weight": number(none=True, tensors=True),
            "reduction": refused,
            **BOUND,
        },
    ),
    "denoising_loss": Call(
        pyebm.denoising_loss,
        lambda: {"pred": x(), "noise": NOISE, "x0": x(1), "mu": 0.5},
        {
            "pred": samples,
            "noise": refused,
            "kappa": COEFFICIENT,
            "lam": COEFFICIENT,
            "mu": COEFFICIENT,
            "x0": optional,
            "weight": number(none=True, tensors=True),
            "half": flag,
            "reduction": refused,
            **BOUND,
        },
    ),
    "energy_score": Call(
        pyebm.energy_score,
        lambda: {"energy_fn": energy, "x": x()},
        {"energy_fn": refused, "x": samples, "create_graph": flag},
    ),
    "Noise": Call(
        lambda **given: (torch.manual_seed(0), Noise(**given).randn((3, 2))),
        lambda: {"seed": 1},
        {
            "seed": seed,
            "first_sample": count(most=2**32 - 1),
            "sample_ids": optional,
            "step": count(most=2**32 - 1),
            "stream": count(most=2**32 - 1),
        },
    ),
    "Noise.at": Call(
        lambda **given: NOISE.at(**given).randn((3, 2)),
        dict,
        {"step": count(most=2**32 - 1, none=True), "stream": count(most=2**32 - 1, none=True)},
    ),
    "Noise.shard": Call(
        lambda **given: NOISE.shard(**given).randn((3, 2)),
        lambda: {"first_sample": 1},
        {"first_sample": count(most=2**32 - 1)},
    ),
    "Noise.randn": Call(
        NOISE.randn,
        lambda: {"shape": (3, 2)},
        {"shape": refused, "dtype": refused, "device": optional, **BOUND},
    ),
    "Noise.rand": Call(
        NOISE.rand,
        lambda: {"shape": (3, 2)},
        {"shape": refused, "dtype": refused, "device": optional, **BOUND},
    ),
    "NoiseCounter": Call(
        lambda **given: NoiseCounter(**given).randn((3, 2)),
        lambda: {"noise": NOISE},
        {"noise": refused, "device": refused},
    ),
    "NoiseCounter.advance_": Call(
        lambda **given: NoiseCounter(NOISE).advance_(**given).randn((3, 2)),
        dict,
        {"steps": count(most=2**32 - 1)},
    ),
    "kernel_stein_discrepancy": Call(
        diagnostics.kernel_stein_discrepancy,
        lambda: {"x": x(), "score": x(1)},
        {
            "x": samples,
            "score": refused,
            "c": number(0, True),
            "beta": number(-1, True, 0),
            "statistic": refused,
            "block": count(1),
        },
    ),
    "energy_trace": Call(
        diagnostics.energy_trace,
        lambda: {"states": x().reshape(1, 3, 4), "energy_fn": energy},
        {
            "states": lambda value: (
                samples(value) if isinstance(value, torch.Tensor) and value.dim() > 1 else []
            ),
            "energy_fn": refused,
        },
    ),
}


def energy(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * x.square().reshape(x.shape[0], math.prod(x.shape[1:])).sum(1)


# --- targets ---


def scale(value: Any) -> list[Any]:
    return number(0, True, tensors=True, integers=True)(value) or dense()(value)


OF_A_TARGET = {"tensors": True, "integers": True, "meta": True}
PARAMETER, ANY_PARAMETER = number(0, True, **OF_A_TARGET), number(**OF_A_TARGET)
TARGETS: dict[str, tuple[type, dict[str, Any], dict[str, Callable[[Any], list[Any]]]]] = {
    "Harmonic": (targets.Harmonic, {}, {"stiffness": PARAMETER, "center": ANY_PARAMETER}),
    "DoubleWell": (targets.DoubleWell, {}, {"barrier": PARAMETER, "width": PARAMETER}),
    "Polynomial": (targets.Polynomial, {"coefficients": [0.0, 0.5, 1.0]}, {"coefficients": refused}),
    "Gaussian": (
        targets.Gaussian,
        {},
        {"mean": ANY_PARAMETER, "std": number(0, True, none=True, **OF_A_TARGET)},
    ),
    "Gaussian full": (targets.Gaussian, {"covariance": torch.eye(4)}, {"covariance": optional}),
    "Gaussian factor": (
        targets.Gaussian,
        {"scale_tril": torch.eye(4)},
        {"scale_tril": optional, "mean": ANY_PARAMETER},
    ),
    "GaussianMixture": (
        targets.GaussianMixture,
        {"means": torch.eye(3, 4), "scale": 1.0},
        {"means": dense(), "scale": scale, "weights": optional},
    ),
    "Rosenbrock": (targets.Rosenbrock, {}, {"a": ANY_PARAMETER, "b": PARAMETER}),
    "Rastrigin": (targets.Rastrigin, {}, {"amplitude": PARAMETER}),
    "Ackley": (targets.Ackley, {}, {"a": PARAMETER, "b": PARAMETER, "c": PARAMETER}),
    "Funnel": (targets.Funnel, {}, {"std": PARAMETER}),
}


def target_call(kind: type, good: dict[str, Any], kinds: dict[str, Any]) -> Call:
    return Call(lambda **given: kind(**given)._own(), lambda: good, kinds)


CALLS |= {f"targets.{name}": target_call(*row) for name, row in TARGETS.items()}
CALLS |= {
    "Target.score": Call(targets.DoubleWell().score, lambda: {"x": x()}, {"x": samples, **BOUND}),
    "Target.energy": Call(targets.Gaussian().energy, lambda: {"x": x()}, {"x": samples}),
    "Target.log_prob": Call(targets.Gaussian().log_prob, lambda: {"x": x()}, {"x": samples}),
    "Target.sample": Call(
        targets.Gaussian(torch.zeros(2)).sample,
        lambda: {"n": 3, "noise": NOISE},
        {"n": count(), "noise": refused, "dtype": refused, **BOUND},
    ),
    "from_data": Call(
        lambda **given: targets.GaussianMixture.from_data(**given)._own(),
        lambda: {"x": x(), "sigma": 0.5},
        {"x": dense(), "sigma": scale},
    ),
}
