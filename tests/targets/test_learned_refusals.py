"""Networks that the kernels can't run are refused in words that name the layer, and name what
can run the network."""

from __future__ import annotations

import pytest
import torch
from cases import normal
from learned_cases import mlp, wired
from torch import nn

import pyebm
from pyebm.targets import InputSkip, MLPEnergy, MLPScore, Residual

pytestmark = pytest.mark.usefixtures("one_thread")
L = nn.Linear


class Own(nn.Module):
    def forward(self, x):
        return x.sum(1)


def hooked():
    net = mlp(2, 1)
    net[2].register_forward_hook(lambda *_: None)
    return net


def own_forward():
    net = mlp(2, 1)
    net[0].forward = lambda x: x
    return net


def mixed(dtype):
    net = mlp(2, 1)
    net[2].to(dtype)
    return net


def parametrized():
    net = mlp(2, 1)
    nn.utils.parametrizations.weight_norm(net[2])
    return net


S = nn.Sequential
CASES = {
    "LayerNorm": (
        S(L(2, 4), nn.LayerNorm(4), L(4, 1)),
        TypeError,
        "layer '1' of net, LayerNorm, is no layer",
    ),
    "convolution": (
        S(nn.Conv1d(1, 4, 3), nn.Flatten(), L(4, 1)),
        TypeError,
        "layer '0' of net, Conv1d, is no layer",
    ),
    "nested": (
        S(L(2, 4), S(nn.SiLU(), nn.Softmax(1)), L(4, 1)),
        TypeError,
        "layer '1.1' of net, Softmax, is no layer",
    ),
    "own": (Own(), TypeError, "layer '' of net, Own, is no layer"),
    "hook": (hooked(), TypeError, "layer '2' of net, Linear, has hooks"),
    "forward": (own_forward(), TypeError, "layer '0' of net, Linear, has a forward of its own"),
    "parametrized": (parametrized(), TypeError, "layer '2' of net, ParametrizedLinear, has parametrizations"),
    "dropout": (
        S(L(2, 4), nn.Dropout(0.5), L(4, 1)),
        ValueError,
        "layer '1' of net, Dropout, draws at random",
    ),
    "threshold": (
        S(L(2, 4), nn.Softplus(threshold=5), L(4, 1)),
        ValueError,
        "layer '1' of net, Softplus, must have beta > 0",
    ),
    "activation first": (S(nn.SiLU(), L(2, 1)), ValueError, "layer '0' of net, SiLU, must follow a Linear"),
    "two activations": (
        S(L(2, 4), nn.SiLU(), nn.Tanh(), L(4, 1)),
        ValueError,
        "layer '2' of net, Tanh, must follow a Linear",
    ),
    "residual of two": (
        S(L(2, 4), Residual(L(4, 4), nn.SiLU(), L(4, 4)), L(4, 1)),
        ValueError,
        "layer '1' of net, Residual, must hold one",
    ),
    "residual's width": (
        S(L(2, 4), Residual(L(4, 1)), L(1, 1)),
        ValueError,
        r"layer '1.0' of net, Linear\(4, 1\), must leave the width 4",
    ),
    "skip inside": (
        S(L(2, 4), InputSkip(L(4, 4)), L(4, 1)),
        ValueError,
        "layer '1' of net, InputSkip, must come first",
    ),
    "flatten": (S(nn.Flatten(0), L(2, 1)), ValueError, "must not mix the samples"),
    "after flatten": (S(L(2, 1), nn.Flatten(0), nn.Tanh()), ValueError, "comes after '1'"),
    "widths": (
        S(L(2, 4), nn.SiLU(), L(5, 1)),
        ValueError,
        r"layer '2' of net, Linear\(5, 1\), must have 4 inputs",
    ),
    "last": (
        S(L(2, 4), nn.SiLU(), L(4, 2)),
        ValueError,
        r"layer '2' of net, Linear\(4, 2\), must have 1 outputs",
    ),
    "wide": (S(L(2, 513), L(513, 1)), ValueError, "must have at most 512 outputs"),
    "deep": (S(L(2, 4), *(L(4, 4) for _ in range(9)), L(4, 1)), ValueError, "at most 9 Linear"),
    "many elements": (L(4097, 1), ValueError, "1 to 4096 elements"),
    "empty": (S(), ValueError, "at least one Linear"),
    "dtype": (mixed(torch.float64), TypeError, "the first layer's dtype torch.float32, got torch.float64"),
    "complex": (L(2, 1, dtype=torch.complex64), TypeError, "must have a floating-point dtype"),
    "device": (
        S(L(2, 4), L(4, 1, device="meta")),
        ValueError,
        "must be on cpu like the first layer, got meta",
    ),
    "no module": (torch.sin, TypeError, "net must be a torch.nn.Module"),
}


