"""Targets refuse what makes no density, in words that name it."""

from __future__ import annotations

import math

import pytest
import torch

from pyebm import targets

T = torch.tensor


BAD = {
    "stiffness": (
        lambda: targets.Harmonic(0.0),
        ValueError,
        "Harmonic: stiffness must be > 0 and finite, got 0",
    ),
    "center": (
        lambda: targets.Harmonic(1.0, math.nan),
        ValueError,
        "Harmonic: center must be finite, got nan",
    ),
    "barrier": (
        lambda: targets.DoubleWell(-1.0),
        ValueError,
        "DoubleWell: barrier must be > 0 and finite, got -1",
    ),
    "width": (
        lambda: targets.DoubleWell(1.0, math.inf),
        ValueError,
        "DoubleWell: width must be > 0 and finite, got inf",
    ),
    "text": (
        lambda: targets.DoubleWell("2"),
        TypeError,
        "DoubleWell: barrier must be a number or a tensor, got str",
    ),
    "std": (
        lambda: targets.Gaussian(0.0, T([1.0, -2.0])),
        ValueError,
        "Gaussian: std must be > 0 and finite, got -2",
    ),
    "lengths": (
        lambda: targets.Gaussian(torch.zeros(3), torch.ones(2)),
        ValueError,
        "the same length, got 3 and 2",
    ),
    "matrix": (
        lambda: targets.Gaussian(torch.zeros(3, 3)),
        ValueError,
        r"mean must be .*\(D,\), got shape \(3, 3\)",
    ),
    "odd": (
        lambda: targets.Polynomial([0.0, 1.0]),
        ValueError,
        r"Polynomial: coefficients must be .*, got \[0.0, 1.0\]",
    ),
    "falling": (lambda: targets.Polynomial([0.0, 1.0, -1.0]), ValueError, "c_n > 0"),
    "dimension": (
        lambda: targets.Gaussian(torch.zeros(3))(torch.zeros(2, 4)),
        ValueError,
        r"Gaussian: x must have samples of 3 elements, the target's dimension, got \(2, 4\)",
    ),
    "score": (
        lambda: targets.Gaussian(torch.zeros(3)).score(torch.zeros(2, 4)),
        ValueError,
        r"Gaussian.score: x must have samples of 3 elements",
    ),
    "least": (lambda: targets.Funnel().score(torch.zeros(2, 1)), ValueError, "at least 2 elements"),
    "int": (
        lambda: targets.Funnel().score(torch.zeros(2, 3).int()),
        TypeError,
        "Funnel.score: x must be float16.*int32",
    ),
    "list": (lambda: targets.Funnel()([1.0, 2.0]), TypeError, "Funnel: x must be a tensor, got list"),
    "device": (
        lambda: targets.Funnel().to("meta").score(torch.zeros(2, 3)),
        ValueError,
        r"x must be on the target's device meta, got cpu; move it with target.to\(x.device\)",
    ),
    "backend": (
        lambda: targets.Funnel().score(torch.zeros(2, 3), backend="tpu"),
        ValueError,
        "backend must be None or one of",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
