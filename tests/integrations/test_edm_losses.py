"""VELoss, VPLoss and EDM2Loss against the published formulas in plain PyTorch."""

from __future__ import annotations

import math
import pickle

import pytest
import torch
from cases import assert_equal, normal
from compare import DTYPES, assert_as_good, gradient

from pyebm import Noise
from pyebm.integrations.edm import EDM2Loss, VELoss, VPLoss

SHAPE = (6, 3, 8, 8)
NOISE = Noise(1, step=7)


class Net:
    def __init__(self, weight):
        self.weight = weight
        self.sigma = None

    def __call__(self, x, sigma, labels, augment_labels=None, return_logvar=False):
        del labels, augment_labels
        self.sigma = sigma
        output = self.weight * x
        if not return_logvar:
            return output
        u = (self.weight[0, 0, 0] * sigma).sin()
        return output, u


def levels(name, uniform):
    u = uniform.double()
    if name == "VELoss":
        return (math.log(0.02) + u * math.log(100 / 0.02)).exp()
    if name == "VPLoss":
        t = 1 + u * (1e-5 - 1)
        return (9.95 * t**2 + 0.1 * t).expm1().sqrt()
    return (u * 1.0 - 0.4).exp()


LOSSES = {"VELoss": VELoss, "VPLoss": VPLoss, "EDM2Loss": EDM2Loss}


def published(name, net, y, z, sigma):
    if name != "EDM2Loss":
        return (net(y + sigma * z, sigma, None) - y) ** 2 / sigma**2
    denoised, u = net(y + sigma * z, sigma, None, return_logvar=True)
    return (sigma**2 + 0.25) / (sigma * 0.5) ** 2 / u.exp() * (denoised - y) ** 2 + u


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ours", [True, False], ids=["regenerated", "caller's noise"])
def test_loss_and_gradient(name, dtype, ours):
    y = normal(*SHAPE, dtype=dtype)
    law = "randn" if name == "EDM2Loss" else "rand"
    weight = normal(3, 8, 8, dtype=torch.float32, seed=5, grad=True)
    net = Net(weight)
    torch.manual_seed(3)
    got = LOSSES[name](noise=NOISE if ours else torch.randn_like)(net, y)
    if ours:
        level = getattr(NOISE.at(stream=1), law)((6, 1, 1, 1))
        z = NOISE.randn(SHAPE)
    else:
        torch.manual_seed(3)
        level = getattr(torch, law)(6, 1, 1, 1)
        z = torch.randn_like(y)
    sigma = net.sigma
    torch.testing.assert_close(sigma.double(), levels(name, level), rtol=1e-5, atol=1e-7)
    exact_weight = weight.detach().double().requires_grad_()
    plain = published(name, Net(weight), y, z, sigma)
    truth = published(name, Net(exact_weight), y.double(), z.double(), sigma.double())
    for triple in zip(
        gradient(got, weight), gradient(plain, weight), gradient(truth, exact_weight), strict=True
    ):
        assert_as_good(*triple)


@pytest.mark.parametrize("name", LOSSES)
def test_sum(name):
    y, weight = normal(*SHAPE), normal(3, 8, 8, seed=5, grad=True)
    values = [
        gradient(LOSSES[name](noise=NOISE, reduction=reduction)(Net(weight), y).sum(), weight)
        for reduction in ("none", "sum")
    ]
    torch.testing.assert_close(*values, rtol=1e-5, atol=1e-5)


def test_a_variance_for_each_element():
    y, weight = normal(*SHAPE), normal(3, 8, 8, seed=5)

    def net(x, sigma, labels, return_logvar):
        del sigma, labels, return_logvar
        return weight * x, x.sin()

    by_element = EDM2Loss(noise=NOISE)(net, y)
    torch.testing.assert_close(EDM2Loss(noise=NOISE, reduction="sum")(net, y), by_element)


def test_vp_levels_near_zero():
    loss = VPLoss(noise=NOISE)
    assert float(loss.sigma(torch.tensor(1e-5))) == pytest.approx(math.sqrt(1e-6 + 9.95e-10), rel=1e-5)
    assert loss.sigma(1).shape == ()


@pytest.mark.parametrize("name", LOSSES)
def test_pickles_and_samples(name):
    y, weight = normal(*SHAPE), normal(3, 8, 8, seed=5)
    loss = LOSSES[name](noise=NOISE)
    whole = loss(Net(weight), y)
    copy = pickle.loads(pickle.dumps(loss))
    assert_equal(copy(Net(weight), y), loss(Net(weight), y))
    assert_equal(LOSSES[name](noise=NOISE.shard(first_sample=4))(Net(weight), y[4:]), whole[4:])


def test_what_they_refuse():
    with pytest.raises(ValueError, match="VELoss: sigma_min must be > 0"):
        VELoss(sigma_min=0.0)
    with pytest.raises(ValueError, match="EDM2Loss: reduction must be"):
        EDM2Loss(reduction="mean")
