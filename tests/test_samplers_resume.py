"""All samplers: stopped and resumed, split, on any number of threads, captured and replayed: the same bits."""

from __future__ import annotations

import io
import itertools
import random

import pytest
import sampler_cases
import torch
from cases import assert_equal, normal
from sampler_cases import CASES, STEPS, begin
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import pyebm
from pyebm import Noise
from pyebm.samplers import HMC, MALA, AnnealedLangevin, Langevin, State, UnderdampedLangevin, _body, _graph, _loop

pytestmark = pytest.mark.usefixtures("poison", "one_thread")


@pytest.fixture(params=CASES)
def make(request):
    return CASES[request.param]


def saved(state: State) -> State:
    """Through a file, as a checkpoint would."""
    file = io.BytesIO()
    torch.save(state.state_dict(), file)
    file.seek(0)
    return State.from_state_dict(torch.load(file, weights_only=True))


def same(a: State, b: State) -> None:
    assert_equal(a.x, b.x)
    assert_equal(a.extra, b.extra)
    assert repr(a.noise) == repr(b.noise)


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
    stopped = sampler(begin(x0), STEPS, callback=lambda k, x, info: seen.append((k, x.clone(), info)) or k == 5)
    same(stopped, sampler(begin(x0), 5))
    assert [k for k, *_ in seen] == [1, 2, 3, 4, 5]
    assert_equal(seen[-1][1], stopped.x)
    same(sampler(stopped, STEPS - 5), sampler(begin(x0), STEPS))


def test_a_sample_does_not_depend_on_its_batch(make):
    """The last chains on their own, with their own ids, as another process would run them."""
    x0 = normal(6, 5)
    whole = make(x0)(begin(x0), STEPS)
    part = make(x0[4:])(begin(x0[4:], Noise(1, first_sample=4, stream=3)), STEPS)
    assert_equal(part.x, whole.x[4:])
    for name, value in part.extra.items():
        assert_equal(value, whole.extra[name][4:] if value.dim() else whole.extra[name])
    listed = make(x0[[5, 4]])(begin(x0[[5, 4]], Noise(1, sample_ids=[5, 4], stream=3)), STEPS)
    assert_equal(listed.x, whole.x[[5, 4]])


@pytest.mark.parametrize("shape", [(22_001, 5), (1, 70_000)], ids=str)
def test_threads(make, shape):
    x0 = normal(*shape)
    if shape[1] != 5 and make(normal(6, 5)).__class__.__name__ in ("AnnealedLangevin", "PredictorCorrector"):
        shape = (14_000, 5)
        x0 = x0.reshape(shape)
    wide = shape[1] != 5
    runs = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        sampler = Langevin(lambda x: -x, 0.1) if wide else make(x0)
        runs.append(sampler(begin(x0), 3))
    same(*runs)


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


@pytest.fixture
def replayed(monkeypatch):
    """graph=True as on a GPU, but for the graph: the same calls in the same order, the "replay" being the call itself."""
    captured = []
    monkeypatch.setattr(_graph, "on_the_side", lambda once: once())
    monkeypatch.setattr(_graph, "capture", lambda once: captured.append(once) or once)
    monkeypatch.setattr(_loop, "_capturable", lambda _: True)
    return captured


