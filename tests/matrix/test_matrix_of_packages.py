"""The table's cells of the adapters whose package is here; `make integrations` runs them all."""

from __future__ import annotations

import pytest
from calls import CALLS
from matrix_table import cells
from test_matrix import check_cell, pytestmark  # noqa: F401


@pytest.mark.parametrize(("column", "call"), cells(lambda call: bool(call.package)))
def test_cell_of_a_package(column, call):
    if not CALLS[call].runs:
        pytest.skip(f"{CALLS[call].package} is not installed; `make integrations` runs it")
    check_cell(column, call)
