"""The warm-up of MALA and HMC adds in one order, so that backends, SIMD levels and threads agree
to the last bit."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal

import pyebm
from pyebm import Noise, _ops, reference
from pyebm.samplers import HMC, MALA, State

X0 = Noise(3).randn((37, 5))
LARGE = Noise(4).randn((3, 2500))  # several chunks, each with a sum of its own


def energy(x):
    return 0.5 * x.square().sum(1)


def warm(kind, backend, x0, dtype=torch.float32, **options):
    sampler = {
        "MALA": MALA(energy, 0.3, warmup=60, backend=backend, **options),
        "HMC": HMC(energy, 0.3, 3, warmup=60, backend=backend, **options),
    }[kind]
    end = sampler(State(x0.to(dtype), Noise(0)), 60)
    return {"x": end.x} | end.extra


OPTIONS = [
    {},
    {"per": "batch"},
    {"adapt_mass": True},
    {"per": "batch", "adapt_mass": True},
]


@pytest.mark.parametrize("kind", ["MALA", "HMC"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_backends_agree(kind, options):
    assert_equal(warm(kind, "cpu", X0, **options), warm(kind, "reference", X0, **options))


@pytest.mark.parametrize("x0", [X0, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_dtypes_and_large_samples(x0, dtype):
    assert_equal(*(warm("MALA", backend, x0, dtype, per="batch") for backend in ("cpu", "reference")))


def test_levels_and_threads():
    want, level, threads = warm("MALA", "cpu", X0, per="batch"), _ops.simd(), torch.get_num_threads()
    try:
        for other in ("baseline", "avx2", "avx512"):
            try:
                _ops.simd(other)
            except ValueError:
                continue
            for count in (1, 4):
                torch.set_num_threads(count)
                assert_equal(warm("MALA", "cpu", X0, per="batch"), want)
    finally:
        _ops.simd(level)
        torch.set_num_threads(threads)


def test_the_mean_of_any_batch():
    """Runs only the op, with numbers whose sum depends on the order."""
    for count in (1, 2, 3, 1000, 1025, 5000):
        log_alpha = Noise(count).randn((count,), dtype=torch.float64) * 3
        made = []
        for op in (_ops.kernels("cpu", log_alpha)["dual_averaging"], reference.OPS["dual_averaging"]):
            held = [torch.full((count,), 0.1, dtype=torch.float64) for _ in range(3)] + [
                torch.zeros((), dtype=torch.float64)
            ]
            for _ in range(5):
                op(*held, log_alpha, torch.zeros_like(log_alpha), 5, 0.6, True)
            made.append(held)
        assert_equal(*made)


@pytest.mark.parametrize(
    "shape", [(1, 1), (5, 3), (4, 16), (4, 17), (3, 1024), (3, 1025), (2, 3, 900), (0, 4), (4, 0)]
)
@pytest.mark.parametrize("reduction", ["sample", "sum", "mean", "batchmean"])
def test_losses_have_the_kernels_order_in_the_reference_too(shape, reduction):
    pred, scale = Noise(1).randn(shape), Noise(2).rand(shape[:1]) + 0.1
    made = [
        pyebm.dsm_loss(pred, scale, Noise(0), reduction=reduction, backend=backend)
        for backend in ("cpu", "reference")
    ]
    assert_equal(made[0], made[1], equal_nan=True)
