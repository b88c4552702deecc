"""NoiseCounter keeps its step in a tensor, and advances it there."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, normal

import pyebm
from pyebm import Noise, NoiseCounter


def test_advances_through_the_steps_of_the_noise(backend, device):
    noise = Noise(3, first_sample=4, step=10, stream=2)
    counter = NoiseCounter(noise, device)
    for k in range(3):
        assert_equal(
            counter.randn((5, 7), device=device, backend=backend),
            noise.at(step=10 + k).randn((5, 7), device=device),
        )
        assert counter.advance_() is counter
    assert (counter.step, noise.step) == (13, 10)
    assert_equal(counter.advance_(4).at(stream=5).randn((5, 7)), noise.at(step=17, stream=5).randn((5, 7)))
    assert_equal(counter.shard(first_sample=6).randn((3, 7)), noise.at(step=17).randn((5, 7))[2:])


def test_seeds_and_ids_per_sample(backend, device):
    noise = Noise(torch.tensor([5, 6]), sample_ids=[9, 1])
    counter = NoiseCounter(noise, device).advance_(2)
    assert_equal(
        counter.randn((2, 9), device=device, backend=backend), noise.at(step=2).randn((2, 9), device=device)
    )
    assert Noise.from_state_dict(counter.state_dict()).step == 2


def test_a_loop_is_the_sampler_s(backend, device):
    x = normal(6, 5, device=device)
    sampler = pyebm.samplers.Langevin(lambda x: -x, 0.1, backend=backend)
    want, counter = sampler(x, 4, noise=Noise(1)), NoiseCounter(Noise(1), device)
    assert_equal(sampler(x, 4, noise=counter), want)
    for _ in range(4):
        pyebm.langevin_step_(x, -x, 0.1, counter, backend=backend)
        counter.advance_()
    assert_equal(x, want)


def test_bad_input():
    with pytest.raises(TypeError, match="noise must be a Noise, got int"):
        NoiseCounter(3)
    with pytest.raises(TypeError, match="got NoiseCounter"):
        NoiseCounter(NoiseCounter(Noise(0)))
    counter = NoiseCounter(Noise(0))
    with pytest.raises(ValueError, match="lives on cpu, got samples on meta"):
        counter.randn((2, 3), device="meta")
