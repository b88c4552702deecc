"""Our LangevinDynamics against ebmkit's own."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, normal
from compare import DTYPES, assert_as_good
from peers import package

from pyebm import Noise

ebm = package("ebm")

from pyebm.integrations.ebmkit import LangevinDynamics  # noqa: E402

NOISE = Noise(1, step=7)
OPTIONS = {
    "default": {"step_size": 0.01},
    "short-run": {"step_size": 10.0, "noise_scale": 0.005, "grad_clip": 0.01, "clamp": (-1.0, 1.0)},
}


def energy(x):
    return ((x**2 - 1) ** 2).sum(1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_step(options, dtype):
    """With torch.randn_like as noise, ours draws ebmkit's numbers in ebmkit's order."""
    x = normal(64, 3).to(dtype)
    torch.manual_seed(3)
    plain = ebm.LangevinDynamics(**options).step(energy, x)
    torch.manual_seed(3)
    got = LangevinDynamics(**options, noise=torch.randn_like).step(energy, x)
    torch.manual_seed(3)
    z = torch.randn_like(x).double()
    at = x.clone().requires_grad_()  # the gradient that both are given, in x's precision
    grad = torch.autograd.grad(energy(at).sum(), at)[0].double()
    if "grad_clip" in options:
        grad = grad.clamp(-0.01, 0.01)
    eps = options["step_size"]
    exact = x.double() - eps * grad + options.get("noise_scale", (2 * eps) ** 0.5) * z
    assert_as_good(got, plain, exact.clamp(-1, 1) if "clamp" in options else exact)


def test_a_named_chain():
    x = normal(64, 3)
    whole = LangevinDynamics(noise=NOISE, steps=20).sample(energy, x, return_trajectory=True)
    half = LangevinDynamics(noise=NOISE.shard(first_sample=32), steps=20).sample(
        energy, x[32:], return_trajectory=True
    )
    assert_equal(half, whole[:, 32:])
    z = NOISE.at(step=NOISE.step + 1).randn(x.shape)
    slope = 4 * whole[1] * (whole[1] ** 2 - 1)
    torch.testing.assert_close(whole[2], whole[1] - 0.01 * slope + 0.02**0.5 * z)


def test_the_stationary_law():
    """Our LangevinDynamics is an ebmkit Sampler, and samples its law."""
    assert isinstance(LangevinDynamics(), ebm.Sampler)
    x = LangevinDynamics(step_size=0.1, steps=100, noise=NOISE).sample(
        lambda x: 0.5 * x.square().sum(1), torch.zeros(20_000, 2)
    )
    torch.testing.assert_close(x.var(0), torch.full((2,), 1 / (1 - 0.05)), atol=0.04, rtol=0)
