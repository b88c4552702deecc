"""Coefficients that change within a sample, in the CUDA kernels as g++ compiles them (see
test_emulated.py)."""

from __future__ import annotations

import pytest
import torch
from cases import DTYPES, levels, name_of, normal
from emulated import BACKEND
from run_cases import CASES, NOISE, ODD_CASES, assert_close_sums, assert_the_references_bits, layouts

from pyebm import _ops

OPS = _ops._TEST_BACKENDS[BACKEND]


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_op(case, dtype):
    shape, *counts = case
    assert_the_references_bits(OPS, normal(*shape, dtype=dtype), *counts)


@pytest.mark.parametrize("order", [1, 5])
def test_every_thread_order(monkeypatch, order):
    monkeypatch.setenv("PYEBM_EMULATOR_SEED", str(order))
    for shape, *counts in ODD_CASES:
        assert_the_references_bits(OPS, normal(*shape), *counts)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=name_of)
@pytest.mark.parametrize("counts", [(6, 6), (144, 3), (12, 72)], ids=str)
def test_strides(counts, dtype):
    for x in layouts(normal(3, 4, 12, dtype=dtype)):
        assert_the_references_bits(OPS, x, *counts)


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("reduction", [1, 3])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_sums(case, reduction, dtype):
    shape, *counts = case
    assert_close_sums(OPS, normal(*shape, dtype=dtype), *counts, reduction=reduction)


@pytest.mark.parametrize("count", [4, 9, 36, 48])
def test_a_number_of_values_that_does_not_divide_the_samples(count):
    x = normal(3, 8)
    with pytest.raises(ValueError, match=f"perturb: sigma must .* got {count} (in|for)"):
        OPS["perturb"](torch.empty_like(x), x, 1.0, 0.5, NOISE._name, None, levels(count), None, None)
