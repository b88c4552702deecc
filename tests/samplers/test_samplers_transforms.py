"""Samplers run under no_grad: reverse mode takes their result for a constant, and a tangent is
refused."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jvp, vmap

import pyebm
from pyebm import samplers

NOISE = pyebm.Noise(0)
WELL = pyebm.targets.DoubleWell()


def energy(x):
    return (x**2).sum(1)


def score(x, *_):
    return -x


RUNS = {
    "Langevin": lambda x: samplers.Langevin(score, 0.1)(x, 3, noise=NOISE),
    "Langevin on a target": lambda x: samplers.Langevin(WELL, 0.01)(x, 3, noise=NOISE),
    "MALA": lambda x: samplers.MALA(energy, 0.1)(x, 3, noise=NOISE),
    "MALA on a target": lambda x: samplers.MALA(WELL, 0.01)(x, 3, noise=NOISE),
    "HMC": lambda x: samplers.HMC(energy, 0.1, 3)(x, 3, noise=NOISE),
    "UnderdampedLangevin": lambda x: samplers.UnderdampedLangevin(score, 0.1)(x, 3, noise=NOISE),
    "AnnealedLangevin": lambda x: samplers.AnnealedLangevin(score, [1.0, 0.5], 0.01, 2)(x, noise=NOISE),
    "PredictorCorrector": lambda x: samplers.PredictorCorrector(score, samplers.VE(), 4)(x, noise=NOISE),
}
every_run = pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)


@every_run
def test_a_tangent_is_refused(run):
    x = torch.ones(4, 2)
    with pytest.raises(RuntimeError, match="x0 must not have a forward-mode tangent"):
        jvp(run, (x,), (x,))
    with (
        forward_ad.dual_level(),
        pytest.raises(RuntimeError, match="x0 must not have a forward-mode tangent"),
    ):
        run(forward_ad.make_dual(x, x))


@every_run
def test_vmap_is_refused(run):
    with pytest.raises(
        RuntimeError, match=r"x0 must not be a batch of torch.vmap; give all samples as one batch"
    ):
        vmap(run)(torch.ones(3, 4, 2))


@every_run
def test_a_constant_to_reverse_mode(run):
    """The result is constant as under torch.no_grad: contrastive divergence differentiates
    around the sampler."""
    x = torch.ones(4, 2)
    expected = run(x)
    gradient = grad(lambda x: (run(x) * x).sum())(x)
    assert torch.equal(gradient, expected)
    with forward_ad.dual_level():
        assert torch.equal(run(x), expected)


@pytest.mark.parametrize("kind", ["Langevin", "MALA", "HMC", "UnderdampedLangevin", "AnnealedLangevin"])
def test_a_network_whose_weights_have_tangents_is_refused(kind):
    net = torch.nn.Linear(2, 2)
    weights = {name: p.detach() for name, p in net.named_parameters()}

    def sampled(weights):
        def score(x, *_):
            return functional_call(net, weights, (x,))

        sampler = {
            "Langevin": lambda: samplers.Langevin(score, 0.1),
            "MALA": lambda: samplers.MALA(lambda x: score(x).square().sum(1), 0.1),
            "HMC": lambda: samplers.HMC(lambda x: score(x).square().sum(1), 0.1, 2),
            "UnderdampedLangevin": lambda: samplers.UnderdampedLangevin(score, 0.1),
            "AnnealedLangevin": lambda: samplers.AnnealedLangevin(score, [1.0], 0.1, 2),
        }[kind]()
        return sampler(torch.ones(4, 2), 2, noise=NOISE)

    with pytest.raises(RuntimeError, match="must not have a forward-mode tangent"):
        jvp(sampled, (weights,), (weights,))
    constant = grad(lambda weights: sampled(weights).sum())(weights)
    assert all(not gradient.any() for gradient in constant.values())


@pytest.mark.parametrize("name", ["step_size", "temperature", "mean"])
def test_other_tangents_are_refused(name):
    def sampled(value):
        target = pyebm.targets.Gaussian(torch.nn.Parameter(torch.zeros(2)))
        kwargs = {"step_size": 0.1} | ({} if name == "mean" else {name: value})
        run = samplers.Langevin(target if name == "mean" else score, **kwargs)
        if name != "mean":
            return run(torch.ones(4, 2), 2, noise=NOISE)
        return functional_call(target, {"mean": value}, (torch.ones(4, 2),)).sum() + functional_call(
            _Sampled(target, run), {"target.mean": value}, ()
        )

    value = torch.zeros(2) if name == "mean" else torch.tensor(0.1)
    with pytest.raises(RuntimeError, match="must not have a forward-mode tangent"):
        jvp(sampled, (value,), (torch.ones_like(value),))


class _Sampled(torch.nn.Module):
    def __init__(self, target, run):
        super().__init__()
        self.target, self.run = target, run

    def forward(self):
        return self.run(torch.ones(4, 2), 2, noise=NOISE)
