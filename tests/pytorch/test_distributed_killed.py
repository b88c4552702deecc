"""pyebm.distributed.sample, killed and called again, writes the bytes of an undisturbed run and
does nothing twice."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import time

import many_processes
import pytest
import torch.distributed as dist
from sampled_jobs import IDS, contents, job

from pyebm.distributed import Sampled, sample
from pyebm.samplers import Langevin

pytestmark = pytest.mark.skipif(
    not dist.is_available() or not dist.is_gloo_available(), reason="torch has no gloo here"
)


def marks(out):
    """Times of the finished files and of the chains' states: some change when a rank has come
    further."""
    with os.scandir(out) as entries:
        there = [entry for entry in entries if not entry.name.endswith(".tmp")]
    found = {}
    for entry in there:
        with contextlib.suppress(FileNotFoundError):  # a state's file may go meanwhile
            found[entry.name] = entry.stat().st_mtime_ns
    return found


def came_further(before, now):
    return any(
        name.startswith((".state", "samples")) and before.get(name) != when for name, when in now.items()
    )


def killed(tmp_path, kills, n_steps):
    """Kills calls at random moments, most of them after they have come further than the call
    before, and compares the bytes.

    Returns how many calls ended before they were killed, how many kills left a chain in its middle,
    and what the last call did.
    """
    chance, out = random.Random(0), tmp_path / "killed"
    options = {"kind": "slow", "n_steps": n_steps, "save_every": 0.02}
    job(tmp_path / "calm", **options)
    out.mkdir()
    ended = in_the_middle = 0
    for kill in range(kills):
        before = marks(out)
        processes = many_processes.Processes(chance.randint(1, 3), functools.partial(job, **options), out)
        while kill % 4 != 3 and not came_further(before, marks(out)) and processes.run_still():
            time.sleep(0.01)
        time.sleep(chance.random() * 0.5)
        processes.kill(chance)
        ended += (out / "SHA256SUMS").exists()
        in_the_middle += any(name.startswith(".state") for name in marks(out))
    results = many_processes.run(2, functools.partial(job, **options), out)
    assert all(result[0] == 13 for result in results), results
    assert contents(out) == contents(tmp_path / "calm")
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == [".lock"]
    return ended, in_the_middle, Sampled(*results[0])


def test_killed(tmp_path):
    _, in_the_middle, last = killed(tmp_path, 3, 200)
    assert in_the_middle
    assert last.found or last.resumed


@pytest.mark.slow
def test_killed_twenty_times(tmp_path):
    ended, in_the_middle, last = killed(tmp_path, 20, 600)
    print(
        f"\n20 kills: {20 - ended} before the end, {in_the_middle} left a chain in its middle; the last call:"
        f" {last}"
    )
    assert in_the_middle > 10


def test_goes_on(tmp_path):
    """Finished files are left as they are, and a chain goes on from its state without repeating
    the steps before."""
    job(tmp_path / "calm")
    times = []

    def stop(x):
        times.append(len(x))
        if len(times) == 50:  # in the third micro-batch
            raise KeyboardInterrupt
        return -x

    def count(x):
        times.append(len(x))
        return -x

    def call(score, out):
        score.__name__ = "score"
        return sample(
            Langevin(score, 0.1), (3,), ids=IDS, noise=3, batch=3, out=out, n_steps=20, save_every=0.0
        )

    with pytest.raises(KeyboardInterrupt):
        call(stop, tmp_path / "stopped")
    before = {
        name: (tmp_path / "stopped" / name).stat().st_mtime_ns for name in contents(tmp_path / "stopped")
    }
    assert len(before) == 3  # two files and run.json
    times.clear()
    assert call(count, tmp_path / "stopped")[:3] == (13, 6, 1)
    assert len(times) == 5 * 20 - 49 + 2  # two more first steps are made for the check
    assert {name: (tmp_path / "stopped" / name).stat().st_mtime_ns for name in before} == before
    assert call(count, tmp_path / "whole")[:3] == (13, 0, 0)
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


def failing(out, fails=True):
    def sampler(x0, noise):
        if fails and int(noise.sample_ids[0]) == 3:  # rank 1's first micro-batch
            raise ArithmeticError("a bad sample")
        return x0

    return tuple(sample(sampler, (3,), ids=IDS, noise=3, batch=3, out=out))


def test_one_rank_fails(tmp_path):
    """The other ranks finish their share, and then raise an error too."""
    first, second = many_processes.run(2, failing, tmp_path)
    assert isinstance(first, str)
    assert second == "ArithmeticError: a bad sample\n"
    assert sorted(contents(tmp_path)) == ["run.json", *(f"samples-{number:06d}.npz" for number in (0, 2, 4))]
    assert failing(tmp_path, fails=False)[:2] == (13, 7)
