"""All samplers have the same bits when stopped and resumed, when split, and on any number of
threads."""

from __future__ import annotations

import io
import itertools
import random

import pytest
import torch
from cases import assert_equal, normal
from sampler_cases import CASES, STEPS, begin, same

import pyebm
from pyebm import Noise
from pyebm.samplers import HMC, MALA, Langevin, State, UnderdampedLangevin

pytestmark = pytest.mark.usefixtures("poison", "one_thread")


@pytest.fixture(params=CASES)
def make(request):
    return CASES[request.param]


def saved(state: State) -> State:
    """Passes the state through a file, as a checkpoint does."""
    file = io.BytesIO()
    torch.save(state.state_dict(), file)
    file.seek(0)
    return State.from_state_dict(torch.load(file, weights_only=True))


@pytest.mark.parametrize("seed", range(3))
def test_stop_and_resume_in_random_places(make, seed):
    x0 = normal(6, 5)
    sampler, whole = make(x0), make(x0)(begin(x0), STEPS)
    state = begin(x0)
    for a, b in itertools.pairwise([0, *sorted(random.Random(seed).sample(range(1, STEPS), 3)), STEPS]):
        state = saved(sampler(state, b - a))
    same(state, whole)
    assert state.noise.step == STEPS


def test_without_more_state_x_and_the_noise_are_enough(make):
    x0 = normal(6, 5)
    sampler = make(x0)
    half = sampler(begin(x0), 5)
    if half.extra:
        pytest.skip("carries more than x")
    assert_equal(sampler(half.x, STEPS - 5, noise=half.noise), sampler(x0, STEPS, noise=begin(x0).noise))


def test_a_callback_stops_and_the_run_goes_on(make):
    x0 = normal(6, 5)
    sampler, seen = make(x0), []
    stopped = sampler(
        begin(x0), STEPS, callback=lambda k, x, info: seen.append((k, x.clone(), info)) or k == 5
    )
    same(stopped, sampler(begin(x0), 5))
    assert [k for k, *_ in seen] == [1, 2, 3, 4, 5]
    assert_equal(seen[-1][1], stopped.x)
    same(sampler(stopped, STEPS - 5), sampler(begin(x0), STEPS))


def test_a_sample_does_not_depend_on_its_batch(make):
    """Runs the last chains alone with their own ids, as another process would."""
    x0 = normal(6, 5)
    if getattr(make(x0), "per", "sample") == "batch":
        pytest.skip("couples the samples of a batch, by its name")
    whole = make(x0)(begin(x0), STEPS)
    part = make(x0[4:])(begin(x0[4:], Noise(1, first_sample=4, stream=3)), STEPS)
    assert_equal(part.x, whole.x[4:])
    for name, value in part.extra.items():
        assert_equal(value, whole.extra[name][4:] if value.dim() else whole.extra[name])
    listed = make(x0[[5, 4]])(begin(x0[[5, 4]], Noise(1, sample_ids=[5, 4], stream=3)), STEPS)
    assert_equal(listed.x, whole.x[[5, 4]])


def runs_on_threads(sampler, x0, steps=3):
    for threads in (1, 2):
        torch.set_num_threads(threads)
        yield sampler(begin(x0), steps)


def test_threads(make):
    x0 = normal(22_001, 5)
    same(*runs_on_threads(make(x0), x0))


@pytest.mark.parametrize("name", ["pc-vp-batch", "mala-warmup-batch"])
def test_threads_and_means_over_a_batch(name):
    """The chains are so many that torch's own sums over them differ in the last bits about every
    third time."""
    x0 = normal(60_001, 2, dtype=torch.float64)
    same(*runs_on_threads(CASES[name](x0), x0, 12))


def test_threads_that_share_one_sample():
    for sampler in (Langevin(torch.neg, 0.1), UnderdampedLangevin(torch.neg, 0.1)):
        same(*runs_on_threads(sampler, normal(1, 70_000)))


class TestTrajectory:
    def test_states_are_those_of_shorter_runs(self, make):
        x0 = normal(6, 5)
        sampler = make(x0)
        states = [sampler(begin(x0), k).x for k in range(STEPS + 1)]
        for thin in (1, 5, STEPS + 1):
            got = sampler(begin(x0), STEPS, thin=thin)
            assert got.states.shape == (STEPS // thin, 6, 5)
            assert_equal(list(got.states), states[thin::thin])
            assert len(got) == STEPS // thin
            same(got.state, sampler(begin(x0), STEPS))
            assert all(len(value) in (STEPS // thin, 6) for value in got.info.values())

    def test_resumes(self, make):
        x0 = normal(6, 5)
        sampler = make(x0)
        half = sampler(begin(x0), 6, thin=2)
        same(sampler(half.state, STEPS - 6, thin=3).state, sampler(begin(x0), STEPS))

    def test_progress(self, make, capsys):
        pytest.importorskip("rich")
        x0 = normal(6, 5)
        sampler = make(x0)
        same(sampler(begin(x0), STEPS, thin=5, progress=True).state, sampler(begin(x0), STEPS))
        assert type(sampler).__name__ in capsys.readouterr().out


X0 = normal(6, 5)


def test_nothing_is_lost_at_the_last_step_there_is():
    """A State names the next step's noise, which must exist: the error comes before the run, not
    after it."""
    last = Noise(0, step=2**32 - 3)
    sampler = Langevin(torch.neg, 0.1)
    assert sampler(X0, 3, noise=last).isfinite().all()
    for refused in (lambda: sampler(State(X0, last), 3), lambda: sampler(X0, 3, noise=last, thin=1)):
        with pytest.raises(ValueError, match=r"steps must stay below 2\*\*32"):
            refused()


def test_sigma_at():
    sampler = CASES["annealed"](X0)
    seen = []
    sampler(
        X0, noise=Noise(0), callback=lambda k, _, info: seen.append((sampler.sigma_at(k - 1), *info.values()))
    )
    assert [s for s, *_ in seen] == [s for _, s, _ in seen] == [3.0] * 4 + [1.0] * 4 + [0.3] * 4
    assert seen[0][2] == pytest.approx(0.02 * 100)


def test_a_score_that_changes_its_shape_is_refused_before_a_kernel_reads_it():
    calls = []

    def shrinking(x):
        calls.append(1)
        return x if len(calls) < 3 else x[:, :2]

    with pytest.raises(ValueError, match=r"Langevin: score must have x's shape \(6, 5\), got \(6, 2\)"):
        Langevin(shrinking, 0.1)(X0, 5)


def test_other_dtypes_and_layouts(dtype):
    x0 = normal(5, 6, dtype=dtype).t()
    for make in CASES.values():
        got = make(x0)(begin(x0), 3)
        assert got.x.dtype == dtype
        assert got.x.isfinite().all()


def test_empty_batches():
    for make in CASES.values():
        assert make(normal(0, 5))(begin(normal(0, 5)), 3, thin=1).states.shape == (3, 0, 5)


def test_a_network_s_parameters_get_no_graph():
    net = torch.nn.Linear(5, 1)
    for sampler in (MALA(lambda x: net(x).square(), 0.1), HMC(lambda x: net(x).square()[:, 0], 0.1, 2)):
        out = sampler(X0.clone().requires_grad_(), 3, noise=Noise(0), thin=1)
        assert not out.x.requires_grad
        assert not out.info["energy"].requires_grad
    assert net.weight.grad is None
    assert pyebm.samplers.MALA is MALA
