"""Clamps by element in the step and the chain: equal bounds give the bits of the kernel's own
clamp, and derivatives are right."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, normal

import pyebm
from pyebm import Noise, langevin_chain, langevin_step, langevin_step_

X, S = normal(6, 3), normal(6, 3, seed=1)
LOW, HIGH = torch.tensor([-0.5, -1.0, 0.1]), torch.tensor([[0.5], [0.2], [0.3], [2.0], [1.0], [0.7]])


def pairs():
    """Bounds by element, and the same bounds as numbers."""
    full = [torch.full(shape, value, dtype=torch.float64) for shape, value in (((6, 3), 0.3), ((3,), 0.25))]
    return [
        ((-full[0], full[1]), (-0.3, 0.25)),
        ((None, full[0]), (None, 0.3)),
        ((-0.1, full[1]), (-0.1, 0.25)),
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("mask", [None, X > 0, X < 0], ids=["", "low ones stay", "high ones stay"])
def test_same_bounds_have_the_kernel_s_bits(dtype, mask):
    x, s = X.to(dtype), S.to(dtype)
    for by_element, numbers in pairs():
        for call in (langevin_step, lambda x, *args, **kwargs: langevin_step_(x.clone(), *args, **kwargs)):
            got, want = (
                call(x, s, 0.4, Noise(0), clamp=c, mask=mask, return_mean=True) for c in (by_element, numbers)
            )
            for one, other in zip(got, want, strict=True):
                assert_equal(one, other)
        target = pyebm.targets.DoubleWell()
        got, want = (
            langevin_chain(x, target, 6, 0.1, Noise(0), thin=2, clamp=c, mask=mask)
            for c in (by_element, numbers)
        )
        for one, other in zip(got, want, strict=True):
            assert_equal(one, other)


def test_each_element_has_its_own():
    got = langevin_step(X, S, 0.4, Noise(0), clamp=(LOW, None))
    assert_equal(got, langevin_step(X, S, 0.4, Noise(0)).maximum(LOW))
    chain = langevin_chain(X, pyebm.targets.DoubleWell(), 5, 0.1, Noise(0), clamp=(None, HIGH))
    assert (chain <= HIGH).all()
    sampler = pyebm.samplers.Langevin(pyebm.targets.DoubleWell(), 0.1, clamp=(None, HIGH))
    assert_equal(chain, sampler(X, 5, noise=Noise(0)))


def test_derivatives():
    low = LOW.double().requires_grad_()
    x = X.double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, low: langevin_step(x, S.double(), 0.4, Noise(0), clamp=(low, None)), (x, low)
    )
    single = torch.tensor(-0.2, requires_grad=True)
    langevin_step(X, S, 0.4, Noise(0), clamp=(single, None)).sum().backward()
    made = langevin_step(X, S, 0.4, Noise(0))
    assert single.grad == (made < -0.2).sum()
    each = torch.vmap(lambda x: langevin_step(x[None], x[None], 0.4, Noise(0), clamp=(LOW, None)))(X)
    assert_equal(
        each, torch.stack([langevin_step(x[None], x[None], 0.4, Noise(0), clamp=(LOW, None)) for x in X])
    )


def test_compiled():
    step = torch.compile(
        lambda x, low: langevin_step(x, S, 0.4, Noise(0), clamp=(low, None)),
        fullgraph=True,
        backend="aot_eager",
    )
    for low in (LOW, LOW * 2, torch.tensor(-0.2)):
        assert_equal(step(X, low), langevin_step(X, S, 0.4, Noise(0), clamp=(low, None)))


@pytest.mark.parametrize(
    ("clamp", "error", "says"),
    [
        ((LOW, -2.0), ValueError, "low <= high in every element"),
        ((torch.zeros(4), None), ValueError, "broadcast to x's shape (6, 3), got (4,)"),
        ((LOW, HIGH, 1.0), TypeError, "a pair (low, high)"),
        ((LOW.to_sparse(), None), TypeError, "clamp must be a dense tensor"),
        ((LOW.to("meta"), None), ValueError, "clamp must be on x's device cpu, got meta"),
    ],
)
def test_refused(clamp, error, says):
    import re

    for call in (
        lambda: langevin_step(X, S, 0.4, Noise(0), clamp=clamp),
        lambda: langevin_chain(X, pyebm.targets.DoubleWell(), 2, 0.1, Noise(0), clamp=clamp),
    ):
        with pytest.raises(error, match=re.escape(says)):
            call()


def test_in_place_with_bounds_in_the_same_memory():
    x = X.clone()
    want = langevin_step(X, S, 0.4, Noise(0), clamp=(X[:1], None))
    assert_equal(langevin_step_(x, S, 0.4, Noise(0), clamp=(x[:1], None)), want)
