"""perturb: alpha x + sigma z, its gradient, and the same bits on every backend."""

from __future__ import annotations

import pytest
import torch
from cases import LARGE, assert_equal, column, levels, name_of, normal

import pyebm
from pyebm import Noise

pytestmark = pytest.mark.usefixtures("poison", "one_thread")


def test_equals_the_reference(backend, device, dtype, shape):
    x = normal(*shape, dtype=dtype, device=device)
    sigma, alpha = levels(shape[0], device, seed=1), -levels(shape[0], device, seed=2, dtype=torch.float64)
    for options in ({"sigma": 0.3}, {"sigma": sigma, "alpha": alpha}):
        got = pyebm.perturb(x, noise=Noise(3, step=4), backend=backend, **options)
        assert_equal(got, pyebm.perturb(x, noise=Noise(3, step=4), backend="reference", **options))


def test_equals_plain_pytorch(backend, device, dtype, shape):
    """float32 and float64 have the bits of the expression; half precisions are computed in
    float32 and rounded once."""
    x = normal(*shape, dtype=dtype, device=device)
    work = torch.promote_types(dtype, torch.float32)
    z = Noise(3).randn(shape, device=device, backend=backend).to(work)
    got = pyebm.perturb(x, 0.3, Noise(3), alpha=-0.7, backend=backend)
    assert_equal(got, (-0.7 * x.to(work) + 0.3 * z).to(dtype))
    sigma = levels(shape[0], device)
    got = pyebm.perturb(x, sigma, Noise(3), backend=backend)
    assert_equal(got, (x.to(work) + column(sigma, x).to(work) * z).to(dtype))


@pytest.mark.parametrize("shape", LARGE, ids=name_of)
def test_threads_change_nothing(backend, device, threads, shape):
    x, sigma = normal(*shape, device=device), levels(shape[0], device)
    assert torch.get_num_threads() == threads
    got = pyebm.perturb(x, sigma, Noise(0), backend=backend)
    assert_equal(got, pyebm.perturb(x, sigma, Noise(0), backend="reference"))


def test_batch_split_and_shuffle(backend, device):
    x, sigma = normal(7, 131, device=device), levels(7, device)
    whole = pyebm.perturb(x, sigma, Noise(0), backend=backend)
    tail = pyebm.perturb(x[4:], sigma[4:], Noise(0).shard(first_sample=4), backend=backend)
    assert_equal(tail, whole[4:])
    order = torch.tensor([3, 6, 0])
    assert_equal(
        pyebm.perturb(x[order], sigma[order], Noise(0, sample_ids=order), backend=backend), whole[order]
    )


def test_nan_stays_in_its_element(backend, device, dtype):
    x = normal(5, 300, dtype=dtype, device=device)
    x[1, 7], x[3, 0], x[4, 299] = torch.nan, torch.inf, -torch.inf
    got = pyebm.perturb(x, 0.5, Noise(0), backend=backend)
    assert_equal(got.isnan(), x.isnan())
    assert_equal(got[got.isinf()], x[x.isinf()])
    clean = pyebm.perturb(x.nan_to_num(0, 0, 0), 0.5, Noise(0), backend=backend)
    assert_equal(got[x.isfinite()], clean[x.isfinite()])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=name_of)
@pytest.mark.parametrize("alpha", [1.0, 0.5, 1 + 2**-11, 1 + 2**-8, 1 / 3, 7.7, 2**-20 / 3, 3e4])
def test_every_half_precision_value(backend, device, dtype, alpha):
    """Reads all 65,536 values, and rounds results to nearest even: ties, subnormals, overflow to
    infinity, NaN."""
    bits = torch.arange(2**16, dtype=torch.int32).to(torch.int16)
    x = bits.view(dtype).to(device)
    got = pyebm.perturb(x, 1e-30, Noise(0), alpha=alpha, backend=backend)
    z = Noise(0).randn(x.shape, device=device, backend=backend)
    assert_equal(got, (alpha * x.float() + 1e-30 * z).to(dtype), equal_nan=True)


def test_every_nan_is_rounded_to_a_nan(backend, device, dtype):
    """A NaN whose bits are all ones stays NaN too; rounding upwards would turn it into a zero."""
    nan = torch.tensor([0x7FFFFFFF, -1], dtype=torch.int32).view(torch.float32).to(device)
    got = pyebm.perturb(nan.to(dtype).reshape(2, 1).expand(2, 5), 0.5, Noise(0), backend=backend)
    assert got.isnan().all()


class TestGradient:
    def test_is_alpha_times_what_came(self, backend, device, dtype):
        """The gradient is computed in float32 and rounded once, like everything else, for alpha
        as a number and per sample."""
        work = torch.promote_types(dtype, torch.float32)
        above = normal(5, 3, 7, dtype=dtype, device=device, seed=1)
        for alpha in (1.0, -0.7, levels(5, device)):
            x = normal(5, 3, 7, dtype=dtype, device=device, grad=True)
            pyebm.perturb(x, 0.3, Noise(0), alpha=alpha, backend=backend).backward(above)
            factor = column(alpha, x) if isinstance(alpha, torch.Tensor) else alpha
            assert_equal(x.grad, (factor * above.to(work)).to(dtype))

    def test_same_bits_with_and_without(self, backend, device, dtype):
        x = normal(5, 33, dtype=dtype, device=device, grad=True)
        got = pyebm.perturb(x, 0.3, Noise(0), backend=backend)
        assert got.requires_grad
        assert_equal(got.detach(), pyebm.perturb(x.detach(), 0.3, Noise(0), backend=backend))
        with torch.no_grad():
            assert not pyebm.perturb(x, 0.3, Noise(0), backend=backend).requires_grad

    @pytest.mark.parametrize("alpha", [0.5, levels(3)], ids=["number", "rows"])
    def test_gradcheck(self, alpha):
        x = normal(3, 5, dtype=torch.float64, grad=True)

        def square(x):  # so that the second derivative is not zero
            return pyebm.perturb(x, 0.3, Noise(0), alpha=alpha) ** 2

        torch.autograd.gradcheck(square, x)
        torch.autograd.gradgradcheck(square, x)

    def test_of_an_empty_batch(self, dtype):
        x = normal(0, 3, dtype=dtype, grad=True)
        pyebm.perturb(x, 0.3, Noise(0)).sum().backward()
        assert x.grad.shape == (0, 3)


def test_leaves_its_input_alone(backend, device):
    x, sigma = normal(4, 9, device=device), levels(4, device)
    pyebm.perturb(x, sigma, Noise(0), backend=backend)
    assert_equal(x, normal(4, 9, device=device))
    assert_equal(sigma, levels(4, device))
