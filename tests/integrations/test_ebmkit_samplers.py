"""ebmkit's samplers with its own draws against its own, and with a Noise."""

from __future__ import annotations

import pickle

import pytest
import torch
from cases import assert_equal, normal
from compare import assert_as_good
from peers import package

from pyebm import Noise

ebm = package("ebm")
from ebm.diffusion import VPSchedule  # noqa: E402

from pyebm.integrations import ebmkit  # noqa: E402

SHAPE = (6, 2, 3)
NOISE = Noise(1, step=7)
SIGMAS = torch.tensor([2.0, 1.0, 0.3])
MADE = {
    "UnderdampedLangevin": {"step_size": 0.1, "friction": 0.7, "steps": 6},
    "MALA": {"step_size": 0.3, "steps": 6},
    "HMC": {"step_size": 0.4, "leapfrog_steps": 3, "steps": 6},
    "AnnealedLangevinDynamics": {"sigmas": SIGMAS, "step_size": 1e-2, "steps_per_sigma": 3},
    "DDPMAncestralSampler": {"schedule": VPSchedule(8)},
}


def energy(x, sigma=None):
    scale = 1.0 if sigma is None else 1 + sigma**2
    return (x.flatten(1).cosh().log().sum(1) + 0.1 * x.flatten(1).pow(4).sum(1)) / scale


def theirs(name):
    return getattr(ebm.samplers, name, None) or getattr(ebm.diffusion, name)


@pytest.mark.parametrize("name", MADE)
def test_with_torchs_draws_it_is_ebmkits_run(name):
    results = []
    for cls, noise, dtype in (
        (getattr(ebmkit, name), {"noise": torch.randn_like}, torch.float32),
        (theirs(name), {}, torch.float32),
        (theirs(name), {}, torch.float64),
    ):
        torch.manual_seed(3)
        with pytest.MonkeyPatch.context() as patch:
            if dtype == torch.float64:
                patch.setattr(torch, "randn_like", lambda x: torch.randn(x.shape).double())
                patch.setattr(torch, "rand_like", lambda x: torch.rand(x.shape).double())
            options = {key: value.double() if torch.is_tensor(value) and dtype == torch.float64 else value
                       for key, value in MADE[name].items()}  # fmt: skip
            sampler = cls(**options, **noise)
            results.append(sampler.sample(energy, normal(*SHAPE).to(dtype)))
    assert_as_good(*results, scale=4.0)
    if name in ("MALA", "HMC"):
        assert 0 < sampler.last_accept_rate <= 1


@pytest.mark.parametrize("name", MADE)
def test_a_chain_does_not_depend_on_its_batch(name):
    x = normal(*SHAPE)
    sampler = getattr(ebmkit, name)(**MADE[name], noise=NOISE)
    whole = sampler.sample(energy, x)
    part = getattr(ebmkit, name)(**MADE[name], noise=NOISE.shard(first_sample=2)).sample(energy, x[2:])
    torch.testing.assert_close(part, whole[2:], rtol=1e-6, atol=1e-6)
    assert not torch.equal(sampler.sample(energy, x), whole)  # it goes on in the noise
    assert isinstance(sampler, theirs(name))
    copy = pickle.loads(pickle.dumps(sampler))
    assert_equal(copy.sample(energy, x), sampler.sample(energy, x))


def test_what_they_refuse():
    x = normal(*SHAPE)
    for call, message in (
        (lambda: ebmkit.MALA(noise=NOISE).step(None, x), "energy must be"),
        (lambda: ebmkit.MALA(step_size=0.0).step(energy, x), "step_size must be > 0"),
        (lambda: ebmkit.HMC(leapfrog_steps=0).step(energy, x), "leapfrog_steps must be"),
        (lambda: ebmkit.UnderdampedLangevin(friction=-1.0).step(energy, x), "friction must be"),
        (
            lambda: ebmkit.AnnealedLangevinDynamics(SIGMAS, step_size=-1.0).step(energy, x),
            "step_size must be",
        ),
        (lambda: ebmkit.HMC(noise=3), "noise"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            call()
