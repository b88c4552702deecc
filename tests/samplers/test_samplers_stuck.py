"""A warning names the chains that can't move."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from cases import assert_equal, normal

import pyebm
from pyebm import Noise
from pyebm.samplers import HMC, MALA

pytestmark = pytest.mark.usefixtures("poison", "one_thread")


def gamma(x):
    """The energy of Gamma(2, 1), which is NaN for x < 0."""
    return x.sum(1) - x.log().sum(1)


SAMPLERS = [lambda e, **o: MALA(e, 0.3, **o), lambda e, **o: HMC(e, 0.3, 5, **o)]


@pytest.mark.parametrize("make", SAMPLERS)
class TestStuck:
    """Chains that can't move are named; the others run as they would without them."""

    def test_a_start_at_nan(self, make):
        x = normal(64, 2).abs() + 0.5
        x[[7, 9]] = -1.0
        with pytest.warns(
            RuntimeWarning,
            match=r"energy at the start is NaN or -infinity for 2 of 64 chains \(sample ids 107, 109\)",
        ) as seen:
            run = make(gamma)(x, 60, noise=Noise(0, first_sample=100), thin=60)
        assert len(seen) == 1  # no second warning that they accepted nothing
        assert seen[0].filename == __file__
        assert run.info["acceptance"][[7, 9]].tolist() == [0, 0]
        assert (run.info["acceptance"] > 0).sum() == 62

    def test_many_are_counted(self, make):
        with pytest.warns(RuntimeWarning, match=r"64 of 64 chains \(sample ids 0, 1, 2, 3, 4, \.\.\.\)"):
            make(gamma)(-torch.ones(64, 2), 1, noise=0)
        with pytest.warns(RuntimeWarning, match=r"2 of 3 chains \(sample ids 9, 5\)"):
            make(gamma)(torch.tensor([[-1.0], [-1.0], [1.0]]), 1, noise=Noise(0, sample_ids=[9, 5, 7]))

    def test_a_start_at_minus_infinity(self, make):
        """A chain never leaves it, and no other chain goes there."""

        def hole(x):
            return torch.where(x.amin(1) < -1, -math.inf, 0.5 * x.square().sum(1))

        x = normal(300, 2).clamp(min=-0.9)
        x[5] = -2.0
        with pytest.warns(RuntimeWarning, match="NaN or -infinity for 1 of 300 chains"):
            run = make(hole, score_fn=torch.neg)(x, 40, noise=4, thin=1)
        assert_equal(run.x[5], x[5])
        others = torch.arange(300) != 5
        assert run.states[:, others].amin() >= -1
        assert run.info["energy"][:, others].isfinite().all()
        assert run.info["acceptance"][others].min() > 0

    def test_a_start_at_infinity_can_be_left(self, make):
        """The start is outside the support: the chain enters it as soon as a proposal falls
        there."""

        def walled(x):
            return torch.where(x.amax(1) > 1, math.inf, 0.5 * x.square().sum(1))

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            run = make(walled, score_fn=torch.neg)(torch.full((50, 2), 1.2), 100, noise=4, thin=100)
        assert run.states.amax() <= 1

    def test_nothing_accepted(self, make):
        """The step size is out of all proportion."""

        def steep(x):
            return 1e12 * x.square().sum(1)

        with pytest.warns(RuntimeWarning, match=r"nothing was accepted in 60 steps for 10 of 10 chains"):
            make(steep)(torch.full((10, 2), 1e-6), 60, noise=0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # few steps give no warning
            make(steep)(torch.full((10, 2), 1e-6), 20, noise=0)

    def test_nothing_to_say(self, make):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            make(gamma)(torch.ones(64, 2), 100, noise=0)
            make(gamma)(-torch.ones(64, 2), 0, noise=0)
            make(gamma)(torch.ones(0, 2), 100, noise=0)
            pyebm.samplers.Langevin(lambda x: x * math.nan, 0.1)(torch.ones(3, 2), 5)
