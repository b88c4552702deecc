"""The CPU's kernels score one sample alone in another way than a batch: the dense targets give
it the bits that it has in a batch."""

from __future__ import annotations

import emulated
import pytest
import torch
from cases import assert_equal, normal
from dense_cases import SCALES, correlated, has_the_op, mixture

import pyebm

pytestmark = pytest.mark.usefixtures("poison")

# Counts on both sides of the lanes (2 to 16), of a tile's 96 components and of two tiles;
# dimensions on both sides of the lanes, of the 16 bytes that are read of a row, and of the 128
# dimensions of a span.
COUNTS = (1, 2, 7, 8, 15, 16, 17, 33, 96, 97, 111, 191, 192, 193, 290)
DIMS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 66, 127, 128, 129, 130, 145, 256, 259, 512)


@pytest.fixture
def backend(backend):
    return has_the_op(backend, "target_score")


def samples(dim, dtype):
    """More samples than fill a tile of any level: near the components, far out, and not finite."""
    x = torch.cat(
        (2 * normal(14, dim, seed=4), 300 * normal(3, dim, seed=5), torch.zeros(1, dim), normal(1, dim))
    ).to(dtype)
    x[18, -1] = torch.nan
    return x


def assert_alone_as_in_the_batch(target, dim, dtype, backend):
    x = samples(dim, dtype)
    whole = target.score(x, backend=backend)
    assert whole[:18].isfinite().all()
    for b in (0, 5, 13, 15, 17, 18):
        alone = target.score(x[b : b + 1], backend=backend)
        torch.testing.assert_close(alone, whole[b : b + 1], rtol=0, atol=0, equal_nan=True)
    for size in (2, 9, 17):  # 9 and 17 leave one sample over, after a narrow tile and a wide one
        assert_equal(target.score(x[:size], backend=backend), whole[:size])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=("float32", "float64"))
class TestAloneAsInABatch:
    @pytest.mark.parametrize("scale", SCALES)
    def test_a_mixture(self, backend, one_thread, dtype, scale):  # noqa: ARG002
        pairs = {(count, DIMS[(3 * k + i) % len(DIMS)]) for i in range(2) for k, count in enumerate(COUNTS)}
        sizes = sorted(pairs | {(193, dim) for dim in DIMS})
        if backend == emulated.BACKEND:  # it has one way only, and takes its time
            sizes = [(count, dim) for count, dim in sizes if count * dim < 3000][::8]
        for count, dim in sizes:
            assert_alone_as_in_the_batch(mixture(count, dim, scale), dim, dtype, backend)

    def test_weights_that_are_nearly_all_0(self, backend, threads, dtype):  # noqa: ARG002
        for dim in (2, 5, 40):
            assert_alone_as_in_the_batch(mixture(300, dim, "components", spread=100.0), dim, dtype, backend)

    def test_a_full_covariance(self, backend, one_thread, dtype):  # noqa: ARG002
        for dim in DIMS:
            assert_alone_as_in_the_batch(correlated(dim), dim, dtype, backend)

    @pytest.mark.parametrize(
        "scale", [1.0, torch.ones(290, 1) + torch.eye(290, 5)], ids=("isotropic", "diagonal")
    )
    def test_the_sign_of_0(self, backend, one_thread, dtype, scale):  # noqa: ARG002
        """Where a sum underflows, only components of weight 0 would decide its sign, and a
        sample alone adds none of those: so the sign is always +."""
        means = torch.ones(290, 5, dtype=torch.float64)
        means[:, 0] = 1000.0
        means[[0, 96, 192]] = (
            0.0  # one in each of three tiles: -tiny, that times the second's factor, and -tiny times a weight
        )
        means[[0, 192], 1:] = -torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
        weights = torch.zeros(290, dtype=torch.float64)
        weights[[0, 96, 192]] = torch.tensor([0.1, 0.8, 0.1], dtype=torch.float64)
        x = torch.zeros(20, 5, dtype=dtype)
        target = pyebm.targets.GaussianMixture(means, scale, weights)
        whole, alone = target.score(x, backend=backend), target.score(x[:1], backend=backend)
        for score in (whole, alone):
            assert_equal(score, torch.zeros_like(score))
            assert backend != "cpu" or not score.signbit().any()
