"""The rule of test_refusals.py for the adapters that need no package, and for the diagnostics."""

from __future__ import annotations

import pytest
from public_adapters import CALLS


@pytest.mark.filterwarnings("ignore")  # about torch's prototypes, and about statistics of few draws
@pytest.mark.parametrize(
    ("call", "argument"), [(call, name) for call, table in CALLS.items() for name in table.kinds]
)
def test_is_refused_by_name_or_right(call, argument):
    wrong = CALLS[call].wrong(argument)
    assert not wrong, "\n".join([f"{call}({argument}=...)", *wrong])
