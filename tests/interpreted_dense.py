"""The dense targets' Triton kernels under Triton's interpreter, beyond what the suite's own tests
ask of every backend.

Not collected by itself: test_triton.py runs this file in a process of its own, with
TRITON_INTERPRET=1.
"""

import pytest
import torch
from cases import assert_equal, normal
from dense_cases import assert_within_bound, correlated, mixture
from pyebm.kernels import dense
from target_cases import loop
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

import pyebm

pytestmark = [
    pytest.mark.usefixtures("poison", "one_thread"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # numpy's
]

NOISE = pyebm.Noise(3, step=4)


@pytest.fixture
def small(monkeypatch):
    """Two shares of several blocks of components each, and chunks of one block of samples."""
    monkeypatch.setattr(dense, "_SHARES", 2)
    monkeypatch.setattr(dense, "_WORK", 0)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("scale", ["components", "both"])
def test_blocks_of_a_share_and_chunks_of_samples(scale):
    target = mixture(300, 6, scale, spread=3.0)
    for dtype in (torch.float32, torch.float64):
        x = torch.cat([normal(60, 6), 200 * normal(9, 6, seed=4)]).to(dtype)
        assert_within_bound(target.score(x, backend="triton"), target, x)
    x = normal(70, 6, dtype=torch.float16)
    got = pyebm.langevin_chain(x, target, 2, 0.01, NOISE, backend="triton")
    assert_equal(got, loop(x, target, 2, 0.01, NOISE, backend="triton"))


@pytest.mark.usefixtures("small")
def test_chunks_of_per_sample_values_seeds_and_states():
    target, x = mixture(70, 3), normal(70, 3)
    noise = pyebm.Noise(torch.arange(70) % 7, sample_ids=torch.arange(70).flip(0))
    options = {"temperature": torch.linspace(0, 2, 70), "thin": 2, "clamp": (-1.0, 1.2), "backend": "triton"}
    steps = ([0.01, 0.02, 0.03], torch.linspace(0.001, 0.03, 70))
    for step_size in steps:
        got = pyebm.langevin_chain(x, target, 3, step_size, noise, **options)
        assert_equal(got, loop(x, target, 3, step_size, noise, **options))
    whole = pyebm.langevin_chain(x, target, 3, 0.01, NOISE, backend="triton")
    part = pyebm.langevin_chain(x[66:], target, 3, 0.01, NOISE.shard(first_sample=66), backend="triton")
    assert_equal(whole[66:], part)
    bad = x.clone()
    bad[[2, 66], 1] = torch.inf
    got, diverged = pyebm.langevin_chain(bad, target, 3, 0.01, NOISE, return_diverged=True, backend="triton")
    assert (diverged == 0).nonzero().flatten().tolist() == [2, 66]
    rest = (diverged == -1).nonzero().flatten()
    assert_equal(got[rest], whole[rest])
    assert len(rest) == 68


@pytest.fixture
def one_order(monkeypatch):
    """The interpreter's tl.dot is numpy's matrix product, which on some CPUs adds in an order
    that depends on a row's place; this one adds in one order."""

    def dot(_, a, b, total, *__):
        products = a.data[:, :, None].astype(total.data.dtype) * b.data[None]
        return TensorHandle(products.sum(1) + total.data, total.dtype.scalar)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", dot)


@pytest.mark.usefixtures("one_order")
@pytest.mark.parametrize(
    "make", [lambda: mixture(70, 5), lambda: mixture(70, 5, "both"), lambda: correlated(5)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_sample_does_not_depend_on_its_place(make, dtype):
    target, x = make(), 2 * normal(70, 5, dtype=dtype)
    whole = target.score(x, backend="triton")
    assert_equal(torch.cat([target.score(part, backend="triton") for part in x.split(33)]), whole)
    assert_equal(target.score(x.flip(0), backend="triton").flip(0), whole)
    assert_equal(target.score(x.t().contiguous().t(), backend="triton"), whole)
    assert target.score(x[:0], backend="triton").shape == (0, 5)


def test_wrong_parameters_are_refused_before_anything_is_written():
    x = normal(3, 4)
    out = torch.full_like(x, 7.0)
    for kind in ("mixture", "mixture_diagonal", "gaussian_full"):
        index = pyebm._schemas.TARGETS.index(kind)
        for params in (
            torch.zeros(6),
            torch.zeros(0),
            torch.zeros(40, dtype=torch.float64),
            torch.zeros(80)[::2],
        ):
            with pytest.raises(
                ValueError,
                match=rf"target_score: params must be .* numbers of {kind} for samples of 4 elements",
            ):
                pyebm.kernels.OPS["target_score"](out, x, index, params)
    assert (out == 7).all()
