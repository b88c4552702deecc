"""Where a derivative is wanted, temperatures and weights of exactly 0 follow a convention or are
refused in words, and never give NaN."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, normal

import pyebm
from pyebm import Noise, langevin_chain, langevin_step

X, S = normal(6, 3, dtype=torch.float64), normal(6, 3, seed=1, dtype=torch.float64)


def test_temperature():
    """At temperature 0, a step's derivative in the step size is that of x + eta s, and its
    derivative in the temperature is 0."""
    eta = torch.full((6,), 0.3, dtype=torch.float64, requires_grad=True)
    t = torch.tensor([0.0, 0.5, 0.0, 1.0, 0.0, 2.0], dtype=torch.float64, requires_grad=True)
    made = langevin_step(X, S, eta, Noise(0), temperature=t)
    assert_equal(made.detach(), langevin_step(X, S, eta.detach(), Noise(0), temperature=t.detach()))
    by_eta, by_t = torch.autograd.grad(made.sum(), (eta, t))
    cold = t == 0
    torch.testing.assert_close(by_eta[cold], S.sum(1)[cold])
    assert (by_t[cold] == 0).all()
    assert by_t.isfinite().all()
    assert (by_t[~cold] != 0).all()


def test_schedule_that_ends_at_zero():
    """The schedule's parameter gets its derivative: the last temperature is 0 whatever the
    parameter is."""
    start = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    target = pyebm.targets.DoubleWell()

    def run(start):
        return langevin_chain(
            X, target, 4, 0.05, Noise(0), temperature=start * torch.tensor([1.0, 0.5, 0.2, 0.0]).double()
        )

    assert torch.autograd.gradcheck(run, start)


def test_weights():
    weights = torch.nn.Parameter(torch.tensor([0.5, 0.0, 0.5]))
    target = pyebm.targets.GaussianMixture(torch.randn(3, 2), 0.5, weights)
    x = torch.randn(4, 2)
    for call in (target, target.log_prob, target.score):
        with pytest.raises(ValueError, match=r"weights must be > 0 where they require grad.*component 1"):
            call(x)
        with torch.no_grad():
            assert call(x).isfinite().all()
    weights.requires_grad_(False)
    x.requires_grad_()
    for call in (target, target.log_prob, target.score):
        assert torch.autograd.grad(call(x).sum(), x)[0].isfinite().all()
