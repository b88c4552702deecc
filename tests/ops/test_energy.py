"""energy_score is minus the gradient of the energy, detached for sampling or with its graph for
training."""

from __future__ import annotations

import pytest
import torch
from cases import DTYPES, assert_equal, name_of, normal
from torch import nn

import pyebm


def quadratic(x):
    return 0.5 * x.square().flatten(1).sum(1)


def quartic(x):
    return (x**4).flatten(1).sum(1, keepdim=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 4, 4), (0, 3), (1, 1)], ids=name_of)
def test_sign_and_scale(dtype, shape):
    """The score is -x for the standard normal's energy and -4 x^3 for x^4, whether energies are
    (B,) or (B, 1)."""
    x = normal(*shape, dtype=dtype)
    assert_equal(pyebm.energy_score(quadratic, x), -x)
    torch.testing.assert_close(pyebm.energy_score(quartic, x), -4 * x**3)


def test_one_dimensional_samples():
    x = normal(7)
    torch.testing.assert_close(pyebm.energy_score(lambda x: x.cos(), x), x.sin())


class TestGraph:
    def test_sampling_keeps_none(self):
        net = nn.Linear(3, 1)
        for x in (normal(4, 3), normal(4, 3, grad=True)):
            score = pyebm.energy_score(lambda x: net(x).exp(), x)
            assert not score.requires_grad
            assert x.grad is None
            assert net.weight.grad is None

    def test_works_without_grad(self):
        x = normal(4, 3, grad=True)
        with torch.no_grad():
            assert_equal(pyebm.energy_score(quadratic, x), -x)
            assert not torch.is_grad_enabled()

    def test_x_is_left_as_it_was(self):
        x = normal(4, 3)
        pyebm.energy_score(quadratic, x, create_graph=True)
        assert not x.requires_grad
        assert_equal(x, normal(4, 3))

    def test_training_reaches_the_parameters(self):
        """For E = theta x^2 / 2 the score is -theta x; the loss |score|^2 / 2 has the derivative
        theta x^2 in theta."""
        theta = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
        x = normal(4, 3, dtype=torch.float64)
        score = pyebm.energy_score(lambda x: theta * quadratic(x), x, create_graph=True)
        assert_equal(score.detach(), -1.5 * x)
        (got,) = torch.autograd.grad(0.5 * score.square().sum(), theta)
        torch.testing.assert_close(got, 1.5 * x.square().sum())

    def test_differentiable_in_x(self):
        """With create_graph, the score has the Hessian's products as first derivatives in x, and
        second derivatives too."""
        x = normal(2, 3, dtype=torch.float64, grad=True)

        def score(x):
            return pyebm.energy_score(lambda x: x.sin().prod(1), x, create_graph=True)

        assert torch.autograd.gradcheck(score, x)
        assert torch.autograd.gradgradcheck(score, x)

    def test_trains_beneath_the_loss(self):
        """The gradient in a network's parameters equals torch.autograd's on the plain
        expression."""
        noise, x = pyebm.Noise(0), normal(6, 3, dtype=torch.float64)
        net = nn.Sequential(nn.Linear(3, 8), nn.Softplus(), nn.Linear(8, 1)).double()
        pyebm.dsm_loss(pyebm.energy_score(net, x, create_graph=True), 0.5, noise).backward()
        got = [p.grad.clone() for p in net.parameters() if p.grad is not None]
        net.zero_grad(set_to_none=True)
        at = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(net(at).sum(), at, create_graph=True)
        z = noise.randn(x.shape, dtype=torch.float64)
        (0.5 * ((-gradient + z / 0.5) ** 2).sum(1)).mean().backward()
        torch.testing.assert_close(got, [p.grad for p in net.parameters() if p.grad is not None])


@pytest.mark.parametrize(
    ("energy", "x", "error", "message"),
    [
        (
            quadratic,
            torch.ones(3, 2, dtype=torch.int64),
            TypeError,
            "energy_score: x must be .*got torch.int64",
        ),
        (quadratic, torch.ones(3, 2).to_sparse(), TypeError, "energy_score: x must be .*sparse_coo"),
        (quadratic, [1.0], TypeError, "energy_score: x must be a tensor, got list"),
        (quadratic, torch.tensor(1.0), ValueError, "energy_score: x must .*0-dim"),
        (lambda _: 1.0, normal(3, 2), TypeError, "energy_fn must return a tensor, got float"),
        (torch.square, normal(3, 2), ValueError, r"energy_fn must return .*shape \(3,\), got \(3, 2\)"),
        (torch.sum, normal(3, 2), ValueError, r"energy_fn must return .*shape \(3,\), got \(\)"),
        (
            lambda x: x.detach().sum(1),
            normal(3, 2),
            ValueError,
            "energy_fn must return an energy that depends on x",
        ),
        (
            lambda _: torch.ones(3, requires_grad=True) * 2,
            normal(3, 2),
            ValueError,
            "energy_fn must return an energy that depends on x",
        ),
    ],
    ids=["int", "sparse", "list", "0-dim", "float", "per element", "total", "detached", "of parameters only"],
)
def test_bad_input(energy, x, error, message):
    with pytest.raises(error, match=message):
        pyebm.energy_score(energy, x)
