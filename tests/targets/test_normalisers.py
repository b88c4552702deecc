"""The normalisers that come from a quadrature are right to float64's precision for every legal
parameter, or refused."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch

from pyebm.targets import DoubleWell, Gaussian, Polynomial


def log_z(target, at=0.0):
    """Computes it from a place where the energy is exact."""
    x = torch.full((1, 1), at, dtype=torch.float64)
    return -(target.log_prob(x) + target(x)).item()


def normal(mean, std):
    """Returns the coefficients of a normal's energy, and the log of the integral for the
    coefficients as they were rounded."""
    c = [mean * mean / (2 * std * std), -mean / std / std, 1 / (2 * std * std)]
    a, b, q = map(Fraction, c)
    return c, float(b * b / (4 * q) - a) + 0.5 * math.log(math.pi / c[2])


@pytest.mark.parametrize(
    ("mean", "std"), [(0, 1), (50, 1), (-50, 0.1), (1e6, 1), (3, 1e-4), (-1e3, 1e5), (1e-3, 1e-150)]
)
def test_normals(mean, std):
    """Tests also energies whose minimum is far from 0, and far from x = 0."""
    c, want = normal(mean, std)
    target = Polynomial(c)
    x = torch.full((1, 1), float(mean), dtype=torch.float64)
    got = -(target.log_prob(x) + target(x)).item()
    assert got == pytest.approx(want, rel=1e-14, abs=1e-12 + abs(target(x).item()) * 1e-15)


def test_the_one_that_was_off():
    x = torch.linspace(48, 52, 9, dtype=torch.float64)[:, None]
    torch.testing.assert_close(
        Polynomial([1250.0, -50.0, 0.5]).log_prob(x), Gaussian(50.0, 1.0).log_prob(x), rtol=0, atol=1e-11
    )


@pytest.mark.parametrize("barrier", [1e-300, 1e-3, 0.5, 2.0, 744.0, 746.0, 1e4, 1e8, 1e12, 1e30, 1e300])
def test_double_wells(barrier):
    """Expects, for small barriers, the integral's series at 0, in barrier^(1/2); for large ones,
    that of a sharp well; between them, the polynomial's normaliser."""
    got = log_z(DoubleWell(barrier), 1.0)
    if barrier < 1e-100:
        want = math.log(2 * math.gamma(1.25)) - 0.25 * math.log(barrier)
    elif barrier > 1e6:
        want = math.log(2) + 0.5 * math.log(math.pi / 4 / barrier) + math.log1p(3 / 16 / barrier)
    else:
        want = log_z(Polynomial([barrier, 0.0, -2 * barrier, 0.0, barrier]), 1.0)
    assert got == pytest.approx(want, rel=1e-14, abs=1e-13)
    assert log_z(DoubleWell(barrier, 3.0), 3.0) == pytest.approx(want + math.log(3), rel=1e-14, abs=1e-13)


@pytest.mark.parametrize(
    ("coefficients", "want"),
    [
        ([0.0, 0.0, 1e300], 0.5 * math.log(math.pi) - 150 * math.log(10)),
        ([0.0, 0.0, 1e-300], 0.5 * math.log(math.pi) + 150 * math.log(10)),
        ([0.0, 0.0, 0.0, 0.0, 1.0], math.log(2 * math.gamma(1.25))),
        ([0.0, 0.0, -1e6, 0.0, 1.0], 2.5e11 + math.log(2) + 0.5 * math.log(math.pi / 2e6)),  # wells at +-707
        ([1e300, 0.0, 1.0], -1e300),
        ([-700.0, 0.0, 0.001], 700 + 0.5 * math.log(math.pi * 1000)),
    ],
)
def test_polynomials_of_extreme_numbers(coefficients, want):
    assert log_z(Polynomial(coefficients)) == pytest.approx(want, rel=1e-14)


@pytest.mark.parametrize("coefficients", [[0.0, 1e300, 1e-300], [0.0, 1e200, 1e-30]])
def test_what_float64_can_t_hold_is_refused(coefficients):
    with pytest.raises(
        ValueError, match=r"Polynomial.log_prob: the normaliser of the coefficients .* can't be told"
    ):
        Polynomial(coefficients).log_prob(torch.zeros(1, 1))


def test_derivatives():
    """The normaliser's derivative in the constant is -1, and in the other coefficients minus the
    moments."""
    c = torch.tensor([3.0, 0.3, -1.0, 0.0, 0.25], dtype=torch.float64, requires_grad=True)
    x = torch.zeros(1, 1, dtype=torch.float64)
    target = Polynomial(c)
    z = -(target.log_prob(x) + target(x)).sum()
    (grad,) = torch.autograd.grad(z, c)
    grid = torch.linspace(-8, 8, 100_001, dtype=torch.float64)
    p = torch.softmax(-target(grid[:, None]).detach(), 0)
    torch.testing.assert_close(
        grad, -torch.stack([(p * grid**k).sum() for k in range(5)]), rtol=1e-10, atol=1e-10
    )
