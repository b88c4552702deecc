"""All adapters draw in the same order, and take the two kinds of noise in the same way."""

from __future__ import annotations

import pickle

import pytest
import torch
from cases import assert_equal, normal
from compare import DTYPES

import pyebm
from pyebm import Noise
from pyebm.integrations._draws import Draws, add_noise, noise_norms, step, step_and_mean
from pyebm.integrations._fits import norms

SHAPE = (5, 3, 4, 4)
NOISE = Noise(3, step=10, stream=2)


def test_draw_k_is_step_k():
    draws, x = Draws(NOISE), torch.empty(SHAPE)
    for k in range(3):
        assert_equal(draws(x).randn(SHAPE), NOISE.at(step=10 + k).randn(SHAPE))


def test_a_draw_keeps_its_name():
    """A program may compute two losses before one backward pass."""
    draws, x = Draws(NOISE), torch.empty(SHAPE)
    first = draws(x)
    before = first.randn(SHAPE)
    draws(x)
    assert_equal(first.randn(SHAPE), before)


def test_batches_may_differ_from_draw_to_draw():
    draws = Draws(NOISE)
    draws(torch.empty(SHAPE))
    assert_equal(draws(torch.empty(2, 3, 4, 4)).randn((2, 3, 4, 4)), NOISE.at(step=11).randn(SHAPE)[:2])


def test_a_copy_goes_on_where_it_was():
    draws, x = Draws(NOISE), torch.empty(SHAPE)
    draws(x)
    copy = pickle.loads(pickle.dumps(draws))
    assert_equal(copy(x).randn(SHAPE), draws(x).randn(SHAPE))


def test_none_asks_torch_for_a_seed_at_the_first_draw():
    draws, again = Draws(), Draws()
    torch.manual_seed(5)
    first = draws(torch.empty(SHAPE)).randn(SHAPE)
    torch.manual_seed(5)
    assert_equal(again(torch.empty(SHAPE)).randn(SHAPE), first)
    assert not torch.equal(Draws()(torch.empty(SHAPE)).randn(SHAPE), first)


def test_a_function_is_asked_each_time():
    torch.manual_seed(5)
    draws, x = Draws(torch.randn_like), torch.empty(SHAPE)
    got = [draws(x), draws(x)]
    torch.manual_seed(5)
    assert_equal(got, [torch.randn(SHAPE), torch.randn(SHAPE)])


def test_shared_draws():
    draws = Draws(NOISE)
    assert Draws.shared(draws) is draws
    assert Draws.shared(NOISE) is not draws


def test_neither_noise_nor_function():
    with pytest.raises(
        TypeError, match=r"noise: must be a Noise, a function such as torch\.randn_like, or None, got int"
    ):
        Draws(0)


@pytest.mark.parametrize(
    "coefficients", [(0.9, 0.3, 0.7), tuple(torch.rand(3, 5, dtype=torch.float64) + 0.1)]
)
def test_tensor_and_noise_give_the_same_bits(dtype, coefficients):
    a, b, c = coefficients
    x, g = normal(*SHAPE, dtype=dtype), normal(*SHAPE, dtype=dtype, seed=1)
    z = NOISE.randn(SHAPE)
    assert_equal(add_noise(x, c, z, a), add_noise(x, c, NOISE, a))
    assert_equal(step(x, g, a, b, c, z, clamp=(-0.5, None)), step(x, g, a, b, c, NOISE, clamp=(-0.5, None)))
    assert_equal(step_and_mean(x, g, a, b, c, z), step_and_mean(x, g, a, b, c, NOISE))


def test_norms_of_the_noise(dtype):
    x = normal(*SHAPE, dtype=dtype)
    torch.testing.assert_close(
        noise_norms(NOISE, x), norms(NOISE.randn(SHAPE, dtype=torch.float64)).to(norms(x).dtype)
    )


def test_noise_of_another_shape_or_kind():
    x = torch.zeros(SHAPE)
    with pytest.raises(
        ValueError,
        match=r"noise must have the samples' shape \(5, 3, 4, 4\) or broadcast to it, .* got \(5, 2, 4, 4\)",
    ):
        add_noise(x, 1.0, torch.zeros(5, 2, 4, 4))
    with pytest.raises(TypeError, match="step: noise must be a Noise or a tensor, got float"):
        step(x, x, 1.0, 1.0, 1.0, 0.5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("clamp", [None, (-0.5, 0.7), (None, 0.7)])
def test_a_plain_step_has_the_public_calls_bits(dtype, clamp):
    """It goes straight to the kernel; whatever is not plain goes through the public call."""
    x, g = normal(6, 5).to(dtype), normal(6, 5, seed=1).to(dtype)
    want = pyebm.affine_step(x, g, 0.9, -0.1, 0.3, NOISE, clamp=clamp)
    leaf = x.clone().requires_grad_()
    strided = x.t().contiguous().t()
    for given in (x, strided, leaf):
        assert_equal(step(given, g, 0.9, -0.1, 0.3, NOISE, clamp=clamp).detach(), want)
    assert step(leaf, g, 0.9, -0.1, 0.3, NOISE).requires_grad
    with torch.no_grad():
        assert not step(leaf, g, 0.9, -0.1, 0.3, NOISE).requires_grad
    several = Noise(torch.arange(6))
    assert_equal(
        step(x, g, 0.9, -0.1, 0.3, several, clamp=clamp),
        pyebm.affine_step(x, g, 0.9, -0.1, 0.3, several, clamp=clamp),
    )
    with pytest.raises(ValueError, match="clamp must be"):
        step(x, g, 0.9, -0.1, 0.3, NOISE, clamp=(1.0, -1.0))
    with pytest.raises(ValueError, match="sample ids must be"):
        step(x, g, 0.9, -0.1, 0.3, Noise(0, first_sample=2**32 - 3))
