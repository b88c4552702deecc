"""save_state and load_state: chains go on with the same bits on any number of ranks, whenever they
were killed, and damage is refused."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import time

import many_processes
import pytest
import torch
import torch.distributed as dist
from cases import assert_equal, normal

import pyebm
from pyebm import Noise
from pyebm.distributed import load_state, save_state, share
from pyebm.distributed._folder import lock
from pyebm.samplers import MALA, Langevin, State, UnderdampedLangevin

pytestmark = pytest.mark.skipif(
    not dist.is_available() or not dist.is_gloo_available(), reason="torch has no gloo here"
)
CHAINS = 4  # the last of three ranks has none


def slow(x):
    time.sleep(random.random() * 0.002)
    return -x


SAMPLERS = {
    "mala": lambda: MALA(pyebm.targets.DoubleWell(), 0.3, warmup=20, adapt_mass=True),
    "slow": lambda: UnderdampedLangevin(slow, 0.1),
}


def begun():
    """This rank's chains, at their beginning."""
    mine = share(CHAINS)
    noise = Noise(-5, first_sample=10 + mine.start, stream=2)
    return State(noise.at(stream=9).randn((len(mine), 2)), noise)


def run(folder, kind, end, every=10):
    """Goes on to the step ``end``, and returns (x, extra, first_sample) as the ranks' numbers."""
    sampler = SAMPLERS[kind]()
    try:
        state = load_state(folder)
    except FileNotFoundError:
        state = begun()
    while state.noise.step < end:
        state = sampler(state, every)
        save_state(state, folder)
    extra = {name: value.tolist() for name, value in state.extra.items()}
    return state.x.tolist(), extra, state.noise.first_sample


def whole(results):
    """The ranks' numbers together."""
    assert all(isinstance(one, tuple) for one in results), results
    x = [row for one in results for row in one[0]]
    extra = {
        name: [row for one in results for row in one[1][name]] if isinstance(value, list) else value
        for name, value in results[0][1].items()
    }
    return x, extra


