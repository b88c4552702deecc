"""A rule for every public call: it refuses by name an argument that it can't take, and gives any
other the value that it stands for.

Every argument of every call gets all of the hostile values. There are two ways to pass: a
TypeError, ValueError or RuntimeError whose message has the argument's name, or the result of the
plain value that the hostile one stands for (its kind says which).
"""

from __future__ import annotations

import pytest
from public_calls import CALLS as FUNCTIONS
from public_distributed import CALLS as DISTRIBUTED
from public_objectives import CALLS as OBJECTIVES
from public_samplers import CALLS as SAMPLERS

CALLS = FUNCTIONS | OBJECTIVES | SAMPLERS | DISTRIBUTED


@pytest.mark.filterwarnings("ignore")  # warnings of chains that can't move, and of torch's prototypes
@pytest.mark.parametrize(
    ("call", "argument"), [(call, name) for call, table in CALLS.items() for name in table.kinds]
)
def test_is_refused_by_name_or_right(call, argument):
    wrong = CALLS[call].wrong(argument)
    assert not wrong, "\n".join([f"{call}({argument}=...)", *wrong])
