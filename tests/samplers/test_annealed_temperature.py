"""AnnealedLangevin with a schedule of temperatures is the loop of steps, also when it resumes
and when it runs as a graph would."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, normal

import pyebm
from pyebm import Noise
from pyebm.samplers import AnnealedLangevin

SIGMAS, EACH = [2.0, 1.0, 0.5], 2
TEMPERATURES = [1.0, 0.5, 0.25, 0.7, 0.0, 2.0]


def score(x, sigma):
    return -x / (1 + sigma[:, None] ** 2)


def loop(x, temperatures):
    for k, t in enumerate(temperatures):
        sigma = SIGMAS[k // EACH]
        eta = 0.1 * (sigma / SIGMAS[-1]) ** 2
        x = pyebm.langevin_step(
            x, score(x, torch.full((len(x),), sigma)), eta, Noise(3, step=k), temperature=t
        )
    return x


@pytest.mark.parametrize(
    "temperature",
    [TEMPERATURES, torch.tensor(TEMPERATURES, dtype=torch.float64), lambda k: TEMPERATURES[k]],
    ids=["list", "tensor", "function"],
)
def test_is_the_loop(temperature):
    x = normal(5, 2)
    sampler = AnnealedLangevin(score, SIGMAS, 0.1, EACH, denoise=False, temperature=temperature)
    want = loop(x, TEMPERATURES)
    assert_equal(sampler(x, noise=Noise(3)), want)
    half = sampler(x, 3, noise=Noise(3))
    assert_equal(half, loop(x, TEMPERATURES[:3]))
    assert_equal(sampler(half, noise=Noise(3, step=3)), want)
    assert_equal(sampler(x, noise=Noise(3), thin=3).states[0], half)


def test_one_a_sample_remains():
    x, t = normal(5, 2), torch.rand(5) + 0.5
    sampler = AnnealedLangevin(score, SIGMAS, 0.1, EACH, denoise=False, temperature=t)
    assert_equal(sampler(x, noise=Noise(3)), loop(x, [t] * 6))


def test_too_short():
    sampler = AnnealedLangevin(score, SIGMAS, 0.1, EACH, temperature=[1.0, 0.5])
    with pytest.raises(
        ValueError, match="temperature must have one number for each of the noise's steps from 0 to 5, got 2"
    ):
        sampler(normal(5, 2), noise=Noise(3))
