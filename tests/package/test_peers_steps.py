"""The steps of the field's samplers in plain PyTorch, and ours, which are equal in the sense of
test_peers.py."""

from __future__ import annotations

import math

import pytest
import torch
from cases import column, normal

import pyebm
from pyebm import Noise

BATCH, SHAPE = 8, (8, 3, 8, 8)
NOISE = Noise(6, step=3)
N, SNR = 1000, 0.16
X, SCORE = normal(*SHAPE), normal(*SHAPE, seed=1)


def rows(low, high, seed):
    return low + (high - low) * torch.rand(BATCH, generator=torch.Generator().manual_seed(seed))


SIGMA = rows(1.0, 3.0, 1)  # the level at this step; NEXT is the smaller one at the next
NEXT = SIGMA * rows(0.5, 0.9, 2)
BETA = rows(1e-4, 0.02, 3)  # a discretised VP process
RATE = rows(0.1, 20.0, 4)  # beta(t) of the continuous VP process


def norms(g, z):
    """The batch means of the samples' norms, from which the correctors compute their step size."""
    return g.flatten(1).norm(dim=1).mean(), z.flatten(1).norm(dim=1).mean()


def euler_maruyama_vp(x, score, z):
    rate = column(RATE, x).to(x.dtype)
    dt = -1.0 / N
    drift = -0.5 * rate * x - rate * score  # the drift of the reverse SDE
    mean = x + drift * dt
    return mean + rate.sqrt() * math.sqrt(-dt) * z, mean


def reverse_diffusion_ve(x, score, z):
    s, t = (column(v, x).to(x.dtype) for v in (SIGMA, NEXT))
    g = (s**2 - t**2).sqrt()
    mean = x + g**2 * score
    return mean + g * z, mean


def reverse_diffusion_vp(x, score, z):
    beta = column(BETA, x).to(x.dtype)
    f, g = (1 - beta).sqrt() * x - x, beta.sqrt()
    mean = x - (f - g**2 * score)
    return mean + g * z, mean


def ancestral_ve(x, score, z):
    s, t = (column(v, x).to(x.dtype) for v in (SIGMA, NEXT))
    mean = x + score * (s**2 - t**2)
    return mean + (t**2 * (s**2 - t**2) / s**2).sqrt() * z, mean


def ancestral_vp(x, score, z):
    beta = column(BETA, x).to(x.dtype)
    mean = (x + beta * score) / (1 - beta).sqrt()
    return mean + beta.sqrt() * z, mean


def corrector(x, score, z, alpha):
    g, n = norms(score, z)
    step = (SNR * n / g) ** 2 * 2 * column(alpha, x).to(x.dtype)
    mean = x + step * score
    return mean + (step * 2).sqrt() * z, mean


def annealed_corrector(x, score, z):
    step = (SNR * column(SIGMA, x).to(x.dtype)) ** 2 * 2
    mean = x + step * score
    return mean + (step * 2).sqrt() * z, mean


def ncsnv2(x, score, z):
    step = 6.2e-6 * (3.0 / 0.01) ** 2
    return x + step * score + z * math.sqrt(step * 2), x + step * score


def diffusers_correct(x, score, z):
    g, n = norms(score, z)
    step = (SNR * n / g) ** 2 * 2
    mean = x + step * score
    return mean + (step * 2) ** 0.5 * z, mean


def diffusers_predict(x, score, z):
    g = (column(SIGMA, x).to(x.dtype) ** 2 - column(NEXT, x).to(x.dtype) ** 2) ** 0.5
    drift = -(g**2) * score
    return x - drift + g * z, x - drift


def jem(x, score, z):
    return x + 1.0 * score + 0.01 * z, x + 1.0 * score


def half_step(x, score, z):
    eps = 0.02
    return x + eps / 2 * score + math.sqrt(eps) * z, x + eps / 2 * score


def affine(a, b, c):
    return pyebm.affine_step(X, SCORE, a, b, c, NOISE, return_mean=True)


