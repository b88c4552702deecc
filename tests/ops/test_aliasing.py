"""In-place calls whose arguments share memory with x: each gives the numbers of a call whose
arguments lie apart, or is refused."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal

import pyebm
from pyebm import Noise

NOISE = Noise(0)
BACKENDS = ["cpu", "reference"]


def parts():
    """Returns a memory, and x as a part of it; a test takes its other argument from the same
    memory."""
    whole = Noise(1).rand((3000, 8)) + 0.1
    return whole, whole[:, :4]


ROWS = {
    "its first column": lambda x: x[:, :1],
    "its second": lambda x: x[:, 1:2],
    "itself": lambda x: x,
    "of other samples": lambda x: x.as_strided((3000, 1), (1, 1)),
    "one number of it": lambda x: x[2, 3],
    "its last row": lambda x: x[-1:, -1],
    "what lies beside it": lambda x: x.as_strided((3000, 1), (8, 1), 4),
    "a Parameter of it": lambda x: torch.nn.Parameter(x[:, :1], requires_grad=False),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["step_size", "temperature"])
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_coefficients(rows, name, backend):
    _, x = parts()
    score = -x.clone()
    arguments = {"step_size": 0.1, "temperature": 1.0, "noise": NOISE, "backend": backend}
    want = pyebm.langevin_step(x.clone(), score, **(arguments | {name: rows(x).detach().clone()}))
    assert pyebm.langevin_step_(x, score, **(arguments | {name: rows(x)})) is x
    assert_equal(x, want)


@pytest.mark.parametrize("backend", BACKENDS)
def test_masks(backend):
    memory = torch.zeros(3000 * 4 * 4, dtype=torch.bool)
    x = memory.view(torch.float32).reshape(3000, 4)
    mask = memory[: 3000 * 4].reshape(3000, 4)
    mask[::3] = True
    want = pyebm.langevin_step(x.clone(), torch.ones(3000, 4), 0.1, NOISE, mask=mask.clone(), backend=backend)
    pyebm.langevin_step_(x, torch.ones(3000, 4), 0.1, NOISE, mask=mask, backend=backend)
    assert_equal(x, want, equal_nan=True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_scores(backend):
    """A score may be at the same memory element by element; it may not share another element's."""
    _, x = parts()
    want = pyebm.langevin_step(x.clone(), x.clone(), 0.1, NOISE, backend=backend)
    assert_equal(pyebm.langevin_step_(x, x, 0.1, NOISE, backend=backend), want)
    whole = Noise(2).randn((4000,))
    x, score = whole[:3000].view(30, 100), whole[1000:].view(30, 100)
    want = pyebm.langevin_step(x.clone(), score.clone(), 0.1, NOISE, backend=backend)
    try:
        assert_equal(pyebm.langevin_step_(x, score, 0.1, NOISE, backend=backend), want)
    except ValueError as error:
        assert "overlap" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    "score",
    [lambda x: x, lambda x: x[:1].expand(6, 4), lambda x: x.flip(0), lambda x: x.as_strided((6, 4), (1, 6))],
)
@pytest.mark.parametrize("kind", ["Langevin", "UnderdampedLangevin", "MALA", "HMC", "PredictorCorrector"])
def test_a_score_function_that_returns_its_argument_in_another_way(kind, score):
    """The score shares the memory of the state that the sampler writes to: the sampler gives the
    right numbers or refuses."""
    samplers = pyebm.samplers

    def apart(x, *_):
        return score(x).clone()

    def same(x, *_):
        return score(x)

    def energy(x):
        return 0.5 * x.square().sum(1)

    made = {
        "Langevin": lambda fn: samplers.Langevin(fn, 0.1),
        "UnderdampedLangevin": lambda fn: samplers.UnderdampedLangevin(fn, 0.1),
        "MALA": lambda fn: samplers.MALA(energy, 0.1, score_fn=fn),
        "HMC": lambda fn: samplers.HMC(energy, 0.1, 2, score_fn=fn),
        "PredictorCorrector": lambda fn: samplers.PredictorCorrector(fn, samplers.VE(), 4),
    }[kind]
    x0 = Noise(3).randn((6, 4))
    want = made(apart)(x0, 3, noise=NOISE)
    try:
        assert_equal(made(same)(x0, 3, noise=NOISE), want)
    except ValueError as error:
        assert "overlap" in str(error)  # noqa: PT017


def test_energies_that_lie_in_the_state():
    """A function may return a part of x as the energy; MALA keeps the numbers that it was given."""

    def first(x):
        return x[:, 0]

    x0 = Noise(3).randn((6, 4)).double()
    sampler, want = (
        pyebm.samplers.MALA(fn, 0.1, score_fn=lambda x: -torch.ones_like(x))
        for fn in (first, lambda x: x[:, 0].clone())
    )
    assert_equal(sampler(x0, 5, noise=NOISE), want(x0, 5, noise=NOISE))
