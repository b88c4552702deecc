"""Numbers that follow the noise's steps; clamps by element; what may stand for a noise; samplers as objects."""

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
    _graph,
    _loop,
)

pytestmark = pytest.mark.usefixtures("poison", "one_thread")

STEPS, FIRST = 9, 4
SIZES = [0.05 + 0.03 * math.sin(k) for k in range(FIRST + STEPS + 1)]  # one more: a function is asked one step ahead
TEMPERATURES = [1.0 - 0.05 * k for k in range(FIRST + STEPS)]
NOISE = Noise(1, step=FIRST, stream=3)
MASK = normal(6, 5, seed=9) > 0
TARGET = pyebm.targets.DoubleWell()
# The same schedule in each form.
FORMS = {
    "list": list,
    "tensor": lambda numbers: torch.tensor(numbers, dtype=torch.float64),
    "function": lambda numbers: numbers.__getitem__,
    "function of tensors": lambda numbers: lambda k: torch.tensor(numbers, dtype=torch.float64)[k],
}
SAMPLERS = {
    "langevin": lambda size, t: Langevin(score, size, temperature=t),
    "langevin-options": lambda size, t: Langevin(score, size, temperature=t, clamp=(-1, 1), mask=MASK),
    "langevin-by-sample": lambda size, _: Langevin(score, size, temperature=levels(6)),
    "langevin-chain": lambda size, t: Langevin(TARGET, size, temperature=t),
    "langevin-scale": lambda size, t: Langevin(score, size, noise_scale=t),
    "underdamped": lambda size, t: UnderdampedLangevin(score, size, 0.7, temperature=t),
    "mala": lambda size, t: MALA(energy, size, temperature=t),
    "hmc": lambda size, t: HMC(energy, size, 3, temperature=t, jitter=0.2),
    "hmc-mass": lambda size, t: HMC(energy, size, 3, temperature=t, mass=levels(5), mask=MASK),
    "mala-mass": lambda size, t: MALA(energy, size, temperature=t, mass=levels(5)),
}


@pytest.fixture(params=SAMPLERS)
def make(request):
    return SAMPLERS[request.param]


def begin(dtype=torch.float32):
    return State(normal(6, 5, dtype=dtype), NOISE)


