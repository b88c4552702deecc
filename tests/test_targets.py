"""The closed-form targets: energy against formula, score against the energy's gradient, and what a target promises as a module."""

from __future__ import annotations

import ctypes

import pytest
import torch
from cases import assert_equal, normal
from target_cases import KINDS, make, start

import pyebm


def test_python_and_cpp_count_the_targets_alike():
    library = ctypes.CDLL(str(pyebm._ops._C))
    library.pyebm_target.restype = ctypes.c_char_p
    library.pyebm_target.argtypes = [ctypes.c_int64]
    names = pyebm._ops.TARGETS
    assert [library.pyebm_target(k) for k in range(len(names) + 1)] == [*(name.encode() for name in names), None]
    assert tuple(pyebm.reference.SCORES) == names


@pytest.mark.parametrize("kind", KINDS)
def test_the_score_is_minus_the_energys_gradient(kind):
    target, x = make(kind, 5), start((7, 5), torch.float64)
    torch.testing.assert_close(target.score(x), pyebm.energy_score(target, x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind):
    target, x = make(kind, 5), normal(3, 5, dtype=torch.float64, grad=True)
    torch.autograd.gradcheck(target, x)
    torch.autograd.gradcheck(target.score, x)
    assert_equal(target.score(x).detach(), target.score(x.detach()))
