"""Gaussian with a full covariance: against torch's MultivariateNormal, its score against the
truth, exact samples, bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cases import assert_equal, normal
from dense_cases import correlated, emulates, has_the_op
from torch.distributions import MultivariateNormal

import pyebm
from pyebm import Noise
from pyebm.targets import Gaussian

pytestmark = pytest.mark.usefixtures("poison", "one_thread")


@pytest.fixture
def backend(backend):
    return has_the_op(backend, "target_score")


# Sizes on both sides of 12 rows in registers, of 128 dimensions a span, and of the strides that are
# padded.
@pytest.mark.parametrize("dim", [1, 2, 11, 12, 13, 100, 129, 512, 700])
def test_the_score_is_within_the_bound(backend, dim):
    target = correlated(dim)
    precision = torch.linalg.inv(target.covariance).numpy().astype(np.longdouble)
    for dtype in (torch.float32, torch.float64):
        x = torch.cat((target.sample(19, Noise(0)), 1e3 * normal(5, dim))).to(dtype)
        far = target.mean.to(dtype).double().numpy().astype(np.longdouble) - x.double().numpy()
        unit = np.longdouble(torch.finfo(dtype).eps) / 2
        bound = (min(dim, 128) + dim / 128 + 4) * unit * (np.abs(far) @ np.abs(precision))
        if dtype == torch.float64:
            bound += 1e3 * dim * unit * np.abs(far).max()  # the inverse is computed in float64 too
        off = np.abs(target.score(x, backend=backend).double().numpy() - far @ precision)
        assert (off <= bound).all()


def test_energy_log_prob_and_score():
    target, x = correlated(7), normal(9, 7, dtype=torch.float64)
    theirs = MultivariateNormal(target.mean, target.covariance)
    torch.testing.assert_close(target.log_prob(x), theirs.log_prob(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(target.score(x), pyebm.energy_score(target, x), rtol=1e-12, atol=1e-12)
    assert target(x.half()).dtype == torch.float32
    leaf = x[:3].clone().requires_grad_()
    torch.autograd.gradcheck(target, leaf)
    torch.autograd.gradcheck(target.score, leaf)


def test_a_diagonal_covariance_is_the_diagonal_gaussian(backend):
    std = torch.tensor([0.5, 1.0, 3.0])
    full, diagonal = Gaussian(1.5, covariance=std.square().diag()), Gaussian(torch.full((3,), 1.5), std)
    x = normal(20, 3)
    torch.testing.assert_close(full.score(x, backend=backend), diagonal.score(x), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(full.log_prob(x), diagonal.log_prob(x), rtol=1e-6, atol=1e-6)


def test_a_sample_does_not_depend_on_its_batch(backend, threads, dtype):
    batch = 18 if emulates(backend, threads) else 37
    for dim in (3, 40, 600):
        target, x = correlated(dim), normal(batch, dim, dtype=dtype)
        whole = target.score(x, backend=backend)
        for size in (1, 5, 16, 36):
            assert_equal(torch.cat([target.score(part, backend=backend) for part in x.split(size)]), whole)
        assert_equal(target.score(x.t().contiguous().t(), backend=backend), whole)
        if dtype in (torch.float16, torch.bfloat16):
            assert_equal(target.score(x.float(), backend=backend).to(dtype), whole)
    assert target.score(x[:0], backend=backend).shape == (0, 600)


def test_samples(backend):
    target = correlated(4)
    x = target.sample(100_000, Noise(2), backend=backend).double()
    white = torch.linalg.solve_triangular(target.scale_tril, (x - target.mean).T, upper=False).T
    assert (white.mean(0).abs() < 5 / 100_000**0.5).all()
    assert ((white.T @ white / 100_000 - torch.eye(4)).abs() < 5 * 1.5 / 100_000**0.5).all()
    assert_equal(target.sample(3, Noise(2), backend=backend), x[:3].float())
    assert target.sample(3, Noise(2), dtype=torch.float16).dtype == torch.float16


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"covariance": [[1.0]]}, TypeError, "covariance must be .*, got list"),
        (
            {"covariance": torch.eye(2, dtype=torch.complex64)},
            TypeError,
            "covariance must be .* got torch.complex64",
        ),
        (
            {"covariance": torch.eye(2)[:1]},
            ValueError,
            r"covariance must be \(D, D\) with D >= 1, got \(1, 2\)",
        ),
        ({"covariance": torch.ones(3)}, ValueError, r"covariance must be \(D, D\) .* got \(3,\)"),
        (
            {"covariance": torch.tensor([[1.0, math.nan], [math.nan, 1.0]])},
            ValueError,
            "covariance must be finite, got nan",
        ),
        (
            {"covariance": torch.tensor([[1.0, 0.5], [0.1, 1.0]])},
            ValueError,
            "covariance must be symmetric, got entries 0.4 apart",
        ),
        (
            {"covariance": torch.ones(2, 2)},
            ValueError,
            "positive definite, got one whose leading 2 x 2 block is singular",
        ),
        (
            {"covariance": torch.tensor([[1.0, 2.0], [2.0, 1.0]])},
            ValueError,
            "positive definite, got one whose leading 2 x 2",
        ),
        ({"covariance": torch.zeros(3, 3)}, ValueError, "positive definite, got one whose leading 1 x 1"),
        ({"covariance": torch.eye(2), "std": 1.0}, ValueError, "give std or covariance, not both"),
        (
            {"covariance": torch.eye(2), "mean": torch.zeros(3)},
            ValueError,
            r"mean must be .*\(2,\), got shape \(3,\)",
        ),
    ],
)
def test_refused(arguments, error, message):
    with pytest.raises(error, match=f"Gaussian: .*{message}"):
        Gaussian(**arguments)


def test_state_dict():
    target, other = correlated(4), Gaussian(covariance=torch.eye(4))
    x = normal(3, 4)
    before = other.score(x)
    other.load_state_dict(target.state_dict())
    assert_equal(other.score(x), target.score(x))
    assert not torch.equal(other.score(x), before)