WRONG = (
    "residual's width",
    "widths",
    "last",
    "many elements",
    "empty",
    "no module",
)  # no sampler can run these, at least not as this kind of target


@pytest.mark.parametrize("case", CASES)
def test_refused(case):
    net, error, match = CASES[case]
    with pytest.raises(error, match=match) as caught:
        MLPEnergy(net)
    if case not in WRONG:
        assert (
            "pyebm.samplers.Langevin(functools.partial(pyebm.energy_score, net), ...) runs any network"
            in str(caught.value)
        )


def test_says_what_runs_a_score():
    with pytest.raises(TypeError, match=r"pyebm.samplers.Langevin\(net, ...\) runs any network"):
        MLPScore(S(L(2, 2), nn.BatchNorm1d(2)))


def test_a_network_that_changes():
    """Later calls check the network again."""
    net, x = mlp(2, 1), normal(3, 2)
    target = MLPEnergy(net)
    net[1] = nn.LayerNorm(12)
    for call in (
        lambda: target(x),
        lambda: target.score(x),
        lambda: pyebm.langevin_chain(x, target, 2, 0.1, pyebm.Noise(0)),
    ):
        with pytest.raises(TypeError, match="LayerNorm"):
            call()
    net[1] = nn.SiLU()
    net[0].weight = nn.Parameter(torch.zeros(12, 3))
    with pytest.raises(ValueError, match="samples of 2 elements"):
        target(x)
    net[0].weight = nn.Parameter(torch.zeros(11, 2))
    with pytest.raises(ValueError, match="must have"):
        target(x)
    trained = MLPEnergy(wired(2, 1))
    trained.train()
    with pytest.raises(
        ValueError, match=r"'1.0' of net, Dropout, draws at random in training mode; call net.eval\(\)"
    ):
        trained(x)


def test_what_does_not_fit():
    target, x = MLPEnergy(mlp(2, 1)), normal(3, 2)
    for call, error, match in (
        (lambda: target(normal(3, 4)), ValueError, "MLPEnergy.energy: x must have samples of 2 elements"),
        (lambda: target.score(x.long()), TypeError, "MLPEnergy.score: x must be float16"),
        (lambda: target.score(x.to("meta")), ValueError, "network's device cpu, got meta"),
        (lambda: target.hvp(x, x[:2]), ValueError, "MLPEnergy.hvp: v must have x's shape"),
        (lambda: MLPEnergy(mlp(2, 1), float("nan")), ValueError, "quadratic must be finite"),
        (lambda: MLPScore(mlp(2, 2)).energy(x), NotImplementedError, "has no energy"),
        (lambda: target.log_prob(x), NotImplementedError, "normaliser"),
        (lambda: target.sample(3, pyebm.Noise(0)), NotImplementedError, "no exact sampling"),
    ):
        with pytest.raises(error, match=match):
            call()


@pytest.mark.parametrize(
    "sampler", [pyebm.samplers.MALA, lambda score, eta: pyebm.samplers.HMC(score, eta, 2)]
)
def test_a_score_has_no_test(sampler):
    """This also holds in one dimension, where a score's (B, 1) could pass for an energy."""
    with pytest.raises(TypeError, match="energy_fn must have an energy, got MLPScore"):
        sampler(MLPScore(L(1, 1)), 0.1)(torch.zeros(3, 1), 2, noise=0)


def test_a_level_needs_a_condition():
    with pytest.raises(ValueError, match="make the MLPScore with condition=C"):
        pyebm.samplers.AnnealedLangevin(MLPScore(mlp(2, 2)), [1.0], 0.1, 2)(torch.zeros(3, 2), noise=0)


def test_no_subclass_with_another_energy():
    with pytest.raises(TypeError, match="energy can't be another one"):

        class Other(MLPEnergy):
            def energy(self, x, c=None):
                return super().energy(x, c) + 1
