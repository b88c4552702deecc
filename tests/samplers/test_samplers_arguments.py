"""Clamps by element; the values that may stand for a noise; samplers as objects."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import sampler_cases
import torch
from cases import assert_equal, levels, normal
from sampler_cases import energy, same, score

import pyebm
from pyebm import Noise, NoiseCounter
from pyebm.samplers import (
    HMC,
    MALA,
    VP,
    AnnealedLangevin,
    Langevin,
    PredictorCorrector,
    State,
    Trajectory,
    UnderdampedLangevin,
)

pytestmark = pytest.mark.usefixtures("poison", "one_thread")

STEPS, FIRST = 9, 4
NOISE = Noise(1, step=FIRST, stream=3)
SIZES = [0.05 + 0.01 * k for k in range(FIRST + STEPS)]
TEMPERATURES = [1.0 - 0.05 * k for k in range(FIRST + STEPS)]
MASK = normal(6, 5, seed=9) > 0
TARGET = pyebm.targets.DoubleWell()


def begin(dtype=torch.float32):
    return State(normal(6, 5, dtype=dtype), NOISE)


class TestClamps:
    """Clamps by element have the bits of the kernel's clamp where the bounds are the same number
    everywhere."""

    MAKES = (
        lambda clamp: Langevin(score, 0.3, clamp=clamp, mask=MASK),
        lambda clamp: Langevin(TARGET, 0.01, clamp=clamp),
        lambda clamp: UnderdampedLangevin(score, 0.5, clamp=clamp, mask=MASK),
        lambda clamp: AnnealedLangevin(sampler_cases.level_score, [2.0, 1.0], 0.1, 5, clamp=clamp, mask=MASK),
        lambda clamp: PredictorCorrector(
            sampler_cases.time_score, VP(0.1, 6.0), 10, clamp=clamp, per="sample", mask=MASK
        ),
    )

    @pytest.mark.parametrize("make", MAKES)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
    def test_as_numbers(self, make, dtype):
        """This holds in half precisions too, which have neither 0.3 nor 0.7: the kernel clamps
        before it rounds."""
        start = State(normal(6, 5, dtype=dtype), Noise(2))
        for low, high in ((-0.3, 0.7), (None, 0.7), (-0.3, None)):
            want = make((low, high))(start, 8)
            rows = [
                None if side is None else torch.full((5,), side, dtype=torch.float64) for side in (low, high)
            ]
            same(make(tuple(rows))(start, 8), want)
            assert not torch.equal(want.x, make(None)(start, 8).x)

    def test_by_element(self):
        low, high = -levels(5), levels(30, seed=2).reshape(6, 5)
        x = normal(6, 5)
        for k in range(STEPS):
            moved = pyebm.langevin_step(x, score(x), 0.3, Noise(2, step=k))
            x = torch.where(MASK, torch.minimum(torch.maximum(moved, low), high), x)
        got = Langevin(score, 0.3, clamp=(low, high), mask=MASK)(normal(6, 5), STEPS, noise=2)
        assert_equal(got, x)
        assert_equal(got[~MASK], normal(6, 5)[~MASK])  # masked elements don't change, whatever the bounds

    @pytest.mark.parametrize(
        ("clamp", "error", "message"),
        [
            ((torch.ones(5), torch.zeros(5)), ValueError, "low <= high in every element"),
            ((torch.full((5,), math.nan), 1), ValueError, "low <= high in every element"),
            ((torch.ones(4), None), ValueError, r"broadcast to x0's shape \(6, 5\), got \(4,\)"),
            ((torch.ones(5, device="meta"), None), ValueError, "clamp must be on x0's device cpu, got meta"),
            ((1, 0), ValueError, "low <= high"),
            (torch.ones(5), TypeError, "clamp must be a pair"),
        ],
    )
    def test_refused(self, clamp, error, message):
        with pytest.raises(error, match=message):
            Langevin(score, 0.3, clamp=clamp)(normal(6, 5), 1)


class TestNoises:
    def test_an_int_is_a_seed(self):
        sampler, x = Langevin(score, 0.1), normal(6, 5)
        assert_equal(sampler(x, 3, noise=7), sampler(x, 3, noise=Noise(7)))
        assert_equal(sampler(State(x, 7), 3).x, sampler(x, 3, noise=Noise(7)))
        pc = PredictorCorrector(sampler_cases.time_score, VP(0.1, 6.0), 10)
        assert_equal(pc.prior((3, 2), 7), pc.prior((3, 2), Noise(7)))

    def test_a_generator_gives_a_seed_drawn_from_it(self):
        sampler, x = Langevin(score, 0.1), normal(6, 5)
        seed = int(
            torch.randint(
                -(2**63), 2**63 - 1, (), dtype=torch.int64, generator=torch.Generator().manual_seed(3)
            )
        )
        generator, default = torch.Generator().manual_seed(3), torch.get_rng_state()
        first = sampler(x, 3, noise=generator)
        assert_equal(first, sampler(x, 3, noise=Noise(seed)))
        assert not torch.equal(sampler(x, 3, noise=generator), first)  # the generator has moved on
        assert_equal(torch.get_rng_state(), default)

    def test_a_counter_names_its_step(self):
        counter = NoiseCounter(Noise(7, step=2))
        state = State(normal(6, 5), counter)
        counter.advance_()
        assert type(state.noise) is Noise
        assert state.noise.step == 2

    @pytest.mark.parametrize("noise", ["7", 7.0, True, torch.tensor(7)])
    def test_refused(self, noise):
        with pytest.raises(TypeError, match=r"must be a Noise, an int \(its seed\) or a torch.Generator"):
            Langevin(score, 0.1)(normal(6, 5), 1, noise=noise)


class TestObjects:
    @pytest.mark.parametrize(
        "copied", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))], ids=["deepcopy", "pickle"]
    )
    def test_copies(self, copied):
        samplers = [
            *(
                Langevin(score, SIZES, temperature=TEMPERATURES),
                Langevin(TARGET, 0.01, clamp=(-torch.ones(5), None)),
            ),
            *(
                UnderdampedLangevin(score, 0.3),
                MALA(energy, 0.3, warmup=4),
                HMC(TARGET, 0.1, 3, mass=levels(5)),
            ),
            AnnealedLangevin(sampler_cases.level_score, [2.0, 1.0], 0.1, 20),
            PredictorCorrector(sampler_cases.time_score, VP(0.1, 6.0), 30),
        ]
        for sampler in samplers:
            again = copied(sampler)
            assert type(again) is type(sampler)
            assert repr(again) == repr(sampler)
            run, other = sampler(begin(), STEPS, thin=3), copied(sampler)(copied(begin()), STEPS, thin=3)
            for each in (other, copied(run)):
                assert type(each) is Trajectory
                assert type(each.state) is State
                assert type(each.noise) is Noise
                same(each.state, run.state)
                assert_equal((each.states, each.info, each.thin), (run.states, run.info, run.thin))

    def test_states_compare_as_objects(self):
        """States do not compare by their tensors, which have no single truth value."""
        assert begin() != begin()
        assert len({begin(), begin()}) == 2

    @pytest.mark.parametrize(
        ("sampler", "text"),
        [
            (Langevin(score, 0.3), "Langevin(score, step_size=0.3)"),
            (
                Langevin(TARGET, levels(6), clamp=(torch.ones(5), None), mask=MASK, noise_scale=[1.0, 2.0]),
                "Langevin(DoubleWell(barrier=2, width=1), step_size=<tensor (6,)>, noise_scale=[1, 2], "
                "clamp=(<tensor (5,)>, None), mask=<tensor (6, 5)>)",
            ),
            (
                Langevin(torch.nn.Sequential(torch.nn.Linear(5, 5)), lambda _: 0.1),
                "Langevin(Sequential(...), step_size=<lambda>)",
            ),
            (
                UnderdampedLangevin(score, 0.3, score_clip=2),
                "UnderdampedLangevin(score, step_size=0.3, score_clip=2)",
            ),
            (
                MALA(energy, 0.3, warmup=20, adapt_mass=True),
                "MALA(energy, step_size=0.3, warmup=20, adapt_mass=True)",
            ),
            (HMC(energy, 0.3, 5, mass=2.0), "HMC(energy, step_size=0.3, n_leapfrog=5, mass=2)"),
            (
                AnnealedLangevin(score, list(range(9, 0, -1)), 0.1, 3, denoise=False),
                "AnnealedLangevin(score, sigmas=<9 numbers>, step_lr=0.1, n_steps_each=3, denoise=False)",
            ),
            (
                PredictorCorrector(score, VP(), 50, predictor=None),
                "PredictorCorrector(score, sde=VP(), n=50, predictor=None)",
            ),
            (VP(0.1, 6.0), "VP(beta_max=6)"),
        ],
    )
    def test_repr(self, sampler, text):
        assert repr(sampler) == text
