"""exp, sine, cosine, roots and sums with fixed operations: their accuracy, the ends of their
ranges, derivatives, order of adding."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import torch
from cases import assert_equal, normal

from pyebm._composed.functions import exponential, root, sine_cosine, sum_of

mpmath.mp.dps = 40
INF, NAN = float("inf"), float("nan")
REAL = (torch.float32, torch.float64)


def points(low, high, dtype, count=1500):
    return (
        torch.rand(count, generator=torch.Generator().manual_seed(5), dtype=torch.float64) * (high - low)
        + low
    ).to(dtype)


def ulps(got: torch.Tensor, truth: list) -> float:
    """The largest error in units of the last place; a correctly rounded result may be below one
    half."""
    kind = np.float32 if got.dtype == torch.float32 else np.float64
    return max(
        float(abs(mpmath.mpf(float(g)) - t) / mpmath.mpf(float(np.spacing(kind(abs(float(t)))))))
        for g, t in zip(got, truth, strict=True)
    )


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (-20.0, 20.0), (-86.0, 88.0), (-103.0, -87.5)])
def test_exponential(dtype, low, high):
    x = points(low, high, dtype)
    assert ulps(exponential(x), [mpmath.exp(float(value)) for value in x]) < 1.0


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (-30.0, 30.0), (-1e6, 1e6), (0.0, 1e-6)])
def test_sine_and_cosine(dtype, low, high):
    """The error is relative to the result, however small, because the reduction to a quarter
    turn is exact."""
    t = points(low, high, dtype)
    sine, cosine = sine_cosine(t)
    assert ulps(sine, [mpmath.sinpi(2 * mpmath.mpf(float(value))) for value in t]) < 1.6
    assert ulps(cosine, [mpmath.cospi(2 * mpmath.mpf(float(value))) for value in t]) < 1.6


@pytest.mark.parametrize("dtype", REAL)
def test_special_values(dtype):
    def numbers(*values):
        return torch.tensor(values, dtype=dtype)

    assert_equal(exponential(numbers(0.0, -0.0, -INF, INF, -1e30, 1e30)), numbers(1, 1, 0, INF, 0, INF))
    assert exponential(numbers(NAN)).isnan()
    largest = torch.finfo(dtype).max
    below = torch.nextafter(torch.tensor(largest, dtype=dtype).log(), numbers(0.0))
    assert exponential(below).isfinite()
    sine, cosine = sine_cosine(numbers(0.0, 0.25, 0.5, 0.75, 1.0, -0.25, 7.5, 1e9, largest))
    assert_equal(sine, numbers(0, 1, 0, -1, 0, -1, 0, 0, 0))
    assert_equal(cosine, numbers(1, 0, -1, 0, 1, 0, -1, 1, 1))
    assert all(result.isnan().all() for result in sine_cosine(numbers(INF, -INF, NAN)))


def test_root_is_rounded_correctly():
    for dtype in REAL:
        x = points(0.0, 7.0, dtype, 100_000)
        assert_equal(root(x), torch.from_numpy(np.sqrt(x.numpy())))


@pytest.mark.parametrize(
    "function",
    [exponential, lambda x: sine_cosine(x)[0], lambda x: sine_cosine(x)[1], lambda x: root(x * x + 1)],
)
def test_derivatives(function):
    x = normal(20, dtype=torch.float64, grad=True)
    assert torch.autograd.gradcheck(function, x)
    assert torch.autograd.gradgradcheck(function, x)


@pytest.mark.parametrize("width", [1, 2, 3, 5, 31, 32, 33, 64, 1000])
def test_the_order_of_a_sum(width):
    terms = normal(4, width)
    lanes = np.zeros((4, 32), np.float32)
    for i in range(width):
        lanes[:, i % 32] += terms[:, i].numpy()
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    assert_equal(sum_of(terms), torch.from_numpy(lanes[:, 0]))