def test_any_number_of_ranks(tmp_path):
    for world, end in ((3, 10), (2, 20), (1, 40)):
        results = many_processes.run(world, run, tmp_path / "moved", "mala", end)
        assert [one[2] for one in results] == [10, 10 + -(-CHAINS // world), 14][:world]
        assert os.listdir(tmp_path / "moved").count(f"step-{end:010d}") == 1
    assert whole(results) == run(tmp_path / "alone", "mala", 40)[:2]
    assert sorted(os.listdir(tmp_path / "moved")) == [".lock", "step-0000000040"]
    assert whole(many_processes.run(3, run, tmp_path / "moved", "mala", 40)) == whole(results)


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_killed(kills, tmp_path):
    """Kill -9 of one rank, then of all, at random moments, on another number of ranks each time."""
    chance, folder = random.Random(1), tmp_path / "killed"
    folder.mkdir()
    end = 40 + 8 * kills
    on_the_way = 0
    for _ in range(kills):
        before = set(os.listdir(folder))
        processes = many_processes.Processes(chance.randint(1, 3), run, folder, "slow", end, 2)
        while before >= set(os.listdir(folder)) - {".lock"} and processes.run_still():
            time.sleep(0.005)
        time.sleep(chance.random() * 0.1)
        processes.kill(chance)
        on_the_way += load_state(folder).noise.step < end
    results = many_processes.run(2, run, folder, "slow", end, 2)
    assert on_the_way > kills // 2
    assert whole(results) == run(tmp_path / "calm", "slow", end, end)[:2]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    "noise",
    [
        Noise(2**64 - 1, first_sample=7, step=3, stream=2**32 - 1),
        Noise(1, sample_ids=[4, 2, 2**32 - 1]),
        Noise(torch.tensor([3, -(2**63), 5])),
        Noise(torch.tensor([3, 4, 5]), sample_ids=torch.zeros(3, dtype=torch.int64)),
    ],
)
def test_every_state(noise, dtype, tmp_path):
    x = normal(3, 2, 5).to(dtype)
    x[1, 0, 0], x[2, 1, 1] = torch.nan, torch.inf
    save_state(State(x, noise, {"velocity": 2 * x}), tmp_path)
    state = load_state(tmp_path)
    assert state.noise == noise
    assert_equal(state.x.nan_to_num(9.0), x.nan_to_num(9.0))
    assert_equal(state.extra["velocity"].nan_to_num(9.0), (2 * x).nan_to_num(9.0))


def test_steps_go_up(tmp_path):
    state = Langevin(torch.neg, 0.1)(State(normal(3, 2), Noise(0)), 4)
    save_state(state, tmp_path)
    for step in (4, 2):
        with pytest.raises(FileExistsError, match=rf"no state of step {step} or .* holds step 4"):
            save_state(State(state.x, state.noise.at(step=step)), tmp_path)
    assert_equal(load_state(tmp_path).x, state.x)


def test_damage(tmp_path):
    save_state(State(normal(64, 3), Noise(0)), tmp_path / "good")
    (data,) = (tmp_path / "good").glob("step-*/*.distcp")
    content = data.read_bytes()
    at = content.index(normal(64, 3).numpy().tobytes()[:64]) + 5
    flipped = bytearray(content)
    flipped[at] ^= 16
    for bad in (content[: len(content) // 2], b"", bytes(flipped), None):
        if bad is None:
            data.unlink()
        else:
            data.write_bytes(bad)
        with pytest.raises(ValueError, match="load_state: folder has a state that is cut short or damaged"):
            load_state(tmp_path / "good")
    data.write_bytes(content)
    load_state(tmp_path / "good")
    (data.parent / ".metadata").write_bytes(b"cut")
    with pytest.raises(ValueError, match="cut short or damaged"):
        load_state(tmp_path / "good")
    (data.parent / ".metadata").unlink()  # as a kill leaves it
    for folder in (tmp_path / "good", tmp_path / "none"):
        with pytest.raises(FileNotFoundError, match="load_state: folder has no state that save_state finish"):
            load_state(folder)


def full_disk(folder, limit):
    """Saves as on a disk that takes files of at most ``limit`` bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    save_state(State(normal(len(share(4000)), 2), Noise(0, first_sample=share(4000).start, step=7)), folder)


def test_full_disk(tmp_path):
    save_state(State(normal(3, 2), Noise(0)), tmp_path)
    for said in many_processes.run(2, full_disk, tmp_path, 9000):
        assert said.startswith("OSError: save_state: "), said
        assert "step-0000000007 could not be written; the state before it stays" in said
    assert_equal(load_state(tmp_path).x, normal(3, 2))
    save_state(State(normal(3, 2), Noise(0, step=7)), tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".lock", "step-0000000007"]


def test_two_runs(tmp_path):
    held = lock("another", tmp_path)
    with pytest.raises(BlockingIOError, match="save_state: another run is writing to"):
        save_state(State(normal(3, 2), Noise(0)), tmp_path)
    held.close()
    save_state(State(normal(3, 2), Noise(0)), tmp_path)


def differing(folder):
    rank = int(os.environ["RANK"])
    said = []
    for state in (
        State(normal(2, 2), Noise(0, step=rank)),
        State(normal(2, 2), Noise(rank)),
        State(normal(2, 2 + rank), Noise(0)),
        State(normal(1 + 2 * rank, 2), Noise(0)),
    ):
        try:
            save_state(state, folder)
        except ValueError as error:  # noqa: PERF203
            said.append(str(error))
    same = State(normal(2, 2, seed=rank), Noise(0))  # on both ranks samples 0 and 1
    save_state(same, folder)
    return said, load_state(folder).noise == Noise(0, sample_ids=[0, 1])


def test_ranks_differ(tmp_path):
    for said, ids_are_kept in many_processes.run(2, differing, tmp_path):
        assert [("those of ranks 0 and 1 differ" in one) for one in said] == [True, True, True, False]
        assert "state must have each rank's share(4) of the chains, [2, 2], got [1, 3]" in said[3]
        assert ids_are_kept


def test_share(monkeypatch):
    assert share(7) == range(7)
    monkeypatch.setenv("WORLD_SIZE", "3")
    parts = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        parts.append(share(7))
    assert parts == [range(3), range(3, 6), range(6, 7)]
    assert [len(part) for part in torch.arange(7).chunk(3)] == [3, 3, 1]


@pytest.mark.parametrize("folder", [None, 3, object()])
def test_folders(folder):
    with pytest.raises(TypeError, match="save_state: folder must be a path"):
        save_state(State(normal(3, 2), Noise(0)), folder)
    with pytest.raises(TypeError, match="load_state: folder must be a path"):
        load_state(folder)


def test_after_a_kill_in_the_middle(tmp_path):
    """A state without .metadata was not finished; the next one of its step takes its place."""
    save_state(State(normal(3, 2), Noise(0)), tmp_path)
    shutil.copytree(tmp_path / "step-0000000000", tmp_path / "step-0000000005")
    (tmp_path / "step-0000000005" / ".metadata").unlink()
    assert load_state(tmp_path).noise.step == 0
    save_state(State(2 * normal(3, 2), Noise(0, step=5)), tmp_path)
    assert_equal(load_state(tmp_path).x, 2 * normal(3, 2))
