"""Losses at the ends of float32: all backends give the same number, which is right or not
finite."""

from __future__ import annotations

import math

import pytest
import torch
from cases import assert_equal

import pyebm
from pyebm import Noise

SCORE, NOISE = Noise(1).randn((5, 40)), Noise(0)
SIGMAS = [1e-37, 1e-20, 1e-5, 1.0, 1e10, 1e18, 1e20, 1e30, 3e38]


def truth(sigma, weight):
    z = NOISE.randn(SCORE.shape, dtype=torch.float64)
    return (0.5 * weight * (SCORE.double() + z / sigma).square().sum(1)).mean().item()


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("form", ["number", "tensor"])
@pytest.mark.parametrize("weight", [1.0, 0.0])
def test_the_loss_is_right_or_not_finite(sigma, form, weight):
    given = sigma if form == "number" else torch.full((5,), sigma)
    made = [
        pyebm.dsm_loss(SCORE, given, NOISE, weight=weight, backend=backend)
        for backend in ("cpu", "reference")
    ]
    assert_equal(made[0], made[1], equal_nan=True)
    loss = made[0].item()
    assert not math.isfinite(loss) or math.isclose(loss, truth(sigma, weight), rel_tol=1e-4)
    if 1e-18 < sigma < 1e18:
        assert math.isfinite(loss)
    if weight == 0 and sigma > 1e19:
        assert math.isnan(loss)  # 0 times infinity, as in torch


@pytest.mark.parametrize("sigma", [1e18, 1e20, 1e30])
def test_its_gradient_goes_further(sigma):
    score = SCORE.clone().requires_grad_()
    pyebm.dsm_loss(score, sigma, NOISE).backward()
    want = (SCORE.double() + NOISE.randn(SCORE.shape, dtype=torch.float64) / sigma) / 5
    assert torch.allclose(score.grad.double(), want, rtol=1e-5)


def test_float64_goes_further():
    assert pyebm.dsm_loss(SCORE.double(), 1e30, NOISE).item() == pytest.approx(truth(1e30, 1.0))


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "form", ["0-dim", "(B,)", "(B, 1)", "elements", "float64", "float16", "requires grad"]
)
def test_tensors_are_finite_where_numbers_must_be(form, value, backend):
    rows = torch.ones(3)
    rows[1] = value
    given = {
        "0-dim": rows[1],
        "(B,)": rows,
        "(B, 1)": rows[:, None],
        "elements": rows[:, None].repeat(1, 4),
        "float64": rows.double(),
        "float16": rows.half(),
        "requires grad": rows.clone().requires_grad_(),
    }[form]
    x = torch.ones(3, 4)
    calls = {
        "alpha": lambda: pyebm.perturb(x, 0.5, NOISE, alpha=given, backend=backend),
        "a": lambda: pyebm.affine_step(x, x, given, 1.0, 1.0, NOISE, backend=backend),
        "b": lambda: pyebm.affine_step(x, x, 1.0, given, 1.0, NOISE, backend=backend),
        "c": lambda: pyebm.affine_step(x, x, 1.0, 1.0, given, NOISE, backend=backend),
        "kappa": lambda: pyebm.denoising_loss(x, NOISE, kappa=given, backend=backend),
        "lam": lambda: pyebm.denoising_loss(x, NOISE, lam=given, backend=backend),
        "mu": lambda: pyebm.denoising_loss(x, NOISE, mu=given, x0=x, backend=backend),
        "weight": lambda: pyebm.denoising_loss(x, NOISE, weight=given, backend=backend),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=f"{name} must be finite, got {value}"):
            call()


def test_large_coefficients_are_finite():
    """The quick check squares them, and their squares are not finite."""
    pyebm.perturb(torch.ones(3, 4), 0.5, NOISE, alpha=torch.full((3,), 3e38))


@pytest.mark.parametrize(
    "made",
    [lambda s: pyebm.samplers.HMC(lambda x: x.sum(1), s, 2), lambda s: pyebm.samplers.Langevin(torch.neg, s)],
)
def test_a_sampler_says_so_before_its_first_step(made):
    with pytest.raises(
        ValueError, match=r"(HMC|Langevin): step_size must be > 0 and finite, got nan for sample 1"
    ):
        made(torch.tensor([0.1, math.nan, 0.1]))(torch.ones(3, 4), 1, noise=NOISE)
