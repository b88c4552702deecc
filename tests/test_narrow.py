"""Narrow samples, whose coefficients, noise and sums the CPU kernels make many samples at a time: the bits of one at a time."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, levels, normal
from torch import Tensor

from pyebm import Noise, _ops, denoising_loss, dsm_loss, langevin_step, perturb

pytestmark = pytest.mark.usefixtures("poison", "one_thread")

LANES = 16
WIDTHS = (1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 48)


@pytest.fixture(params=["baseline", "avx2", "avx512"], autouse=True)
def level(request: pytest.FixtureRequest):
    before = _ops.simd()
    try:
        _ops.simd(request.param)
    except ValueError:
        pytest.skip("not on this machine")
    yield
    _ops.simd(before)


def sums_in_order(terms: Tensor) -> Tensor:
    """What the loss kernel promises of a sample: sixteen sums, of every sixteenth element each, added one after another."""
    rows, width = terms.shape
    lanes = torch.zeros(rows, LANES, dtype=terms.dtype)
    for i in range(width):
        lanes[:, i % LANES] += terms[:, i]
    total = torch.zeros(rows, dtype=terms.dtype)
    for lane in range(min(width, LANES)):
        total += lanes[:, lane]
    return total


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("per_sample", [False, True], ids=["number", "per sample"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_sums_keep_their_order(width, per_sample, dtype):
    pred, z = normal(600, width, dtype=dtype), normal(600, width, dtype=dtype, seed=1)
    kappa = levels(600, dtype=dtype) if per_sample else 0.7
    residual = (kappa[:, None] if per_sample else kappa) * pred - z
    want = (0.5 * sums_in_order(residual * residual).double()).to(dtype)
    got = denoising_loss(pred, z, kappa=kappa, lam=-1.0, weight=0.5, reduction="sample")
    assert_equal(got, want)
    total = 0.0
    for loss in 0.5 * sums_in_order(residual * residual).double():
        total += float(loss)
    assert_equal(denoising_loss(pred, z, kappa=kappa, lam=-1.0, weight=0.5, reduction="sum"), torch.tensor(total, dtype=dtype))


@pytest.mark.parametrize("width", WIDTHS)
def test_every_sample_is_what_it_is_alone(width):
    x, sigma, noise = normal(600, width), levels(600), Noise(4)
    calls = {
        "perturb": lambda x, sigma, noise: perturb(x, sigma, noise),
        "step": lambda x, sigma, noise: langevin_step(x, -x, sigma, noise),
        "loss": lambda x, sigma, noise: dsm_loss(x, sigma, noise, weight="sigma2", reduction="sample"),
    }
    for call in calls.values():
        whole = call(x, sigma, noise)
        for b in (0, 1, 255, 256, 257, 511, 512, 599):
            assert_equal(call(x[b : b + 1], float(sigma[b]), noise.shard(first_sample=b)), whole[b : b + 1])


def test_more_sums_than_are_kept_at_once():
    """Samples beyond 2^18 are summed after the first, in the same order."""
    pred, sigma = normal(300_000, 1), levels(300_000)
    noise = Noise(1)
    each = dsm_loss(pred, sigma, noise, reduction="sample")
    assert_equal(each[262_000:], dsm_loss(pred[262_000:], sigma[262_000:], noise.shard(first_sample=262_000), reduction="sample"))
    total = dsm_loss(pred, sigma, noise, reduction="sum")
    torch.testing.assert_close(total, each.double().sum().float(), rtol=1e-6, atol=0)
