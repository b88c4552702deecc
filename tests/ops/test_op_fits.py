"""The quick check of an op's arguments takes the usual call, and no call that the full checks
refuse."""

from __future__ import annotations

import math
import re
from typing import Any

import hostile_ops
import pytest
import torch

from pyebm import _op_checks
from pyebm._op_fits import fits
from pyebm._schemas import OPS

# Chains are long, so their states and schedules are left to the full checks.
SLOW = ("langevin_chain", "metropolis_chain", "network_chain", "predictor_corrector", "underdamped_chain")


def values_of(op: str, arguments: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(arguments[argument.name] for argument in OPS[op].arguments)


@pytest.mark.parametrize("op", sorted(set(OPS) - set(SLOW)))
def test_the_usual_call_is_plain(op):
    good = hostile_ops.good(OPS[op])
    assert fits(OPS[op])(values_of(op, good))


@pytest.mark.filterwarnings("ignore")  # warnings about torch's sparse prototypes
@pytest.mark.parametrize("op", OPS)
def test_what_is_refused_is_not_plain(op):
    table, plain = OPS[op], fits(OPS[op])
    for reduction in (0, 1, 2) if "reduction" in table.place else (1,):
        good = hostile_ops.good(table, reduction)
        for argument in table.arguments:
            for _, bad in hostile_ops.spoiled(table, argument, good):
                values = values_of(op, good | bad)
                if plain(values):
                    _op_checks.check(table, values)  # raises nothing


NUMBERS = [
    (op, argument.name, bad)
    for op, table in OPS.items()
    for argument in table.arguments
    if (rule := argument.number) is not None
    for bad in dict.fromkeys(
        (math.nan, math.inf, -math.inf, rule.low - 1, rule.high, *([rule.low] if rule.low_open else []))
    )
]


@pytest.mark.parametrize(("op", "name", "bad"), NUMBERS)
def test_a_number_out_of_range(op, name, bad):
    """The compiled op, the fake and the Python backends refuse the number in the same words;
    where rows are given the number is not read."""
    table, rows = OPS[op], f"{name}_rows"
    good = hostile_ops.good(table) | {name: bad} | ({rows: None} if rows in table.place else {})
    words = next(argument.number.words for argument in table.arguments if argument.name == name)
    said = re.escape(f"{op}: {name} must be {words}, got {bad:g}")
    called = _op_checks.checked(table, lambda *_: None)
    for call in (called, getattr(torch.ops.pyebm, op)):
        with pytest.raises(ValueError, match=said):
            call(*values_of(op, good))
    hosts = {
        argument.name
        for argument in table.arguments
        if argument.tensor is not None and argument.tensor.on_host
    }
    fakes = {
        key: value.to("meta") if isinstance(value, torch.Tensor) and key not in hosts else value
        for key, value in good.items()
    }
    with pytest.raises(ValueError, match=said):
        _op_checks.check(table, values_of(op, fakes), real=False)
    if rows in table.place:
        called(*values_of(op, hostile_ops.good(table) | {name: math.nan}))
