"""Torch may keep a tensor's minus sign beside its memory, as in the imaginary part of a conjugate.
Calls that read memory by its address must not lose it."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal
from torch import Tensor, nn

import pyebm
from pyebm._memory import copy_of
from pyebm.distributed import _archive

NOISE = pyebm.Noise(0)


def negated(x: Tensor) -> Tensor:
    """-x, whose memory holds x."""
    return torch._neg_view(x)


def test_samples():
    x, well = NOISE.randn((300, 200)), pyebm.targets.DoubleWell()
    for call in (
        copy_of,
        _archive.raw,
        lambda x: pyebm.perturb(x, 0.5, NOISE),
        lambda x: pyebm.langevin_chain(x, well, 2, 0.01, NOISE),
    ):
        got, want = call(negated(x)), call(-x)
        assert got == want if isinstance(got, bytes) else torch.equal(got, want)


@pytest.mark.parametrize("follows", [False, True])
def test_a_networks_parameters(follows):
    net = nn.Sequential(nn.Linear(2, 4), nn.SiLU(), nn.Linear(4, 1))
    energy, x = pyebm.targets.MLPEnergy(net), NOISE.randn((3, 2))
    weight = net[0].weight.detach().clone()
    with torch.set_grad_enabled(follows):
        net[0].weight.data = negated(weight)
        got = energy.score(x), pyebm.langevin_chain(x, energy, 2, 0.01, NOISE)
        net[0].weight.data = -weight
        assert_equal(got, (energy.score(x), pyebm.langevin_chain(x, energy, 2, 0.01, NOISE)))


def test_a_targets_kept_numbers():
    target, x = pyebm.targets.Gaussian(torch.tensor([1.0, 2.0]), 1.0), NOISE.randn((3, 2))
    before = target.score(x)
    target.mean.data = negated(target.mean.data)
    after = target.score(x)
    assert not torch.equal(before, after)
    assert_equal((after,), (pyebm.targets.Gaussian(torch.tensor([-1.0, -2.0]), 1.0).score(x),))
