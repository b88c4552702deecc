"""Ctrl-C: a chain is cut into short calls with the bits of one call, and an interrupted run
leaves a state that is of use."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from functools import partial

import pytest
import torch
from cases import assert_equal, levels, normal
from sampler_cases import CASES, STEPS, begin, same

import pyebm
from pyebm import Noise, _stretches
from pyebm.samplers import MALA, Langevin, State, Trajectory, UnderdampedLangevin, _progress

pytestmark = pytest.mark.usefixtures("poison")

TARGET = pyebm.targets.DoubleWell()
LATENCY = 3.0  # seconds; usually it is some 0.1, but machines may be busy
MANY = 10**9  # so many steps take hours


@pytest.fixture(params=[1e-9, 2e-5], ids=["one step", "some steps"])
def cut(request, monkeypatch):
    """Cuts runs into calls of one step, or of as many as fit some microseconds."""
    monkeypatch.setattr(_stretches, "_SECONDS", request.param)


class TestStretches:
    @pytest.mark.parametrize("kept_inside", [True, False])
    @pytest.mark.parametrize("most", [None, 13])
    @pytest.mark.parametrize("thin", [None, 1, 7, 10, 50, 1000])
    @pytest.mark.parametrize("seconds", [1e-9, 1e-5, 1e9])
    def test_they_are_the_run(self, seconds, thin, most, kept_inside, monkeypatch):
        monkeypatch.setattr(_stretches, "_SECONDS", seconds)
        for n_steps, first in itertools.product((0, 1, 99, 700), (1, 16, 10**6)):
            at, counts = 0, []
            for done, count in _stretches.stretches(n_steps, first, thin, kept_inside, most):
                assert done == at
                at += count
                counts.append(count)
                assert 0 < count <= (most or n_steps)
                if thin is not None:
                    over = at // thin - done // thin  # number of kept states in this call
                    last = at % thin == 0 or at == n_steps
                    assert (
                        over == 0
                        or (over == 1 and at % thin == 0)
                        or (kept_inside and done % thin == 0 and last)
                    )
            assert at == n_steps
            if seconds == 1e-9 and n_steps:
                assert max(counts[1:], default=1) == 1
            if seconds == 1e9 and thin is most is None and n_steps:
                assert len(counts) <= 5  # calls grow

    def test_small_runs_are_one_call(self):
        """Most calls are small, and should not pay for cuts that they don't need."""
        assert _stretches.first_stretch(torch.empty(64, 2), torch.empty(2), 200) >= 200
        assert _stretches.first_stretch(torch.empty(1000, 2), torch.empty(16 * 4), 10**9) < 2000
        assert (
            _stretches.first_stretch(torch.empty(10**5, 64, device="meta"), torch.empty(10**6), 10**9)
            == 10**9
        )


class TestBits:
    @pytest.mark.usefixtures("cut")
    @pytest.mark.parametrize("name", CASES)
    def test_samplers(self, name):
        sampler = CASES[name](normal(6, 5))
        states = [begin(normal(6, 5))]
        for _ in range(STEPS):
            states.append(sampler(states[-1], 1))
        same(sampler(begin(normal(6, 5)), STEPS), states[-1])
        for thin in (1, 5, STEPS):
            assert_equal(
                list(sampler(begin(normal(6, 5)), STEPS, thin=thin).states),
                [state.x for state in states[thin::thin]],
            )

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize(
        "noise", [Noise(3, step=5), Noise(torch.arange(6)), Noise(3, sample_ids=[5, 0, 3, 2, 9, 9])]
    )
    @pytest.mark.parametrize(
        "options",
        [{}, {"clamp": (-1, 1), "temperature": [0.01 * k for k in range(40)]}, {"temperature": levels(6)}],
    )
    def test_langevin_chain(self, options, noise, dtype, cut_chain):
        """States are kept, and a divergence's step counts from the call's first: two chains go
        to infinity on the way."""
        x = normal(6, 5, dtype=dtype)
        x[1], x[4] = 1.03 / 0.02**0.5, 1e4
        call = partial(
            pyebm.langevin_chain, x, TARGET, 40, [0.02] * 40, noise, **options, return_diverged=True
        )
        want = {thin: call(thin=thin) for thin in (None, 1, 7, 40, 41)}
        if "clamp" not in options:
            assert want[None][1][4] >= 0
        cut_chain()
        for thin, results in want.items():
            for ours, theirs in zip(call(thin=thin), results, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)

    @pytest.fixture
    def cut_chain(self, monkeypatch):
        def cut():
            monkeypatch.setattr(_stretches, "_SECONDS", 1e-5)
            monkeypatch.setattr("pyebm.chain.first_stretch", lambda *_: 3)

        return cut

    def test_a_late_divergence(self, cut_chain):
        """Reports the first step that is not finite, though later calls find the state not
        finite too."""
        x, size = torch.full((1, 2), 0.5), [0.01] * 29 + [1e30] + [0.01] * 10
        whole = pyebm.langevin_chain(x, TARGET, 40, size, Noise(0), return_diverged=True)
        cut_chain()
        cut = pyebm.langevin_chain(x, TARGET, 40, size, Noise(0), return_diverged=True)
        assert cut[1].tolist() == whole[1].tolist()
        assert 29 <= whole[1] < 33

    def test_a_schedule_is_checked_before_the_first_step(self, cut_chain):
        cut_chain()
        size = torch.full((40,), 0.1)
        size[33] = -1
        with pytest.raises(ValueError, match="step_size must be > 0 and finite, got -1 for step 33"):
            pyebm.langevin_chain(normal(6, 5), TARGET, 40, size, Noise(0))


