"""Every backend takes the numbers of parameters that pyebm/_kinds.py says, and refuses others."""

from __future__ import annotations

import pytest
import torch
from target_cases import make

import pyebm
from pyebm import _kinds, _ops

# Elements of a sample: a few small numbers, and 512, for which the rows of a matrix are padded.
ELEMENTS = (1, 2, 3, 5, 512)


def counts(elements, name=""):
    """Numbers of parameters around those that some target has. A polynomial takes any, and time for
    each: it gets the first."""
    rows = _kinds.row_stride(elements)
    fitting = (1, 2, 3, 4, 2 * elements, elements * (1 + rows), elements + 2 * (3 + rows), 3 * (1 + 2 * rows))
    return sorted({0, *fitting, *(n + 1 for n in fitting)})[: 12 if name == "polynomial" else None]


@pytest.mark.parametrize("elements", ELEMENTS)
@pytest.mark.parametrize("name", _kinds.TARGETS)
def test_a_number_of_parameters_is_taken_or_refused(name, elements, backend):
    x, target = torch.ones(2, elements), _kinds.TARGETS.index(name)
    for op in (_ops.kernels(backend, x)["target_score"], pyebm.reference.OPS["target_score"]):
        taken, refused = [], []
        for numbers in counts(elements, name):
            try:
                op(torch.empty_like(x), x, target, torch.ones(numbers))
            except ValueError as error:  # noqa: PERF203
                refused.append(str(error))
            else:
                taken.append(numbers)
        assert taken == [n for n in counts(elements, name) if _kinds.fits(name, elements, n)]
        assert all(f"{name} with" in words or f"numbers of {name} " in words for words in refused)


def test_the_classes_make_so_many_numbers():
    for name, kind in _kinds.KINDS.items():
        if not kind.dense:
            assert _kinds.fits(name, 5, make(name, 5)._numbers().numel())
            assert make(name, 5).least_dim == kind.least


def test_the_libraries_have_the_same_table():
    assert _ops.targets_of(_ops._C) == _kinds.TEXT
    assert tuple(pyebm._composed.SCORES) == _kinds.TARGETS
