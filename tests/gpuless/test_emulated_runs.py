"""Coefficients that change within a sample, in the CUDA kernels as g++ compiles them (see test_emulated.py)."""

from __future__ import annotations

import pytest
import torch
from cases import DTYPES, assert_equal, levels, name_of, normal
from emulated import BACKEND
from run_cases import CASES, NOISE, ODD_CASES, calls, layouts, sums

from pyebm import _ops, reference

OURS, THEIRS = _ops._TEST_BACKENDS[BACKEND], reference.OPS


def assert_same(x, *counts):
    for (which, got), (_, want) in zip(calls(OURS, x, *counts), calls(THEIRS, x, *counts), strict=True):
        assert_equal(got, want, msg=lambda text, which=which: f"{which}: {text}")


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_op(case, dtype):
    shape, *counts = case
    assert_same(normal(*shape, dtype=dtype), *counts)


@pytest.mark.parametrize("order", [1, 5])
def test_every_thread_order(monkeypatch, order):
    monkeypatch.setenv("PYEBM_EMULATOR_SEED", str(order))
    for shape, *counts in ODD_CASES:
        assert_same(normal(*shape), *counts)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=name_of)
@pytest.mark.parametrize("counts", [(6, 6), (144, 3), (12, 72)], ids=str)
def test_strides(counts, dtype):
    for x in layouts(normal(3, 4, 12, dtype=dtype)):
        assert_same(x, *counts)


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("reduction", [1, 3])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_sums(case, reduction, dtype):
    shape, *counts = case
    x = normal(*shape, dtype=dtype)
    for got, want in zip(sums(OURS, x, *counts, reduction), sums(THEIRS, x, *counts, reduction), strict=True):
        assert_equal(got[1], want[1])
        torch.testing.assert_close(got[0], want[0], rtol=3e-6, atol=0)


@pytest.mark.parametrize("count", [4, 9, 36, 48])
def test_a_number_of_values_that_does_not_divide_the_samples(count):
    x = normal(3, 8)
    with pytest.raises(RuntimeError, match=f"perturb: sigma must be one .* got {count} for 3 samples"):
        OURS["perturb"](torch.empty_like(x), x, 1.0, 0.5, NOISE._name, None, levels(count), None, None)
