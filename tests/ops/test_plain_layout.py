"""The arguments of the plain entries have one definition, and a library that was built from
another one says so."""

from __future__ import annotations

import pytest
import torch

from pyebm import _plain_args, samplers
from pyebm.samplers import _plain


@pytest.fixture
def fresh_entries():
    _plain._entry.cache_clear()
    yield
    _plain._entry.cache_clear()


def run():
    return samplers.Langevin(torch.neg, 0.1)(torch.zeros(3, 4), 2, noise=0)


@pytest.mark.usefixtures("fresh_entries")
def test_a_library_of_other_sources(monkeypatch):
    monkeypatch.setattr(_plain_args, "LAYOUT", "affine_step: float a")
    with pytest.raises(
        RuntimeError,
        match="affine_step: the compiled library is of other sources than pyebm's Python; build it",
    ):
        run()


@pytest.mark.usefixtures("fresh_entries")
def test_a_library_that_does_not_say(monkeypatch):
    monkeypatch.setattr(_plain._ops, "library", object)
    with pytest.raises(RuntimeError, match="affine_step: the compiled library is of other sources"):
        run()


def test_the_layout_has_every_field():
    assert _plain_args.LAYOUT.endswith(
        "; affine_step: float a, float b, float c; corrector_step: float factor, int together"
    )
    assert _plain_args.STRUCTS.keys() == {"call", _plain.PlainStep.op, _plain.PlainCorrector.op}
