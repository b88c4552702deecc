"""GaussianMixture: energy and log_prob against torch's own mixture, its score against the truth,
exact samples, bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cases import assert_equal, levels, normal
from dense_cases import SCALES, SIZES, assert_within_bound, emulates, has_the_op, mixture, scale_of
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

import pyebm
from pyebm import Noise
from pyebm.targets import GaussianMixture

pytestmark = pytest.mark.usefixtures("poison", "one_thread")


@pytest.fixture
def backend(backend):
    return has_the_op(backend, "target_score")


def theirs(target):
    """Returns the same distribution in torch."""
    means, scale = target.means.double(), target._rows().expand_as(target.means)
    return MixtureSameFamily(Categorical(target.weights), Independent(Normal(means, scale), 1))


@pytest.mark.parametrize("scale", SCALES)
class TestEveryKind:
    @pytest.mark.parametrize("size", SIZES, ids=str)
    def test_the_score_is_within_the_bound(self, backend, size, scale):
        target = mixture(*size, scale)
        for dtype in (torch.float32, torch.float64):
            # Near the components, between them, and so far out that every density is 0 in float64
            # (e^-10^4 and less).
            x = torch.cat(
                [
                    each[: 40 if size[1] < 500 else 6]
                    for each in (
                        target.sample(45, Noise(1)).double(),
                        normal(20, size[1]).double(),
                        200 * normal(7, size[1], seed=4).double(),
                    )
                ]
            ).to(dtype)
            got = target.score(x, backend=backend)
            assert got.isfinite().all()
            assert_within_bound(got, target, x)

    def test_energy_and_log_prob(self, scale):
        target = mixture(13, 5, scale)
        x = 2 * normal(9, 5, dtype=torch.float64)
        torch.testing.assert_close(target.log_prob(x), theirs(target).log_prob(x), rtol=1e-12, atol=1e-12)
        assert_equal(target(x), -target.log_prob(x))
        far = target.log_prob(1e3 * x.float())
        assert far.dtype == torch.float32
        assert (far < -1e4).all()
        assert far.isfinite().all()

    def test_the_score_is_the_energys_gradient(self, backend, scale):
        target, x = mixture(13, 5, scale), 2 * normal(9, 5, dtype=torch.float64)
        gradient = pyebm.energy_score(target, x)
        torch.testing.assert_close(target.score(x, backend=backend), gradient, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(target.score(x.clone().requires_grad_()), gradient, rtol=1e-10, atol=1e-10)
        leaf = x[:3].clone().requires_grad_()
        torch.autograd.gradcheck(target, leaf)
        torch.autograd.gradcheck(target.score, leaf)

    def test_half_precisions_are_rounded_once(self, backend, scale):
        target, x = mixture(21, 6, scale), normal(9, 6)
        for dtype in (torch.float16, torch.bfloat16):
            low = x.to(dtype)
            assert_equal(
                target.score(low, backend=backend), target.score(low.float(), backend=backend).to(dtype)
            )

    def test_a_sample_does_not_depend_on_its_batch(self, backend, threads, scale):
        batch = 18 if emulates(backend, threads) else 41
        for dim in (2, 9, 70, 600):
            target, x = mixture(50, dim, scale, spread=3.0), 2 * normal(batch, dim)
            whole = target.score(x, backend=backend)
            for size in (1, 3, 8, 9, 16, 17, 40):
                assert_equal(
                    torch.cat([target.score(part, backend=backend) for part in x.split(size)]), whole
                )
            spread = x.t().contiguous().t()
            assert_equal(target.score(spread, backend=backend), whole)
            assert_equal(target.score(x[::2], backend=backend), whole[::2])
            image = x.reshape(batch, 1, dim)
            assert_equal(target.score(image, backend=backend), whole.reshape(batch, 1, dim))
        assert target.score(x[:0], backend=backend).shape == (0, 600)

    def test_samples_have_the_moments(self, scale):
        target = mixture(4, 3, scale, spread=2.0)
        x, expected = target.sample(100_000, Noise(5)), theirs(target)
        deviation = expected.variance.sqrt()
        assert ((x.double().mean(0) - expected.mean).abs() < 5 * deviation / 100_000**0.5).all()
        assert ((x.double().var(0) / expected.variance - 1).abs() < 0.03).all()
        assert_equal(target.sample(7, Noise(5)), x[:7])
        assert_equal(target.sample(5, Noise(5, first_sample=100)), x[100:105])


def test_weights_are_right_to_a_few_ulps(backend, dtype):
    """The score of two components in one dimension is a hyperbolic tangent: only the exponential
    can be wrong."""
    if dtype not in (torch.float32, torch.float64):
        return
    x = torch.linspace(-9, 9, 20_001, dtype=dtype)[:, None]
    target = GaussianMixture(torch.tensor([[-1.0], [1.0]]), 1.0)
    at = x.numpy().astype(np.longdouble)
    off = np.abs(target.score(x, backend=backend).numpy() - (np.tanh(at) - at))
    assert (off <= 4 * torch.finfo(dtype).eps * (1 + np.abs(at))).all()
    middle = np.abs(at) < 0.5
    assert off[middle].max() <= 1.5 * torch.finfo(dtype).eps


def test_samples_choose_components_by_weight():
    weights = torch.tensor([0.5, 0.0, 0.3, 0.15, 0.05])
    target = GaussianMixture(10 * torch.arange(5.0)[:, None], 0.1, weights)
    chosen = (target.sample(100_000, Noise(0))[:, 0] / 10).round().long()
    counts = torch.bincount(chosen, minlength=5).double()
    assert counts[1] == 0
    expected = weights[weights > 0].double() * 100_000
    assert (
        (counts[weights > 0] - expected).square() / expected
    ).sum() < 18.5  # chi squared, 3 degrees: p = 0.0003


def test_rare_components_are_not_lost():
    """There are 10^5 components, so the uniforms must be finer than their weights."""
    target = GaussianMixture(torch.arange(100_000.0)[:, None], 1e-3)
    chosen = target.sample(200_000, Noise(0), dtype=torch.float64)[:, 0].round()
    edges = torch.histc(chosen, 1000, -0.5, 99_999.5)
    assert (edges - 200).square().sum() / 200 < 1200  # chi squared, 999 degrees: p = 1e-5


def test_from_data_is_the_score_of_the_perturbed_data(backend):
    data = normal(30, 2, 3, seed=8)
    target = GaussianMixture.from_data(data, 0.3)
    x = pyebm.perturb(data, 0.3, Noise(0))
    flat, rows = x.reshape(30, 6).double(), data.reshape(30, 6).double()
    r = torch.softmax(-(flat[:, None] - rows).square().sum(2) / (2 * 0.3**2), 1)
    expected = ((r @ rows - flat) / 0.3**2).reshape(x.shape)
    torch.testing.assert_close(target.score(x, backend=backend).double(), expected, rtol=1e-4, atol=1e-4)
    alone = GaussianMixture.from_data(data[:1], 0.3).score(x, backend=backend)
    torch.testing.assert_close(alone, (data[:1] - x) / 0.3**2, rtol=1e-5, atol=1e-5)


def test_small_scales_are_no_worse_than_the_expanded_form(backend):
    """|x|^2 - 2 x mean + |mean|^2 loses all digits at small scales; differences keep them."""
    data = 20 * normal(500, 16, seed=8)
    close = torch.cat(
        (data, data + 0.02 * normal(500, 16, seed=9))
    )  # the components of a pair are some 8 scales apart
    target = GaussianMixture.from_data(close, 0.01)
    x = (0.5 * (data + close[500:]))[:200]  # the middle of each pair, where the weights decide
    assert_within_bound(target.score(x, backend=backend), target, x)
    expected = target.score(x.double())
    p = torch.softmax((x @ close.T - 0.5 * close.square().sum(1)) / 0.01**2, 1)
    expanded = (p @ close - x) / 0.01**2
    error = (target.score(x, backend=backend) - expected).abs().mean()
    assert error < 0.05 * (expanded - expected).abs().mean()


def test_components_out_of_reach_change_no_bit(backend):
    """The kernel skips components that no lane needs, so these must add exactly nothing."""
    near, far = normal(60, 7), 1e3 + normal(300, 7, seed=1)
    x = normal(40, 7, seed=2)
    alone = GaussianMixture(near, 1.0)
    for means in (torch.cat((far, near)), torch.cat((near, far)), torch.cat((far[:96], near, far[96:]))):
        got = GaussianMixture(means, 1.0).score(x, backend=backend)
        torch.testing.assert_close(got, alone.score(x, backend=backend), rtol=1e-5, atol=1e-5)
        mixed = GaussianMixture(means, 1.0).score(torch.cat((x, far[:40] + 1)), backend=backend)
        assert_equal(mixed[:40], got)


def test_not_finite_states_stay_their_own(backend):
    target, x = mixture(30, 6), normal(40, 6)
    expected = target.score(x, backend=backend)
    for value in (math.nan, math.inf, -math.inf, 1e30):
        bad = x.clone()
        bad[5, 2] = value
        got = target.score(bad, backend=backend)
        assert_equal(got[torch.arange(40) != 5], expected[torch.arange(40) != 5])
        assert not got[5].isfinite().all()


def test_state_dict_and_dtype():
    target = mixture(9, 4, "both")
    other = GaussianMixture(torch.zeros(9, 4), torch.ones(9, 4))
    before = other.score(normal(3, 4))
    other.load_state_dict(target.state_dict())
    assert_equal(other.score(normal(3, 4)), target.score(normal(3, 4)))
    assert not torch.equal(other.score(normal(3, 4)), before)


class TestBadInput:
    means = normal(4, 3)

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            (("means", 1.0), TypeError, "means must be a dense tensor of real numbers, got str"),
            ((torch.zeros(4, 3, dtype=torch.complex64), 1.0), TypeError, "means must be .*complex64"),
            ((torch.zeros(4), 1.0), ValueError, r"means must be \(M, D\) with M, D >= 1, got \(4,\)"),
            ((torch.zeros(0, 3), 1.0), ValueError, r"means must be .* got \(0, 3\)"),
            ((torch.tensor([[1.0], [math.nan]]), 1.0), ValueError, "means must be finite, got nan"),
            ((means, 0.0), ValueError, "scale must be > 0 and finite, got 0"),
            ((means, -1.0), ValueError, "scale must be > 0 and finite, got -1"),
            ((means, math.inf), ValueError, "scale must be > 0 and finite, got inf"),
            (
                (means, torch.ones(4)),
                ValueError,
                r"scale must be .* for means \(M, D\) = \(4, 3\), got \(4,\)",
            ),
            ((means, torch.ones(1, 4, 3)), ValueError, r"scale must be .* got \(1, 4, 3\)"),
            ((means, None), TypeError, "scale must be .* got NoneType"),
            (
                (means, 1.0, torch.ones(3) / 3),
                ValueError,
                r"weights must be one a component, \(4,\), got \(3,\)",
            ),
            ((means, 1.0, torch.ones(4)), ValueError, "weights must sum to 1, got 4; divide them by it"),
            (
                (means, 1.0, torch.tensor([0.5, 0.8, -0.3, 0.0])),
                ValueError,
                "weights must be >= 0 and finite, got -0.3",
            ),
            (
                (means, 1.0, torch.tensor([0.5, 0.5, math.nan, 0.0])),
                ValueError,
                "weights must be >= 0 and finite, got nan",
            ),
            ((means, 1.0, [0.25] * 4), TypeError, "weights must be .* got list"),
        ],
    )
    def test_refused(self, arguments, error, message):
        with pytest.raises(error, match=f"GaussianMixture: {message}"):
            GaussianMixture(*arguments)

    def test_scales_that_the_dtype_has_not(self):
        target = GaussianMixture(self.means, 1e-20)
        with pytest.raises(
            ValueError, match=r"scale\^2 must be normal numbers of torch.float32, .* got scale from 1e-20"
        ):
            target.score(self.means)
        assert target.score(self.means.double()).isfinite().all()

    def test_samples_of_another_dimension(self, backend):
        with pytest.raises(ValueError, match="must have samples of 3 elements"):
            mixture(4, 3).score(torch.zeros(5, 4), backend=backend)

    def test_the_op_checks_its_parameters(self):
        x = torch.zeros(2, 3)
        for kind in ("mixture", "mixture_diagonal", "gaussian_full"):
            with pytest.raises(ValueError, match=f"{kind} with 11 parameters has no samples of 3 elements"):
                torch.ops.pyebm.target_score(
                    x.clone(), x, pyebm._schemas.TARGETS.index(kind), torch.zeros(11)
                )


def test_scales_of_every_shape_mean_what_they_say():
    means, x = normal(5, 4), normal(6, 4, seed=1)
    full = GaussianMixture(means, scale_of("both", 5, 4) * 0 + 0.7).score(x)
    for scale in (
        0.7,
        torch.tensor(0.7),
        torch.full((5, 1), 0.7),
        torch.full((4,), 0.7),
        torch.full((1, 4), 0.7),
    ):
        torch.testing.assert_close(GaussianMixture(means, scale).score(x), full, rtol=2e-5, atol=2e-5)
    uneven = levels(5)[:, None]
    by_components = GaussianMixture(means, uneven).score(x)
    torch.testing.assert_close(
        by_components, GaussianMixture(means, uneven.expand(5, 4)).score(x), rtol=2e-5, atol=2e-5
    )
    assert (by_components - full).abs().max() > 0.1
