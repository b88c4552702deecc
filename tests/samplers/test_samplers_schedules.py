"""Step sizes and temperatures that follow the noise's steps."""

from __future__ import annotations

import math

import pytest
import torch
from cases import assert_equal, levels, normal
from sampler_cases import energy, same, score

import pyebm
from pyebm import Noise
from pyebm.samplers import (
    HMC,
    MALA,
    Langevin,
    State,
    UnderdampedLangevin,
    _graph,
    _loop,
)

pytestmark = pytest.mark.usefixtures("poison", "one_thread")

STEPS, FIRST = 9, 4
SIZES = [
    0.05 + 0.03 * math.sin(k) for k in range(FIRST + STEPS + 1)
]  # one more, because a sampler asks a function one step ahead
TEMPERATURES = [1.0 - 0.05 * k for k in range(FIRST + STEPS)]
NOISE = Noise(1, step=FIRST, stream=3)
MASK = normal(6, 5, seed=9) > 0
TARGET = pyebm.targets.DoubleWell()
# Each function makes one form of the same schedule.
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
        """The step's number is a tensor here; the bits are the same."""
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
            x = pyebm.langevin_step(
                x, TARGET.score(x), SIZES[k], NOISE.at(step=k), temperature=TEMPERATURES[k]
            )
        for fn in (TARGET, TARGET.score):
            assert_equal(Langevin(fn, SIZES, temperature=TEMPERATURES)(begin(dtype), STEPS).x, x)
        start, sizes, temperatures = normal(6, 5, dtype=dtype), SIZES[FIRST:-1], TEMPERATURES[FIRST:]
        assert_equal(pyebm.langevin_chain(start, TARGET, STEPS, sizes, NOISE, temperature=temperatures), x)

    def test_underdamped_by_hand(self):
        """BAOAB in float64, where each step has its own h: the kick that ends one step, and the
        kick that begins the next."""
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
        got = UnderdampedLangevin(score, SIZES, friction, temperature=TEMPERATURES)(
            begin(torch.float64), STEPS
        )
        torch.testing.assert_close(got.x, x, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(
            got.extra["velocity"], v + SIZES[-1] / 2 * score(x), rtol=1e-10, atol=1e-10
        )

    def test_it_is_asked_for_the_steps_to_be_done_only(self):
        asked = []
        Langevin(score, lambda k: asked.append(k) or 0.1)(begin(), STEPS, callback=lambda k, *_: k == 3)
        assert asked == [FIRST, FIRST + 1, FIRST + 2]

    def test_a_tempered_law(self):
        """MALA, annealed from hot to cold, ends in the cold law."""
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
    @pytest.mark.parametrize(
        "scale", [0.3, levels(6), [0.01 * k for k in range(20)]], ids=["number", "rows", "list"]
    )
    @pytest.mark.parametrize("options", [{}, {"clamp": (-1, 1), "mask": MASK}], ids=["plain", "options"])
    @pytest.mark.parametrize("fn", [score, TARGET], ids=["score", "target"])
    def test_it_is_the_affine_step(self, fn, scale, options):
        """As in JEM: x + eta s + noise_scale z."""
        x, score_fn = normal(6, 5), fn if fn is score else TARGET.score
        for k in range(FIRST, FIRST + STEPS):
            c = scale[k] if isinstance(scale, list) else scale
            x = pyebm.affine_step(x, score_fn(x), 1.0, 0.02, c, NOISE.at(step=k), **options)
        assert_equal(Langevin(fn, 0.02, noise_scale=scale, **options)(begin(), STEPS).x, x)

    def test_without_noise_it_climbs(self):
        got = Langevin(torch.neg, 0.5, noise_scale=0.0)(normal(6, 5), 1, noise=0)
        assert_equal(got, normal(6, 5) * 0.5)
