"""Every public call under whatever PyTorch does to a function: each cell of the table, and the page
that shows it."""

from __future__ import annotations

import os

import pytest
import torch.distributed as dist
from calls import CALLS
from columns import COLUMNS
from matrix_table import NOT_APPLICABLE, OTHERS, cell, committed, page
from processes import GLOO

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:::torch"),  # its own, while it compiles
]
# Compilations take most of the time; the plain columns of the same compilers run always.
SLOW = ("compile, dynamic", "export, strict")
CELLS = [
    pytest.param(column, call, marks=pytest.mark.slow if column in SLOW else ())
    for column in COLUMNS
    for call in CALLS
    if cell(call, column) is not NOT_APPLICABLE
]


@pytest.mark.parametrize(("column", "call"), CELLS)
def test_cell(column, call):
    if column in GLOO and not (dist.is_available() and dist.is_gloo_available()):
        pytest.skip("torch has no gloo here")
    if column == "workers, forked" and not hasattr(os, "fork"):
        pytest.skip("no fork here")
    check, of, expected = COLUMNS[column], CALLS[call], cell(call, column)
    if expected.refusal is None:
        check(of)
        return
    with pytest.raises((TypeError, ValueError, RuntimeError), match=f"{of.op}: {expected.refusal}"):
        check(of)


def test_the_page_is_what_the_tests_give():
    assert committed()[0] == page(), (
        "docs/pytorch.md has another table; run PYTHONPATH=tests python tests/matrix/matrix_table.py"
    )


def test_every_exception_is_one():
    """No column or call is named that there isn't."""
    kinds = {call.kind for call in CALLS.values()}
    assert set(OTHERS) <= set(COLUMNS)
    assert {name for others in OTHERS.values() for name in others} <= {*CALLS, *kinds, "all"}
