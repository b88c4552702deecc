"""Noise.rand: its bits against the contract's definition written a second time, and its law."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import LARGE, assert_equal, name_of
from scipy import stats
from test_noise import NAMES, named
from test_normals import philox

import pyebm
from pyebm import Noise, NoiseCounter, _ops, reference

pytestmark = pytest.mark.usefixtures("poison", "one_thread")


@pytest.fixture(autouse=True)
def _has_uniforms(request: pytest.FixtureRequest) -> None:
    if "backend" in request.fixturenames:
        name, device = request.getfixturevalue("backend"), request.getfixturevalue("device")
        if "uniform_" not in _ops.kernels(name, torch.empty(0, device=device)):
            pytest.skip(f"backend {name} has no uniform_ yet")


def by_definition(elements: int, seed: int, sample: int, step: int, stream: int) -> torch.Tensor:
    """docs/noise.md: (float(word) + 0.5) 2^-32, each operation rounded to float32."""
    words = philox([np.arange((elements + 3) // 4), sample, step, stream], [seed % 2**32, seed % 2**64 >> 32])
    u = (np.stack(words, 1).astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-32)
    return torch.from_numpy(u.reshape(-1)[:elements])


@pytest.mark.parametrize("kind", ["far", "seeds-ids"])
def test_equals_the_reference(backend, device, dtype, shape, kind):
    noise = named(kind, shape[0])
    got = noise.rand(shape, dtype=dtype, device=device, backend=backend)
    assert_equal(got, noise.rand(shape, dtype=dtype, device=device, backend="reference"))
    assert (got.shape, got.dtype) == (shape, dtype)


@pytest.mark.parametrize("elements", [1, 2, 3, 5, 1023, 1026, 20_003])
def test_contract(backend, device, elements):
    u = Noise(-3, first_sample=2**32 - 2, step=2**32 - 1, stream=2**31).rand(
        (2, elements), device=device, backend=backend
    )
    for row in range(2):
        assert_equal(u[row].cpu(), by_definition(elements, -3, 2**32 - 2 + row, 2**32 - 1, 2**31))


@pytest.mark.parametrize("shape", LARGE, ids=name_of)
def test_threads_change_nothing(backend, device, threads, shape):
    assert torch.get_num_threads() == threads
    assert_equal(
        Noise(0).rand(shape, device=device, backend=backend),
        Noise(0).rand(shape, device=device, backend="reference"),
    )


def test_low_precision_is_float32_rounded_once(backend, device, dtype):
    u = Noise(1).rand((50, 301), device=device, backend=backend)
    assert_equal(Noise(1).rand((50, 301), dtype=dtype, device=device, backend=backend), u.to(dtype))


def test_samples_are_their_own(backend, device):
    whole = Noise(4, first_sample=10).rand((9, 5), device=device, backend=backend)
    assert_equal(Noise(4).shard(first_sample=13).rand((2, 5), device=device, backend=backend), whole[3:5])
    assert_equal(Noise(4, sample_ids=[18, 10]).rand((2, 5), device=device, backend=backend), whole[[8, 0]])
    assert_equal(Noise(4, first_sample=10).rand((9, 1), device=device, backend=backend), whole[:, :1])
    counter = NoiseCounter(Noise(4, first_sample=10), device).advance_(3)
    want = Noise(4, first_sample=10, step=3).rand((9, 5), device=device, backend=backend)
    assert_equal(counter.rand((9, 5), device=device, backend=backend), want)


def test_ends_of_the_interval():
    """No uniform is 0, because accept and reject take its logarithm; the largest words round to
    1."""
    words = torch.tensor([0, 1, 2**31, 2**32 - 130, 2**32 - 128, 2**32 - 1])
    u = reference.uniform(words)
    assert u.tolist() == [2.0**-33, 1.5 * 2.0**-32, 0.5, 1 - 2.0**-24, 1.0, 1.0]


def test_statistics():
    u = torch.cat([Noise(5, step=k).rand((1000, 250)).double().flatten() for k in range(4)]).numpy()
    assert stats.kstest(u, "uniform").pvalue > 1e-4
    assert stats.chisquare(np.bincount((u * 4096).clip(max=4095).astype(int), minlength=4096)).pvalue > 1e-4
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 4.5 / np.sqrt(len(u))
    lanes = u.reshape(-1, 250)[:, :248].reshape(-1, 4)
    assert np.abs(np.corrcoef(lanes.T) - np.eye(4)).max() < 4.5 / np.sqrt(len(lanes))


@pytest.mark.parametrize("kind", NAMES)
def test_every_name_draws_other_numbers_at_the_next_step(kind):
    noise = named(kind, 6)
    other = noise.at(step=noise.step ^ 1)
    assert (noise.rand((6, 500)) == other.rand((6, 500))).sum() < 5


BAD = {
    "dtype": (
        lambda: Noise(0).rand((2, 3), dtype=torch.int32),
        TypeError,
        "Noise.rand: dtype.*got torch.int32",
    ),
    "shape": (lambda: Noise(0).rand(5), TypeError, "Noise.rand: shape"),
    "negative": (lambda: Noise(0).rand((2, -1)), ValueError, r"Noise.rand: shape.*got \(2, -1\)"),
    "elements": (lambda: Noise(0).rand((1, 2**34 + 4)), ValueError, r"Noise.rand: shape.*2\*\*34"),
    "batch": (
        lambda: Noise(0, sample_ids=[1]).rand((2, 3)),
        ValueError,
        "sample_ids names 1 samples, got a batch of 2",
    ),
    "backend": (lambda: Noise(0).rand((2, 3), backend="gpu"), ValueError, "backend.*'cpu'.*got 'gpu'"),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_backend_without_an_op_says_so():
    with pytest.raises(RuntimeError, match="backend 'small' does not have the op uniform_ yet"):
        _ops.Table("small", {})["uniform_"]


def test_compiles():
    torch._dynamo.reset()
    compiled = torch.compile(lambda noise: noise.rand((8, 5)), fullgraph=True, backend="aot_eager")
    assert_equal(compiled(pyebm.Noise(3)), Noise(3).rand((8, 5)))