def by_timer(after: float) -> None:
    """Sends SIGALRM, whose handler the test sets."""
    signal.setitimer(signal.ITIMER_REAL, after)


def by_kill(after: float) -> None:
    """Sends SIGINT from another thread, as Ctrl-C would."""
    threading.Timer(after, lambda: os.kill(os.getpid(), signal.SIGINT)).start()


@pytest.fixture
def alarm():
    def handler(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handler), signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before[0])
    signal.signal(signal.SIGINT, before[1])


RUNS = {
    "chain": lambda x: pyebm.langevin_chain(x, TARGET, MANY, 0.01, Noise(0)),
    "chain-thin": lambda x: pyebm.langevin_chain(
        x, TARGET, MANY, 0.01, Noise(0), thin=MANY // 3, return_diverged=True
    ),
    "langevin": lambda x: Langevin(TARGET, 0.01)(x, MANY, noise=0),
    "langevin-schedule": lambda x: Langevin(TARGET, lambda _: 0.01)(x, MANY, noise=0),
    "langevin-thin": lambda x: Langevin(TARGET, 0.01)(x, MANY, noise=0, thin=MANY // 3),
    "underdamped": lambda x: UnderdampedLangevin(TARGET, 0.01)(x, MANY, noise=0),
    "mala": lambda x: MALA(TARGET, 0.01)(x, MANY, noise=0),
}


@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize("send", [by_timer, by_kill])
@pytest.mark.parametrize("name", RUNS)
def test_a_signal_is_heard(name, send):
    """Interrupts runs that would take hours."""
    after, begun = 0.4, time.perf_counter()
    send(after)
    with pytest.raises(KeyboardInterrupt):
        RUNS[name](torch.zeros(1000, 2))
    assert after <= time.perf_counter() - begun < after + LATENCY


class TestWhatIsLeft:
    @pytest.mark.usefixtures("alarm")
    @pytest.mark.parametrize("thin", [None, 5])
    @pytest.mark.parametrize("name", CASES)
    def test_after_a_signal(self, name, thin, monkeypatch):
        """Wherever the signal comes, the state that is left is one of the run's, and the run
        goes on from it with its bits."""
        monkeypatch.setattr(_progress, "_REMEMBER", 0.0)
        x = normal(6, 5)
        sampler = CASES[name](x)
        for after in (2e-4, 1e-3, 3e-3):
            end = time.perf_counter() + 5
            try:
                signal.setitimer(signal.ITIMER_REAL, after)
                while time.perf_counter() < end:
                    sampler(begin(x), STEPS, thin=thin)
                pytest.fail("the signal was not heard")
            except KeyboardInterrupt as error:
                left = getattr(error, "so_far", None)  # None between two runs
            if left is None:
                continue
            state = left if thin is None else left.state
            assert isinstance(left, State if thin is None else Trajectory)
            done = state.noise.step
            same(state, sampler(begin(x), done) if done else begin(x))
            same(sampler(state, STEPS - done), sampler(begin(x), STEPS))
            if thin is not None:
                assert_equal(
                    left.states, sampler(begin(x), done, thin=thin).states if done else left.states[:0]
                )

    @pytest.mark.parametrize("thin", [None, 5])
    @pytest.mark.parametrize("name", CASES)
    def test_after_a_callback(self, name, thin):
        """The state that is left is that of the interrupted step."""
        x = normal(6, 5)
        sampler = CASES[name](x)

        def stop(step, *_):
            if step == 7:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt) as caught:
            sampler(begin(x), STEPS, thin=thin, callback=stop)
        left = caught.value.so_far
        state = left if thin is None else left.state
        same(state, sampler(begin(x), 7))
        same(sampler(state, STEPS - 7), sampler(begin(x), STEPS))
        if thin is not None:
            want = sampler(begin(x), 7, thin=thin)
            assert_equal(left.states, want.states)
            assert_equal(left.info, {key: value for key, value in want.info.items() if key != "acceptance"})

    def test_after_a_score_function(self):
        """Whatever the score function raises, the last copy of the state is left, also by a run
        that was given a tensor; here the copy is the start."""
        calls = []

        def score(x):
            calls.append(1)
            if len(calls) == 40:
                raise FloatingPointError("of the score's own")
            return -x

        sampler, x = UnderdampedLangevin(score, 0.3), normal(6, 5)
        with pytest.raises(FloatingPointError, match="of the score's own") as caught:
            sampler(x, 100, noise=5)
        left = caught.value.so_far
        whole = sampler(State(x, 5), 100)
        assert_equal(left.x, x)
        same(sampler(left, 100), whole)

    @pytest.mark.usefixtures("alarm")
    def test_of_a_long_run_about_a_second_is_lost(self, monkeypatch):
        monkeypatch.setattr(_progress, "_REMEMBER", 0.3)
        sampler, x = Langevin(TARGET, 0.01), torch.zeros(1000, 2)
        signal.setitimer(signal.ITIMER_REAL, 1.5)
        with pytest.raises(KeyboardInterrupt) as caught:
            sampler(x, MANY, noise=5)
        left = caught.value.so_far
        done = left.noise.step
        assert done > 1000
        assert_equal(left.x, pyebm.langevin_chain(x, TARGET, done, 0.01, Noise(5)))
