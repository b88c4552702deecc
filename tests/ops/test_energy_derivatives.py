"""energy_score in forward mode and in torch.func's transforms: nothing cuts its derivative."""

from __future__ import annotations

import functools

import pytest
import torch
from cases import assert_equal, normal
from torch.autograd import forward_ad

import pyebm

# torch warns at the first use of its own forward derivatives.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")

X, V = normal(3, 2, dtype=torch.float64), normal(3, 2, dtype=torch.float64, seed=5)


def energy(x):
    return (x.sin() * x).sum(1) + x.pow(4).sum(1)


score = functools.partial(pyebm.energy_score, energy)
HESSIAN = torch.autograd.functional.hessian(lambda x: energy(x).sum(), X)
ALONG_V = -torch.einsum("abcd,cd->ab", HESSIAN, V)


def test_forward():
    value, tangent = torch.func.jvp(score, (X,), (V,))
    torch.testing.assert_close(tangent, ALONG_V)
    torch.testing.assert_close(value, score(X))
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(score(forward_ad.make_dual(X, V))).tangent
    torch.testing.assert_close(tangent, ALONG_V)
    torch.testing.assert_close(torch.func.jacfwd(score)(X), -HESSIAN)


def test_backward():
    torch.testing.assert_close(torch.func.grad(lambda x: (score(x) * V).sum())(X), ALONG_V)
    torch.testing.assert_close(torch.func.jacrev(score)(X), -HESSIAN)
    per_sample = torch.func.vmap(torch.func.grad(lambda x, v: (score(x[None])[0] * v).sum()))(X, V)
    torch.testing.assert_close(per_sample, ALONG_V)


def test_vmap():
    batches = torch.stack((X, 2 * X))
    assert_equal(torch.func.vmap(score)(batches), torch.stack([score(x) for x in batches]))


def test_a_network_s_weights():
    net = torch.nn.Linear(2, 1).double()
    weights = {name: value.detach() for name, value in net.named_parameters()}
    tangents = {name: torch.ones_like(value) for name, value in weights.items()}

    def score_with(weights):
        return pyebm.energy_score(
            lambda x: torch.func.functional_call(net, weights, (x,)).square().squeeze(1), X
        )

    _, tangent = torch.func.jvp(score_with, (weights,), (tangents,))
    ends = [
        score_with({name: value + sign * 1e-6 * tangents[name] for name, value in weights.items()})
        for sign in (1, -1)
    ]
    torch.testing.assert_close(tangent, (ends[0] - ends[1]) / 2e-6, atol=1e-8, rtol=1e-6)


def test_a_constant_is_refused():
    with pytest.raises(ValueError, match="energy that depends on x through autograd, got a constant"):
        torch.func.jvp(lambda x: pyebm.energy_score(lambda _: torch.ones(3), x), (X,), (V,))
