"""The tests of bad input share calls that work, and the check that a spoilt argument is refused
with nothing touched."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, normal

import pyebm
from pyebm import Noise

NOISE = Noise(0)
OPS = ("perturb", "langevin_step", "langevin_step_", "affine_step", "dsm_loss", "denoising_loss")
STEPS = ("langevin_step", "langevin_step_", "affine_step")
LOSSES = ("dsm_loss", "denoising_loss")


def good(op):
    """Returns new keyword arguments that work. The first one is the samples."""
    x, other = normal(3, 4), normal(3, 4, seed=1)
    step = {"x": x, "score": other, "step_size": 0.1, "noise": NOISE, "temperature": 1.0}
    return {
        "perturb": {"x": x, "sigma": 0.5, "noise": NOISE, "alpha": 1.0},
        "langevin_step": step,
        "langevin_step_": step,
        "affine_step": {"x": x, "g": other, "a": 1.0, "b": 0.1, "c": 0.1, "noise": NOISE},
        "dsm_loss": {"score": x, "sigma": 0.5, "noise": NOISE, "weight": 1.0},
        "denoising_loss": {
            "pred": x,
            "noise": NOISE,
            "kappa": 1.0,
            "lam": -1.0,
            "mu": 1.0,
            "x0": other,
            "weight": 1.0,
        },
    }[op]


def refuses(op, error, message, **bad):
    """Asserts that the call fails like this, and changes neither the samples nor any other
    argument."""
    arguments = good(op) | bad
    small = {
        key: value
        for key, value in arguments.items()
        if isinstance(value, torch.Tensor) and value.numel() < 99
    }
    checked = {
        key: value
        for key, value in small.items()
        if value.layout is torch.strided and value.device.type == "cpu"
    }
    before = {key: value.detach().clone() for key, value in checked.items()}
    with pytest.raises(error, match=message):
        getattr(pyebm, op)(**arguments)
    assert_equal({key: value.detach() for key, value in checked.items()}, before, equal_nan=True)