class NoSync(TorchDispatchMode):
    """Refuses what would wait for a device: a number from a tensor, a size from data."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in self.FORBIDDEN, f"{name} waits for the device"
        return func(*args, **(kwargs or {}))


class TestGraph:
    def test_the_replayed_step_is_the_host_s(self, make, replayed):
        """Where the step's number is a tensor, the same bits, captured once."""
        x0 = normal(6, 5)
        for steps in (STEPS, 2, 1):
            same(make(x0)(begin(x0), steps, graph=True), make(x0)(begin(x0), steps))
        assert len(replayed) == 1
        half = make(x0)(begin(x0), 5, graph=True)
        same(make(x0)(half, STEPS - 5, graph=True), make(x0)(begin(x0), STEPS))

    @pytest.mark.usefixtures("replayed")
    def test_no_step_waits_for_the_device(self, make, monkeypatch):
        x0, before = normal(6, 5), _graph.Replay._once

        def once(self):
            with NoSync():
                before(self)

        monkeypatch.setattr(_graph.Replay, "_once", once)
        make(x0)(begin(x0), STEPS, graph=True)

    def test_the_check_can_tell(self):
        with NoSync(), pytest.raises(AssertionError, match="waits for the device"):
            float(torch.ones(()))

    @pytest.mark.usefixtures("replayed")
    @pytest.mark.parametrize("graph", [False, True])
    def test_on_a_device_s_fake_tensors(self, make, graph, monkeypatch):
        """Every tensor of a step is on x's device, and none is read: fake CUDA tensors have no values."""
        if make is CASES["langevin-chain"]:
            pytest.skip("making a target reads its numbers")
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
        monkeypatch.setattr(torch.Tensor, "copy_", lambda self, other: self.zero_().add_(other))  # copy_ asks for the real device
        # Autograd on a device that torch is not built for aborts the process.
        monkeypatch.setattr(_body, "energy_and_score", lambda _, energy, x: (energy(x), sampler_cases.score(x)))
        with FakeTensorMode(allow_non_fake_inputs=False):
            x0 = torch.empty(6, 5, device="cuda")
            for name in ("MASK_ROW", "KNOWN"):
                monkeypatch.setattr(sampler_cases, name, torch.ones(1, 5, device="cuda", dtype=getattr(sampler_cases, name).dtype))
            monkeypatch.setattr(sampler_cases, "KNOWN", torch.ones(6, 5, device="cuda"))
            out = make(x0)(begin(x0), STEPS, graph=graph, thin=4)
        assert out.states.shape == (3, 6, 5)
        assert out.states.device.type == "cuda"

    def test_needs_a_device(self, make):
        x0 = normal(6, 5)
        with pytest.raises(ValueError, match="graph=True captures a CUDA graph and so needs x0 on a CUDA device, got cpu"):
            make(x0)(begin(x0), STEPS, graph=True)


@pytest.mark.gpu
class TestOnADevice:
    def test_graph_equals_eager(self, make, monkeypatch):
        x0 = normal(6, 5, device="cuda")
        for name in ("MASK_ROW", "KNOWN"):
            monkeypatch.setattr(sampler_cases, name, getattr(sampler_cases, name).cuda())
        want = make(x0)(begin(x0), STEPS)
        same(make(x0)(begin(x0), STEPS, graph=True), want)
        half = make(x0)(begin(x0), 5, graph=True)
        same(make(x0)(half, STEPS - 5, graph=True), want)

    def test_replays_draw_fresh_noise(self):
        x0 = torch.zeros(64, 3, device="cuda")
        states = Langevin(torch.zeros_like, 0.5)(x0, 20, noise=Noise(1), thin=1, graph=True).states
        increments = torch.diff(states, dim=0, prepend=x0[None])
        assert increments.flatten(1).unique(dim=0).shape[0] == 20
        assert_equal(increments[0].cpu(), Noise(1).randn((64, 3)))

    @pytest.mark.parametrize("graph", [False, True])
    def test_no_loop_waits_for_the_device(self, make, monkeypatch, graph):
        x0 = normal(6, 5, device="cuda")
        for name in ("MASK_ROW", "KNOWN"):
            monkeypatch.setattr(sampler_cases, name, getattr(sampler_cases, name).cuda())
        sampler = make(x0)
        sampler(begin(x0), STEPS, graph=graph)
        torch.cuda.set_sync_debug_mode("error")
        try:
            sampler(begin(x0), STEPS, graph=graph)
        finally:
            torch.cuda.set_sync_debug_mode("default")