def langevin(step):
    return pyebm.langevin_step(X, SCORE, step, NOISE, return_mean=True)


def corrector_step(alpha):
    g, n = norms(SCORE.double(), NOISE.randn(SHAPE).double())
    return (SNR * n / g) ** 2 * 2 * alpha.double()


S, T, B, R = (t.double() for t in (SIGMA, NEXT, BETA, RATE))
G2 = S**2 - T**2
ONE = torch.ones(BATCH)

STEPS = {
    "score_sde-euler-maruyama-vp": (
        euler_maruyama_vp,
        lambda: affine(1 + 0.5 * R / N, R / N, (R / N).sqrt()),
    ),
    "score_sde-reverse-diffusion-ve": (reverse_diffusion_ve, lambda: affine(1.0, G2, G2.sqrt())),
    "score_sde-reverse-diffusion-vp": (reverse_diffusion_vp, lambda: affine(2 - (1 - B).sqrt(), B, B.sqrt())),
    "score_sde-ancestral-ve": (ancestral_ve, lambda: affine(1.0, G2, (T**2 * G2 / S**2).sqrt())),
    "score_sde-ancestral-vp": (
        ancestral_vp,
        lambda: affine(1 / (1 - B).sqrt(), B / (1 - B).sqrt(), B.sqrt()),
    ),
    "score_sde-langevin-ve": (lambda *a: corrector(*a, ONE), lambda: langevin(corrector_step(ONE))),
    "score_sde-langevin-vp": (lambda *a: corrector(*a, 1 - BETA), lambda: langevin(corrector_step(1 - BETA))),
    "score_sde-annealed-langevin": (annealed_corrector, lambda: langevin((SNR * S) ** 2 * 2)),
    "ncsnv2": (ncsnv2, lambda: langevin(6.2e-6 * (3.0 / 0.01) ** 2)),
    "diffusers-step-correct": (diffusers_correct, lambda: langevin(corrector_step(torch.ones(())))),
    "diffusers-step-pred": (diffusers_predict, lambda: affine(1.0, G2, G2.sqrt())),
    "jem": (jem, lambda: affine(1, 1.0, 0.01)),
    "half-step": (half_step, lambda: affine(1.0, 0.01, math.sqrt(0.02))),
}


@pytest.mark.parametrize("name", STEPS)
def test_step(name):
    formula, ours = STEPS[name]
    z = NOISE.randn(SHAPE)
    plain, exact = formula(X, SCORE, z), formula(X.double(), SCORE.double(), z.double())
    for got, theirs, truth in zip(ours(), plain, exact, strict=True):
        error, allowed = ((value.double() - truth).abs().max().item() for value in (got, theirs))
        assert error <= 2 * max(allowed, 2**-23 * truth.abs().max().item()), (error, allowed)


def test_ncsnv2_final_denoising():
    """x + sigma_L^2 score is the last of AnnealedLangevin's steps, and an affine step without
    noise."""
    want = X.double() + 0.01**2 * SCORE.double()
    for got in (
        pyebm.affine_step(X, SCORE, 1.0, 0.01**2, 0.0, NOISE),
        pyebm.langevin_step(X, SCORE, 0.01**2, NOISE, temperature=0.0),
    ):
        torch.testing.assert_close(got.double(), want, rtol=2**-23, atol=2**-24)


def test_posterior_temperature():
    """A step with coefficients lr and sqrt(T lr (2 - T lr beta)), family D of the design notes."""
    lr, temperature, beta = 0.05, 0.7, 1.3
    c = math.sqrt(temperature * lr * (2 - temperature * lr * beta))
    want = X.double() + lr * SCORE.double() + c * NOISE.randn(SHAPE).double()
    torch.testing.assert_close(
        pyebm.affine_step(X, SCORE, 1.0, lr, c, NOISE).double(), want, rtol=2**-22, atol=2**-22
    )
