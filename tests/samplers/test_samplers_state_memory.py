"""A score function may do anything to the state that it is given, but a sampler never writes to
a state that has changed its shape, dtype or memory's size."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, normal

from pyebm import Noise, _ops
from pyebm.samplers import HMC, MALA, VP, AnnealedLangevin, Langevin, PredictorCorrector, UnderdampedLangevin

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(_ops.backends()["cpu"] is not True, reason="the CPU library is not built"),
]

NOISE = Noise(3)
X = normal(6, 2)


def energy(x):
    return 0.5 * x.square().sum(1)


def freed(x):
    x.untyped_storage().resize_(0)
    return torch.zeros(6, 2)


def cut(x):
    x.untyped_storage().resize_(20)
    return torch.zeros(6, 2)


def smaller(x):
    x.resize_(3, 2)
    return torch.zeros(6, 2)


def larger(x):
    x.resize_(600, 2)
    return torch.zeros(6, 2)


def turned(x):
    x.t_()
    return torch.zeros(6, 2)


def widened(x):
    x.data = x.data.double()
    return torch.zeros(6, 2)


def viewed(x):
    x.data = x.data.view(torch.int32)
    return torch.zeros(6, 2)


def another(x):
    x.set_(torch.zeros(2, 2))
    return torch.zeros(6, 2)


def cut_score(x):
    score = torch.cat([x, x])[6:]
    score.untyped_storage().resize_(8)
    return score


STEPS = {
    "Langevin": lambda score: Langevin(score, 0.1),
    "AnnealedLangevin": lambda score: AnnealedLangevin(lambda x, _: score(x), [1.0], 0.1, 3),
    "PredictorCorrector": lambda score: PredictorCorrector(lambda x, _: score(x), VP(), 30),
    "UnderdampedLangevin": lambda score: UnderdampedLangevin(score, 0.1),
    "MALA": lambda score: MALA(energy, 0.1, score_fn=score),
    "HMC": lambda score: HMC(energy, 0.1, 3, score_fn=score),
}


@pytest.mark.parametrize(
    "score",
    [freed, cut, smaller, larger, turned, widened, viewed, another, cut_score],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("name", STEPS)
def test_a_state_that_is_not_what_it_was(name, score):
    """This also holds in the middle of a run of plain steps."""
    for begin in (0, 2):
        calls = 0

        def late(x, begin=begin):
            nonlocal calls
            calls += 1
            return -x.clone() if calls <= begin else score(x)

        with pytest.raises(
            ValueError, match=r"must leave the state's shape and dtype as they are|storage must hold its"
        ):
            STEPS[name](late)(X, 6, noise=NOISE)


def test_a_state_elsewhere():
    """A score function may give the state other memory: the chain goes on there."""
    for move in (lambda x: setattr(x, "data", x.data.clone()), lambda x: x.set_(x.clone())):

        def score(x, move=move):
            move(x)
            return -x

        assert_equal(Langevin(score, 0.1)(X, 5, noise=NOISE), Langevin(torch.neg, 0.1)(X, 5, noise=NOISE))


@pytest.mark.parametrize("name", ["Langevin", "AnnealedLangevin", "UnderdampedLangevin", "MALA", "HMC"])
def test_zeros_without_memory(name):
    """autograd makes such zeros."""
    run = [
        STEPS[name](score)(X, 4, noise=NOISE)
        for score in (lambda x: torch._efficientzerotensor(x.shape), torch.zeros_like)
    ]
    assert_equal(*run)
