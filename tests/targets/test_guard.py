"""The reading of a network is kept from call to call: each change of its tensors is noticed."""

from __future__ import annotations

import copy

import pytest
import torch
from cases import assert_equal, normal
from learned_cases import mlp
from torch import nn

import pyebm
from pyebm import Noise
from pyebm.targets import MLPEnergy, _guard
from pyebm.targets._guard import Guard

X, NOISE = normal(20, 4), Noise(1)


def doubled(net: nn.Sequential) -> None:
    with torch.no_grad():
        net[0].weight.mul_(2)


def other_strides(net: nn.Sequential) -> None:
    """The same memory, version, shape and dtype, but another matrix."""
    net[0].weight.data = net[0].weight.data.t()


def other_memory(net: nn.Sequential) -> None:
    net[0].weight.data = net[0].weight.data + 1


def minus(net: nn.Sequential) -> None:
    net[0].weight.data = torch._neg_view(net[0].weight.data)


def behind_autograd(net: nn.Sequential) -> None:
    net[0].weight.detach().numpy()[:] *= 3


def another_parameter(net: nn.Sequential) -> None:
    net[0].weight = nn.Parameter(net[0].weight.detach() * 5)


def frozen(net: nn.Sequential) -> None:
    net[0].weight.requires_grad_(False)


def plain_tensor(net: nn.Sequential) -> None:
    del net[0].weight
    net[0]._parameters["weight"] = torch.full((4, 4), 0.3)


def no_bias(net: nn.Sequential) -> None:
    net[0].bias = None


def another_has_no_bias(net: nn.Sequential) -> None:
    net[0].bias, net[2].bias = None, net[0].bias


def tied(net: nn.Sequential) -> None:
    net[2].weight = net[0].weight


def wider(net: nn.Sequential) -> None:
    net.double()


CHANGES = [
    doubled,
    other_strides,
    other_memory,
    minus,
    behind_autograd,
    another_parameter,
    frozen,
    plain_tensor,
    no_bias,
    another_has_no_bias,
    tied,
    wider,
]


def network() -> nn.Sequential:
    return mlp(4, 1, width=4)


def numbers_of(target: MLPEnergy) -> list[torch.Tensor]:
    loss = pyebm.denoising_score_matching(target, X, 0.5, NOISE)
    followed = [one for one in target.net.parameters() if one.requires_grad]
    gradients = torch.autograd.grad(loss, followed, allow_unused=True)
    made = [loss.detach(), target(X).detach(), target.score(X).detach()]
    made.append(pyebm.langevin_chain(X, target, 3, 0.01, NOISE))
    return made + [one for one in gradients if one is not None]


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_noticed(change, bare):
    """bare: in a network one of whose layers has no bias."""
    net = network()
    if bare:
        net[2].bias = None
    target = MLPEnergy(net)
    before = numbers_of(target)
    change(net)
    got, again = numbers_of(target), numbers_of(target)
    fresh = numbers_of(MLPEnergy(net))
    for one, other, third in zip(got, again, fresh, strict=True):
        assert_equal(one, other)
        assert_equal(one, third)
    if change not in (frozen, wider):
        assert not torch.equal(before[2], got[2])


@pytest.mark.parametrize("change", [other_strides, minus, another_parameter, frozen, wider, plain_tensor])
def test_the_guard_alone(change):
    net = network()
    tensors = list(net.parameters())
    guard = Guard(tensors)
    assert guard.whole
    assert guard.passes(tensors)
    change(net)
    changed = [net[0]._parameters["weight"], *tensors[1:]]
    same = change is another_parameter  # which differs in its values alone
    assert guard.passes(changed) == same
    assert Guard(changed).whole == (change not in (other_strides, minus))


def test_tensors_that_are_not_there():
    one, other, third = (torch.zeros(2) for _ in range(3))
    guard = Guard([one, None, other])
    assert guard.whole
    assert guard.passes([one, None, third])
    assert not guard.passes([one, other, None])
    assert not guard.passes([None, one, other])
    assert not guard.passes([one, third, other])
    assert not guard.passes([one, None, None])


def test_the_guard_can_not_tell():
    tensors = list(network().parameters())
    guard = Guard(tensors)
    assert not guard.passes([None, *tensors[1:]])
    assert not guard.passes([tensors[1], *tensors[1:]])
    with torch.autocast("cpu"):
        assert not guard.passes(tensors)
    assert not Guard([tensor.to("meta") for tensor in tensors]).whole


def test_a_torch_without_the_comparison(monkeypatch):
    net = network()
    want = numbers_of(MLPEnergy(copy.deepcopy(net)))
    monkeypatch.setattr(_guard, "_Guards", None)
    target = MLPEnergy(net)
    for _ in range(2):
        for one, other in zip(numbers_of(target), want, strict=True):
            assert_equal(one, other)
