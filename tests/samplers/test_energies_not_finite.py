"""Energies of NaN, infinity and -infinity, of a proposal and at the start, in MALA and HMC:
which chains stay, which leave."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from cases import DTYPES, assert_equal

from pyebm import Noise
from pyebm.samplers import HMC, MALA

INF, NAN = math.inf, math.nan


def runs(kind, backend, energy, x0, n=3):
    options = {"score_fn": torch.zeros_like, "backend": backend}
    sampler = MALA(energy, 0.5, **options) if kind == "MALA" else HMC(energy, 0.5, 2, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return sampler(x0, n, noise=Noise(0), thin=1)


def at_zero(there, elsewhere):
    """An energy with one value for samples that are 0, and another for all others."""

    def energy(x):
        return torch.where((x == 0).all(1), there, elsewhere).to(x.dtype)

    return energy


@pytest.mark.parametrize("kind", ["MALA", "HMC"])
@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("dtype", DTYPES)
class TestEnergies:
    @pytest.mark.parametrize("value", [NAN, INF, -INF])
    def test_such_a_proposal_is_never_taken(self, kind, backend, dtype, value):
        x0 = torch.zeros(8, 3, dtype=dtype)
        run = runs(kind, backend, at_zero(1.0, value), x0)
        assert_equal(run.x, x0)
        assert not run.info["accept_prob"].any()
        assert (run.info["energy"] == 1).all()

    def test_infinity_is_left_at_once(self, kind, backend, dtype):
        run = runs(kind, backend, at_zero(INF, 1.0), torch.zeros(8, 3, dtype=dtype))
        assert (run.states[0] != 0).all()
        assert (run.info["accept_prob"] == 1).all()

    @pytest.mark.parametrize("value", [NAN, -INF])
    def test_others_are_never_left(self, kind, backend, dtype, value):
        x0 = torch.zeros(8, 3, dtype=dtype)
        assert_equal(runs(kind, backend, at_zero(value, 1.0), x0).x, x0)

    @pytest.mark.parametrize("value", [NAN, INF, -INF])
    def test_from_one_to_its_like_nobody_goes(self, kind, backend, dtype, value):
        x0 = torch.zeros(8, 3, dtype=dtype)
        assert_equal(runs(kind, backend, at_zero(value, value), x0).x, x0)


@pytest.mark.parametrize("kind", ["MALA", "HMC"])
@pytest.mark.parametrize("value", [NAN, -INF])
def test_a_start_that_is_never_left_is_told(kind, value):
    with pytest.warns(RuntimeWarning, match="8 of 8 chains"):
        (
            MALA(at_zero(value, 1.0), 0.5, score_fn=torch.zeros_like)
            if kind == "MALA"
            else HMC(at_zero(value, 1.0), 0.5, 2, score_fn=torch.zeros_like)
        )(torch.zeros(8, 3), 1, noise=Noise(0))
