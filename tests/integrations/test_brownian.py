"""The Brownian path: its law, what it does not depend on, and k-diffusion's sampler over it."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from cases import assert_equal, normal

from pyebm import Noise
from pyebm.integrations.brownian import _DEPTH, BrownianPath, BrownianTreeNoiseSampler, _grid, _hats

X = torch.zeros(3, 5)
TIMES = (0.0, 0.002, 0.03, 0.5, 1.0, 1.0001, 14.6, 80.0, -0.3, -2.0)


def dot(a: float, b: float) -> float:
    """The covariance of W(a) and W(b), exactly: their normals are independent and numbered."""
    weights = dict(_hats(abs(b)))
    return sum(w * weights.get(node, 0.0) for node, w in _hats(abs(a))) * (a * b > 0)


@pytest.mark.parametrize(("a", "b"), [*itertools.combinations_with_replacement(TIMES, 2)])
def test_the_covariance_is_exactly_brownian(a, b):
    assert dot(a, b) == pytest.approx(min(abs(a), abs(b)) * (a * b > 0), rel=1e-12, abs=1e-20)


def test_neighbouring_cells_are_still_independent():
    for step in (1.0, 1 + 2**-20, 1 + 2**-19):
        a, b = 0.7, 0.7 * (1 + 2**-18) * step
        assert dot(b, b) - 2 * dot(a, b) + dot(a, a) == pytest.approx(b - a, rel=1e-6)
    assert _grid(1 << _DEPTH) == 2.0**32


def test_every_normal_has_a_number_of_its_own():
    """Two nodes of the tree never share a normal, so no two weights meet by accident."""
    spans = {}
    for t in torch.rand(300, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).tolist():
        for level, (node, _) in enumerate(_hats(64 * t)):
            assert spans.setdefault(node, level) == level
            assert 0 <= node < 2 ** (_DEPTH + 1)


def test_the_law_of_the_values():
    path = BrownianPath(torch.zeros(100, 400), Noise(3))
    first, second, third = path(0.03, 0.1), path(0.1, 2.0), path(2.0, 14.6)
    for w, t in ((first, 0.07), (second, 1.9), (third, 12.6)):
        scaled = w / math.sqrt(t)
        assert abs(scaled.mean()) < 5 / 200
        assert abs(scaled.var() - 1) < 5 * math.sqrt(2) / 200
        assert abs(scaled.pow(4).mean() - 3) < 5 * math.sqrt(96) / 200
    for a, b in itertools.combinations((first, second, third), 2):
        assert abs((a * b).mean() / (a.std() * b.std())) < 5 / 200


def test_the_order_of_queries_and_the_past_change_nothing():
    queries = [(a, b) for a, b in itertools.permutations(TIMES, 2)]
    path, again = BrownianPath(X, Noise(1)), BrownianPath(X, Noise(1))
    forth = {query: path(*query) for query in queries}
    for query in reversed(queries):
        assert_equal(again(*query), forth[query])
    assert_equal(BrownianPath(X, Noise(1))(0.03, 14.6), forth[0.03, 14.6])
    assert_equal(forth[0.03, 14.6], -forth[14.6, 0.03])


def test_increments_add_up():
    path = BrownianPath(X.double(), Noise(1))
    for a, b, c in itertools.permutations(TIMES, 3):
        torch.testing.assert_close(path(a, b) + path(b, c), path(a, c), rtol=0, atol=1e-14)


def test_a_sample_does_not_depend_on_its_batch():
    noise = Noise(1, stream=5)
    whole = BrownianPath(X, noise)(0.5, 2.0)
    assert_equal(BrownianPath(X[1:], noise.shard(first_sample=1))(0.5, 2.0), whole[1:])
    assert not torch.equal(BrownianPath(X, noise.at(stream=6))(0.5, 2.0), whole)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_dtype_is_the_float64_path_rounded_once(dtype):
    exact = BrownianPath(X.double(), Noise(1))(0.5, 2.0)
    assert_equal(BrownianPath(X.to(dtype), Noise(1))(0.5, 2.0), exact.to(dtype))


def test_an_empty_batch():
    assert BrownianPath(torch.zeros(0, 4), Noise(0))(0.0, 1.0).shape == (0, 4)


def test_the_tree_sampler():
    x = normal(3, 4, 4)
    one, many = BrownianTreeNoiseSampler(x, 0.03, 14.6, 5), BrownianTreeNoiseSampler(x, 0.03, 14.6, [5, 6, 7])
    path = BrownianPath(x.double(), Noise(5))
    assert_equal(one(torch.tensor(2.0), 1.5), (path(2.0, 1.5) / math.sqrt(0.5)).float())
    assert_equal(many(2.0, 1.5)[:1], BrownianTreeNoiseSampler(x[:1], 0.03, 14.6, [5])(2.0, 1.5))
    logarithmic = BrownianTreeNoiseSampler(x, 0.03, 14.6, 5, transform=lambda sigma: sigma.log().neg())
    t0, t1 = (float(torch.tensor(sigma).log().neg()) for sigma in (2.0, 1.5))
    assert_equal(logarithmic(2.0, 1.5), (path(t0, t1) / math.sqrt(t1 - t0)).float())
    torch.manual_seed(0)
    fresh = BrownianTreeNoiseSampler(x, 0.03, 14.6)(2.0, 1.5)
    torch.manual_seed(0)
    assert_equal(BrownianTreeNoiseSampler(x, 0.03, 14.6)(2.0, 1.5), fresh)


def test_what_it_refuses():
    with pytest.raises(ValueError, match="seed must be one number, or 3"):
        BrownianTreeNoiseSampler(X, 0.03, 14.6, [1, 2])
    with pytest.raises(ValueError, match="sigma_next must give another time"):
        BrownianTreeNoiseSampler(X, 0.03, 14.6, 1)(1.0, 1.0)
    with pytest.raises(ValueError, match="noise must be at step 0"):
        BrownianPath(X, Noise(0, step=1))


def test_the_path_before_0_is_independent_of_the_path_after_it():
    path = BrownianPath(torch.zeros(2000, 1), Noise(3))
    before, after = (path.increment(0.0, t).flatten() for t in (-0.7, 0.7))
    assert torch.corrcoef(torch.stack((before, after)))[0, 1].abs() < 0.1
