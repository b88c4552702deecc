"""Coefficients that change within a sample, in the Triton kernels under Triton's interpreter (see
interpreted_triton.py)."""

from __future__ import annotations

from itertools import product

import pyebm.kernels
import pytest
import torch
from cases import in_turn, levels, name_of, normal
from choice import once_each, thinned
from run_cases import CASES, NOISE, ODD_CASES, assert_close_sums, assert_the_references_bits, layouts

OPS = pyebm.kernels.OPS


LONGEST = CASES[7:]  # take as long as all others
ONCE = once_each(in_turn(case for case in CASES if case not in LONGEST))
LATER = [pytest.param(case, torch.float16, marks=pytest.mark.slow) for case in LONGEST]


@pytest.mark.parametrize(("case", "dtype"), [*ONCE, *LATER], ids=str)
def test_every_op(case, dtype):
    shape, *counts = case
    assert_the_references_bits(OPS, normal(*shape, dtype=dtype), *counts)


STRIDED = product((torch.float32, torch.bfloat16), [(6, 6), (144, 3), (12, 72)])


@pytest.mark.parametrize(("dtype", "counts"), thinned(STRIDED, 7), ids=name_of)
def test_strides(dtype, counts):
    for x in layouts(normal(3, 4, 12, dtype=dtype)):
        assert_the_references_bits(OPS, x, *counts)


@pytest.mark.parametrize("reduction", [1, 3])
@pytest.mark.parametrize(("case", "dtype"), [*in_turn([*ODD_CASES, CASES[5]]), LATER[-1]], ids=str)
def test_sums(case, reduction, dtype):
    shape, *counts = case
    assert_close_sums(OPS, normal(*shape, dtype=dtype), *counts, reduction=reduction)


@pytest.mark.parametrize("count", [4, 9, 36, 48])
def test_a_number_of_values_that_does_not_divide_the_samples(count):
    x = normal(3, 8)
    with pytest.raises(
        ValueError, match=f"perturb: sigma must have 1 value, one per sample, .* got {count} for 3 samples"
    ):
        OPS["perturb"](torch.empty_like(x), x, 1.0, 0.5, NOISE._name, None, levels(count))
