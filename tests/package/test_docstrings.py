"""Every public name's docstring has an example, and says what it raises if it can raise."""

from __future__ import annotations

import inspect
import re
import types

import pytest

import pyebm

ROOMS = ("losses", "samplers", "targets", "distributed")
CANNOT_RAISE = {"backends", "show_versions", "Drawn", "Sampled"}  # they ask nothing, or are results
MODULES = {
    name: getattr(pyebm.diagnostics, name)
    for name in ("energy_trace", "ess", "kernel_stein_discrepancy", "rhat", "to_arviz")
}


def public():
    rooms = [pyebm, *(getattr(pyebm, room) for room in ROOMS)]
    found = {name: getattr(room, name) for room in rooms for name in room.__all__} | MODULES
    return {name: thing for name, thing in found.items() if not isinstance(thing, (types.ModuleType, str))}


@pytest.mark.parametrize(("name", "thing"), public().items())
def test_a_docstring_has_an_example_and_the_errors(name, thing):
    text = inspect.getdoc(thing) or ""
    assert ">>> " in text or re.search(r":func:`\w+`, which has an example", text)
    if name not in CANNOT_RAISE:
        assert re.search(r"\b[Rr]aises\b", text)
    if inspect.isclass(thing):
        return
    listed = re.search(r"^Args:\n(.*?)(?:^\S|\Z)", text, re.M | re.S)
    arguments = [
        each
        for each in inspect.signature(thing).parameters.values()
        if each.kind is not each.VAR_KEYWORD and listed
    ]
    for argument in arguments:
        assert re.search(rf"^ +(?:\w+, )*{argument.name}(?:, \w+)*:", listed[1], re.M), argument.name