class TestSchedules:
    @pytest.mark.parametrize("form", FORMS)
    def test_every_form_is_the_list(self, make, form):
        want = make(SIZES, TEMPERATURES)(begin(), STEPS)
        same(make(FORMS[form](SIZES), FORMS[form](TEMPERATURES))(begin(), STEPS), want)

    def test_a_schedule_of_one_number_is_the_number(self, make):
        want = make(0.03, 0.8)(begin(), STEPS)
        same(make([0.03] * (FIRST + STEPS), [0.8] * (FIRST + STEPS))(begin(), STEPS), want)
        same(make(lambda _: 0.03, 0.8)(begin(), STEPS), want)
        same(make(0.03, lambda _: 0.8)(begin(), STEPS), want)

    def test_a_run_that_goes_on_goes_on_in_it(self, make):
        whole = make(SIZES, TEMPERATURES)(begin(), STEPS)
        for cut in range(STEPS + 1):
            half = make(SIZES, TEMPERATURES)(begin(), cut)
            same(make(SIZES, TEMPERATURES)(half, STEPS - cut), whole)

    def test_kept_states_and_callbacks(self, make):
        states = [make(SIZES, TEMPERATURES)(begin(), k).x for k in range(STEPS + 1)]
        assert_equal(list(make(SIZES, TEMPERATURES)(begin(), STEPS, thin=2).states), states[2::2])
        seen = []
        make(SIZES, TEMPERATURES)(begin(), STEPS, callback=lambda _, x, __: seen.append(x.clone()))
        assert_equal(seen, states[1:])

    def test_in_a_graph(self, make, monkeypatch):
        """Where the step's number is a tensor: the same bits."""
        monkeypatch.setattr(_graph, "on_the_side", lambda once: once())
        monkeypatch.setattr(_graph, "capture", lambda once: once)
        monkeypatch.setattr(_loop, "_capturable", lambda _: True)
        want = make(SIZES, TEMPERATURES)(begin(), STEPS)
        same(make(SIZES, TEMPERATURES)(begin(), STEPS, graph=True), want)
        same(make(SIZES.__getitem__, TEMPERATURES.__getitem__)(begin(), STEPS, graph=True), want)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
    def test_langevin_is_the_loop(self, dtype):
        x = normal(6, 5, dtype=dtype)
        for k in range(FIRST, FIRST + STEPS):
            x = pyebm.langevin_step(x, TARGET.score(x), SIZES[k], NOISE.at(step=k), temperature=TEMPERATURES[k])
        for fn in (TARGET, TARGET.score):
            assert_equal(Langevin(fn, SIZES, temperature=TEMPERATURES)(begin(dtype), STEPS).x, x)
        start, sizes, temperatures = normal(6, 5, dtype=dtype), SIZES[FIRST:-1], TEMPERATURES[FIRST:]
        assert_equal(pyebm.langevin_chain(start, TARGET, STEPS, sizes, NOISE, temperature=temperatures), x)

    def test_underdamped_by_hand(self):
        """BAOAB in float64, each step with its own h: the kick at the end of one and the one that begins the next."""
        x, friction = normal(6, 5, dtype=torch.float64), 0.7
        v = TEMPERATURES[FIRST] ** 0.5 * NOISE.at(stream=4).randn((6, 5), dtype=torch.float64)
        for k in range(FIRST, FIRST + STEPS):
            h, t = SIZES[k], TEMPERATURES[k]
            v = v + h / 2 * score(x)
            x = x + h / 2 * v
            c = math.exp(-friction * h)
            v = c * v + math.sqrt((1 - c * c) * t) * NOISE.at(step=k).randn((6, 5), dtype=torch.float64)
            x = x + h / 2 * v
            v = v + h / 2 * score(x)
        got = UnderdampedLangevin(score, SIZES, friction, temperature=TEMPERATURES)(begin(torch.float64), STEPS)
        torch.testing.assert_close(got.x, x, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(got.extra["velocity"], v + SIZES[-1] / 2 * score(x), rtol=1e-10, atol=1e-10)

    def test_it_is_asked_for_the_steps_to_be_done_only(self):
        asked = []
        Langevin(score, lambda k: asked.append(k) or 0.1)(begin(), STEPS, callback=lambda k, *_: k == 3)
        assert asked == [FIRST, FIRST + 1, FIRST + 2]

    def test_a_tempered_law(self):
        """Annealed from hot to cold, MALA ends in the cold law."""
        sampler = MALA(lambda x: 0.5 * x.square().sum(1), 0.5, temperature=lambda k: max(4.0 * 0.97**k, 0.25))
        x = sampler(torch.zeros(4000, 1), 300, noise=0)
        assert abs(float(x.std()) - 0.5) < 0.03

    @pytest.mark.parametrize(
        ("sampler", "error", "message"),
        [
            (
                lambda: Langevin(score, SIZES[:12]),
                ValueError,
                r"step_size must have one number .* steps from 0 to 12, got 12",
            ),
            (
                lambda: Langevin(score, [*SIZES[:8], -1.0, *SIZES]),
                ValueError,
                r"step_size\[8\] must be > 0 and finite, got -1",
            ),
            (
                lambda: Langevin(score, [levels(6)] * 20),
                TypeError,
                r"step_size\[4\] must be a number, got a tensor \(6,\)",
            ),
            (
                lambda: Langevin(score, lambda k: 6.0 - k),
                ValueError,
                r"step_size\(6\) must be > 0 and finite, got 0",
            ),
            (lambda: Langevin(score, lambda _: "a"), TypeError, r"step_size\(4\) must be a number .*got str"),
            (
                lambda: Langevin(score, lambda _: levels(6)),
                TypeError,
                r"step_size\(4\) must be a number, got a tensor \(6,\) on cpu",
            ),
            (
                lambda: Langevin(score, levels(14).to("meta")),
                ValueError,
                "one value per step must be on the CPU, got meta",
            ),
            (
                lambda: Langevin(score, 0.1, temperature=[1.0]),
                ValueError,
                "temperature must have one number .*got 1",
            ),
            (
                lambda: Langevin(score, 0.1, temperature=0.5, noise_scale=0.1),
                ValueError,
                "temperature or noise_scale, not both",
            ),
            (
                lambda: Langevin(score, 0.1, noise_scale=-0.1),
                ValueError,
                "noise_scale must be >= 0 and finite, got -0.1",
            ),
            (
                lambda: UnderdampedLangevin(score, levels(6)),
                ValueError,
                r"step_size can't differ between samples.*\(6,\) for 6",
            ),
            (
                lambda: MALA(energy, 0.1, temperature=levels(6)),
                ValueError,
                "temperature can't differ between samples",
            ),
            (
                lambda: MALA(energy, 0.1, temperature=levels(6)[:, None]),
                TypeError,
                r"temperature must be .*shape \(6, 1\)",
            ),
            (lambda: MALA(energy, SIZES, warmup=5), ValueError, "warmup finds a step size of its own"),
        ],
    )
    def test_refused(self, sampler, error, message):
        with pytest.raises(error, match=message):
            sampler()(begin(), STEPS)


class TestNoiseScale:
    @pytest.mark.parametrize("scale", [0.3, levels(6), [0.01 * k for k in range(20)]], ids=["number", "rows", "list"])
    @pytest.mark.parametrize("options", [{}, {"clamp": (-1, 1), "mask": MASK}], ids=["plain", "options"])
    @pytest.mark.parametrize("fn", [score, TARGET], ids=["score", "target"])
    def test_it_is_the_affine_step(self, fn, scale, options):
        """JEM's: x + eta s + noise_scale z."""
        x, score_fn = normal(6, 5), fn if fn is score else TARGET.score
        for k in range(FIRST, FIRST + STEPS):
            c = scale[k] if isinstance(scale, list) else scale
            x = pyebm.affine_step(x, score_fn(x), 1.0, 0.02, c, NOISE.at(step=k), **options)
        assert_equal(Langevin(fn, 0.02, noise_scale=scale, **options)(begin(), STEPS).x, x)

    def test_without_noise_it_climbs(self):
        got = Langevin(torch.neg, 0.5, noise_scale=0.0)(normal(6, 5), 1, noise=0)
        assert_equal(got, normal(6, 5) * 0.5)


class TestClamps:
    """By element: the bits of the kernel's clamp where the bounds are the same number everywhere."""

    MAKES = (
        lambda clamp: Langevin(score, 0.3, clamp=clamp, mask=MASK),
        lambda clamp: Langevin(TARGET, 0.01, clamp=clamp),
        lambda clamp: UnderdampedLangevin(score, 0.5, clamp=clamp, mask=MASK),
        lambda clamp: AnnealedLangevin(sampler_cases.level_score, [2.0, 1.0], 0.1, 5, clamp=clamp, mask=MASK),
        lambda clamp: PredictorCorrector(sampler_cases.time_score, VP(0.1, 6.0), 10, clamp=clamp, per="sample", mask=MASK),
    )

    @pytest.mark.parametrize("make", MAKES)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
    def test_as_numbers(self, make, dtype):
        """In half precisions too, where the kernel clamps before it rounds: 0.3 and 0.7 are numbers of none of them."""
        start = State(normal(6, 5, dtype=dtype), Noise(2))
        for low, high in ((-0.3, 0.7), (None, 0.7), (-0.3, None)):
            want = make((low, high))(start, 8)
            rows = [None if side is None else torch.full((5,), side, dtype=torch.float64) for side in (low, high)]
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
        assert_equal(got[~MASK], normal(6, 5)[~MASK])  # as they were, outside of the bounds or not

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
        seed = int(torch.randint(-(2**63), 2**63 - 1, (), dtype=torch.int64, generator=torch.Generator().manual_seed(3)))
        generator, default = torch.Generator().manual_seed(3), torch.get_rng_state()
        first = sampler(x, 3, noise=generator)
        assert_equal(first, sampler(x, 3, noise=Noise(seed)))
        assert not torch.equal(sampler(x, 3, noise=generator), first)  # it has moved on
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
    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))], ids=["deepcopy", "pickle"])
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
        """Not by their tensors, which have no one truth."""
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