X0 = normal(6, 5)
STATE = begin(X0)
BAD = {
    "noise twice": (lambda: Langevin(torch.neg, 0.1)(STATE, 3, noise=Noise(0)), ValueError, "noise comes with the State"),
    "n_steps None": (lambda: Langevin(torch.neg, 0.1)(X0), TypeError, "Langevin: n_steps must be an int, got None"),
    "n_steps float": (lambda: Langevin(torch.neg, 0.1)(X0, 1.5), TypeError, "Langevin: n_steps must be an int, got 1.5"),
    "thin float": (lambda: Langevin(torch.neg, 0.1)(X0, 1, thin=0.5), TypeError, "thin must be an int or None, got 0.5"),
    "velocity": (
        lambda: UnderdampedLangevin(torch.neg, 0.1)(State(X0, Noise(0), {"velocity": X0[:3]}), 1),
        ValueError,
        r"the State's velocity must have the shape \(6, 5\), got \(3, 5\)",
    ),
    "state version": (lambda: State.from_state_dict({"version": 2}), ValueError, "version 1, got 2"),
    "state keys": (lambda: State.from_state_dict({"version": 1}), ValueError, "keys extra, noise, version and x"),
    "batch": (lambda: Langevin(torch.neg, 0.1)(X0, 1, noise=Noise(0, sample_ids=[1])), ValueError, "names 1 samples, got a batch"),
    "ids": (lambda: Langevin(torch.neg, 0.1)(X0, 1, noise=Noise(0, first_sample=2**32 - 3)), ValueError, "sample ids must be in"),
    "streams": (lambda: MALA(sampler_cases.energy, 0.1)(X0, 1, noise=Noise(0, stream=2**32 - 1)), ValueError, "stream .*2 streams"),
    "score_fn": (lambda: Langevin(3, 0.1)(X0, 1), TypeError, "score_fn must be a function or one of pyebm.targets, got int"),
    "annealed score_fn": (lambda: AnnealedLangevin(3, [1.0], 0.1, 1), TypeError, "score_fn must be a function of x and sigma"),
    "energy_fn": (lambda: MALA(3, 0.1)(X0, 1), TypeError, "MALA: energy_fn must be a function or one of pyebm.targets, got int"),
    "energy shape": (lambda: MALA(torch.square, 0.1)(X0, 1), ValueError, r"MALA: energy_fn must return one energy per sample"),
    "mala step_size": (lambda: MALA(torch.sum, -1.0)(X0, 1), ValueError, "MALA: step_size must be > 0 and finite, got -1"),
    "mala temperature": (lambda: MALA(lambda x: x.sum(1), 1.0, temperature=0.0)(X0, 1), ValueError, "temperature must be > 0"),
    "warmup": (lambda: MALA(torch.sum, 1.0, warmup=-1), ValueError, "MALA: warmup must be >= 0, got -1"),
    "target": (lambda: HMC(torch.sum, 1.0, 2, target_acceptance=1.0), ValueError, "target_acceptance must be in .*, got 1.0"),
    "per": (lambda: HMC(torch.sum, 1.0, 2, per="chain"), ValueError, "HMC: per must be 'sample' or 'batch', got 'chain'"),
    "n_leapfrog": (lambda: HMC(torch.sum, 1.0, 0), ValueError, "HMC: n_leapfrog must be >= 1, got 0"),
    "friction": (lambda: UnderdampedLangevin(torch.neg, 0.1, 0.0), ValueError, "friction must be > 0 and finite, got 0"),
    "h tensor": (lambda: UnderdampedLangevin(torch.neg, X0), TypeError, "step_size must be a number, got a tensor"),
    "known": (lambda: CASES["annealed"](X0).__class__(torch.sum, [1.0], 0.1, 1, known=X0)(X0), ValueError, "known needs a mask"),
    "sigma_at": (lambda: CASES["annealed"](X0).sigma_at(12), ValueError, r"sigma_at: k must be in \[0, 12\), got 12"),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_nothing_is_lost_at_the_last_step_there_is():
    """A State names the next step's noise, which must exist: known before the run, not after it."""
    last = Noise(0, step=2**32 - 3)
    sampler = Langevin(torch.neg, 0.1)
    assert sampler(X0, 3, noise=last).isfinite().all()
    for refused in (lambda: sampler(State(X0, last), 3), lambda: sampler(X0, 3, noise=last, thin=1)):
        with pytest.raises(ValueError, match=r"steps must stay below 2\*\*32"):
            refused()


def test_sigma_at():
    sampler = CASES["annealed"](X0)
    seen = []
    sampler(X0, noise=Noise(0), callback=lambda k, _, info: seen.append((sampler.sigma_at(k - 1), *info.values())))
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
