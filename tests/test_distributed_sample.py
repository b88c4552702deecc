"""pyebm.distributed.sample: the same bytes for any number of processes, whenever they were killed; what can't be so is refused."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
import random
import resource
import shutil
import signal
import time
import zipfile

import many_processes
import numpy as np
import pytest
import torch
import torch.distributed as dist
from cases import assert_equal

import pyebm
from pyebm import Noise
from pyebm.distributed import Sampled, sample
from pyebm.samplers import MALA, AnnealedLangevin, Langevin, State, UnderdampedLangevin

pytestmark = pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="torch has no gloo here")

IDS = "0-6,20,30-34"


def network(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.SiLU(), torch.nn.Linear(16, 3))


def slow(x, seconds=0.001):
    time.sleep(seconds * random.random() * 2)
    return -x


SAMPLERS = {
    "underdamped": lambda: UnderdampedLangevin(network(), 0.05),
    "mala": lambda: MALA(pyebm.targets.DoubleWell(), 0.05, warmup=10),
    "slow": lambda: UnderdampedLangevin(slow, 0.1),
}


def job(out, kind="underdamped", **options):
    given = {"ids": IDS, "noise": Noise(3, step=2, stream=1), "batch": 3, "n_steps": 40} | options
    return tuple(sample(SAMPLERS[kind](), (3,), out=out, **given))


def contents(out):
    """Of all files, but those that are the run's own."""
    return {path.name: path.read_bytes() for path in sorted(out.iterdir()) if not path.name.startswith(".")}


def whole(sampler, ids, noise, n_steps=None):
    noise = Noise(noise.seed, sample_ids=ids, step=noise.step, stream=noise.stream)
    return sampler(noise.at(stream=noise.stream + 2**31).randn((len(ids), 3)), n_steps, noise=noise)


# --- bytes ---


def jobs(out):
    return [job(out / kind, kind)[:4] for kind in SAMPLERS]


def test_same_bytes(tmp_path):
    for world in (1, 2, 3):
        results = many_processes.run(world, jobs, tmp_path / str(world))
        assert results == [[(13, 0, 0, world)] * len(SAMPLERS)] * world, results
        for kind in SAMPLERS:
            made = contents(tmp_path / str(world) / kind)
            assert len(made) == 7  # five files, run.json and the checksums
            assert made == contents(tmp_path / "1" / kind)


def test_values(tmp_path):
    """A file's samples are what one call gives for all of them."""
    sampler, noise, ids = MALA(pyebm.targets.DoubleWell(), 0.05), Noise(3, step=2), [*range(5, 12), 2]
    assert sample(sampler, (3,), ids=ids, noise=noise, batch=3, out=tmp_path, n_steps=30)[:4] == (8, 0, 0, 1)
    files = [np.load(tmp_path / f"samples-{number:06d}.npz") for number in range(3)]
    assert [file["ids"].tolist() for file in files] == [[5, 6, 7], [8, 9, 10], [11, 2]]
    assert_equal(torch.from_numpy(np.concatenate([file["x"] for file in files])), whole(sampler, ids, noise, 30))
    assert all(file["run.json"] == (tmp_path / "run.json").read_bytes() for file in files)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_dtypes_and_init(dtype, tmp_path):
    def init(ids, noise):
        assert noise == Noise(3, sample_ids=ids, stream=2**31)
        return ids[:, None].expand(-1, 2).to(dtype)

    sample(Langevin(torch.neg, 0.1), [2], ids=range(3, 5), noise=3, batch=4, out=tmp_path, n_steps=0, init=init)
    x = np.load(tmp_path / "samples-000000.npz")["x"]
    assert x.tolist() == [[3, 3], [4, 4]]
    assert x.dtype == {torch.float64: np.float64, torch.float16: np.float16}.get(dtype, np.float32)


def batch_size(x0, noise):
    """A function as a sampler whose results depend on the batch, as a network's bits may."""
    return x0 * 0 + len(x0) + noise.sample_ids[:, None]


def test_micro_batches_are_full(tmp_path):
    for any_batch, last in ((False, 4), (True, 2)):
        out = tmp_path / str(any_batch)
        sample(batch_size, (1,), ids=range(6), noise=0, batch=4, out=out, any_batch=any_batch)
        assert np.load(out / "samples-000001.npz")["x"].flatten().tolist() == [4 + last, 5 + last]


def test_schedule(tmp_path):
    sampler = AnnealedLangevin(lambda x, sigma: -x / (1 + sigma[:, None] ** 2), [2.0, 1.0], 0.05, 10)
    sample(sampler, (3,), ids=range(4), noise=1, batch=4, out=tmp_path)
    assert_equal(torch.from_numpy(np.load(tmp_path / "samples-000000.npz")["x"]), whole(sampler, list(range(4)), Noise(1)))


def test_pictures(tmp_path):
    image = pytest.importorskip("matplotlib.image")
    ramp = torch.linspace(-1.2, 1.2, 3 * 2 * 5).reshape(3, 2, 5)
    for channels in (1, 3):
        out = tmp_path / str(channels)
        shape = (channels, 2, 5)
        wanted = (ramp[:channels].double() * 127.5 + 128).clamp(0, 255).to(torch.uint8).permute(1, 2, 0).squeeze(-1)
        sample(lambda x0, **_: ramp[: x0.shape[1]].expand_as(x0), shape, ids=[7, 3], noise=0, batch=4, out=out, format="png")
        with zipfile.ZipFile(out / "samples-000000.zip") as archive:
            assert archive.namelist() == ["0000000007.png", "0000000003.png", "ids.npy", "run.json"]
            with archive.open("0000000003.png") as file:
                got = torch.from_numpy(image.imread(file)) * 255
        assert_equal(got.round().to(torch.uint8), wanted)
    infinite = lambda x0, noise: x0 / (noise.sample_ids != 1).reshape(-1, 1, 1, 1)  # noqa: E731
    with pytest.raises(ValueError, match=r"not finite, as samples \[1\] have"):
        sample(infinite, (1, 2, 2), ids=range(3), noise=0, batch=3, out=tmp_path / "nan", format="png")


# --- killed ---


def marks(out):
    """Of what is finished, and of the states of chains: it changes when some rank has come further."""
    with os.scandir(out) as entries:
        there = [entry for entry in entries if not entry.name.endswith(".tmp")]
    found = {}
    for entry in there:
        with contextlib.suppress(FileNotFoundError):  # a state, once its file is there
            found[entry.name] = entry.stat().st_mtime_ns
    return found


def came_further(before, now):
    return any(name.startswith((".state", "samples")) and before.get(name) != when for name, when in now.items())


def killed(tmp_path, kills, n_steps):
    """Calls killed at a random moment, most of them after they have come further than the one before; the bytes are compared.

    Returns how many calls ended before they were killed, how many kills left a chain in its middle, and what the last call did.
    """
    chance, out = random.Random(0), tmp_path / "killed"
    options = {"kind": "slow", "n_steps": n_steps, "save_every": 0.02}
    job(tmp_path / "calm", **options)
    out.mkdir()
    ended = in_the_middle = 0
    for kill in range(kills):
        before, began = marks(out), time.perf_counter()
        processes = many_processes.Processes(chance.randint(1, 3), functools.partial(job, **options), out)
        while kill % 4 != 3 and not came_further(before, marks(out)) and time.perf_counter() < began + 30:
            time.sleep(0.01)
        time.sleep(chance.random() * 0.3)
        processes.kill(chance)
        ended += (out / "SHA256SUMS").exists()
        in_the_middle += any(name.startswith(".state") for name in marks(out))
    results = many_processes.run(2, functools.partial(job, **options), out)
    assert all(result[0] == 13 for result in results), results
    assert contents(out) == contents(tmp_path / "calm")
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == [".lock"]
    return ended, in_the_middle, Sampled(*results[0])


def test_killed(tmp_path):
    _, in_the_middle, last = killed(tmp_path, 3, 400)
    assert in_the_middle
    assert last.found or last.resumed


@pytest.mark.slow
def test_killed_twenty_times(tmp_path):
    ended, in_the_middle, last = killed(tmp_path, 20, 1500)
    print(f"\n20 kills: {20 - ended} before the end, {in_the_middle} left a chain in its middle; the last call: {last}")
    assert in_the_middle > 10


def test_goes_on(tmp_path):
    """Finished files are left as they are, and a chain goes on from its state: the steps before it are not done again."""
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
        return sample(Langevin(score, 0.1), (3,), ids=IDS, noise=3, batch=3, out=out, n_steps=20, save_every=0.0)

    with pytest.raises(KeyboardInterrupt):
        call(stop, tmp_path / "stopped")
    before = {name: (tmp_path / "stopped" / name).stat().st_mtime_ns for name in contents(tmp_path / "stopped")}
    assert len(before) == 3  # two files and run.json
    times.clear()
    assert call(count, tmp_path / "stopped")[:3] == (13, 6, 1)
    assert len(times) == 5 * 20 - 49 + 2  # and the two first steps that were checked
    assert {name: (tmp_path / "stopped" / name).stat().st_mtime_ns for name in before} == before
    assert call(count, tmp_path / "whole")[:3] == (13, 0, 0)
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


# --- refused ---


def test_other_run(tmp_path):
    job(tmp_path)
    before = contents(tmp_path)
    others = {
        "n_steps: it has 40, got 41": {"n_steps": 41},
        "batch: it has 3, got 4": {"batch": 4},
        "ids: it has '0-6,20,30-34', got '0-7'": {"ids": "0-7"},
        "noise: it has": {"noise": 4},
        "any_batch": {"any_batch": True},
        "first_step: the first step has other bits": {"init": lambda _, noise: noise.randn((3, 3)) + 1},
    }
    for message, options in others.items():
        with pytest.raises(ValueError, match=rf"holds another run; take another folder[\s\S]*{message}"):
            job(tmp_path, **options)
    assert contents(tmp_path) == before


def test_other_weights(tmp_path):
    for seed in (0, 1):
        given = {"ids": range(6), "noise": 0, "batch": 3, "n_steps": 5, "out": tmp_path}
        if seed == 0:
            sample(Langevin(network(seed), 0.1), (3,), **given)
            continue
        with pytest.raises(ValueError, match="first_step: the first step has other bits"):
            sample(Langevin(network(seed), 0.1), (3,), **given)


def ranks_differ(out):
    sampler = Langevin(network(int(os.environ["RANK"])), 0.1)
    return tuple(sample(sampler, (3,), ids=range(6), noise=0, batch=3, n_steps=5, out=out))


def test_ranks_differ(tmp_path):
    for said in many_processes.run(2, ranks_differ, tmp_path / "out"):
        assert "ranks 0 and 1 must run the same, but differ in first_step" in said
    assert not (tmp_path / "out").exists()


def test_folder_of_others(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    for world in (1, 2):
        for said in many_processes.run(world, job, tmp_path):
            assert "out must be a new folder or one that a run began" in said
    assert list(contents(tmp_path)) == ["thesis.tex"]


def test_two_runs_at_once(tmp_path):
    sampler, given = Langevin(torch.neg, 0.1), {"ids": range(4), "noise": 0, "batch": 2, "n_steps": 3}
    refusals = []

    def init(ids, noise):
        if (tmp_path / ".lock").exists() and not refusals:
            with pytest.raises(BlockingIOError, match="another run is writing to") as refused:
                sample(sampler, (3,), out=tmp_path, **given)
            refusals.append(refused)
        return noise.randn((len(ids), 3))

    sample(sampler, (3,), out=tmp_path, init=init, **given)
    assert refusals


def test_damaged(tmp_path):
    job(tmp_path)
    before = contents(tmp_path)
    name = "samples-000003.npz"
    good = before[name]
    flipped = bytearray(good)
    flipped[140] ^= 1
    for bad in (good[:-1], good[: len(good) // 2], b"", bytes(flipped), before["samples-000002.npz"]):
        (tmp_path / name).write_bytes(bad)
        for world in (1, 2) if not bad else (1,):
            for said in many_processes.run(world, job, tmp_path):
                assert f"cut short or damaged: {name}; move them away" in said
        assert contents(tmp_path) == before | {name: bytes(bad)}  # left as it is
    (tmp_path / name).unlink()
    assert job(tmp_path)[:2] == (13, 10)
    assert contents(tmp_path) == before


def test_damaged_state(tmp_path):
    folder = tmp_path / "out"
    job(folder)
    shutil.move(folder / "samples-000004.npz", tmp_path)
    (folder / ".state-000004.pt").write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"state-000004.pt is cut short or damaged; delete it"):
        job(folder)
    other = State(torch.zeros(3, 3), Noise(0, sample_ids=[34, 34, 34]))
    content = io.BytesIO()
    torch.save({"run": "another", "state": other.state_dict()}, content)
    saved = content.getvalue()
    (folder / ".state-000004.pt").write_bytes(hashlib.sha256(saved).digest() + saved)
    with pytest.raises(ValueError, match=r"state-000004.pt is of another run; delete it"):
        job(folder)
    (folder / ".state-000004.pt").unlink()
    job(folder)
    assert (folder / "samples-000004.npz").read_bytes() == (tmp_path / "samples-000004.npz").read_bytes()


def full_disk(out, limit):
    """A disk that takes files of so many bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    return job(out)


def test_full_disk(tmp_path):
    job(tmp_path / "calm")
    job(tmp_path / "full")
    (tmp_path / "full" / "samples-000001.npz").unlink()
    before = contents(tmp_path / "full")
    (said,) = many_processes.run(1, full_disk, tmp_path / "full", 800)
    assert "samples-000001.npz could not be written (File too large); what is finished stays" in said
    assert contents(tmp_path / "full") == before
    assert [path.name for path in (tmp_path / "full").iterdir() if path.name.startswith(".")] == [".lock"]
    job(tmp_path / "full")
    assert contents(tmp_path / "full") == contents(tmp_path / "calm")


def test_never_overwritten(tmp_path):
    """A file that someone put there in the meantime stays."""

    def meanwhile(x0, noise):
        if int(noise.sample_ids[0]) == 2:
            (tmp_path / "samples-000001.npz").write_bytes(b"theirs")
        return x0

    with pytest.raises(FileExistsError, match="is there with other bytes, and is left as it is"):
        sample(meanwhile, (1,), ids=range(4), noise=0, batch=2, out=tmp_path)
    assert (tmp_path / "samples-000001.npz").read_bytes() == b"theirs"


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"ids": "0-9,5-12"}, ValueError, "ids must name a sample once, got 0-9 and 5-12, which overlap"),
        ({"ids": [3, 4, 3]}, ValueError, "ids must name a sample once, got 3-4 and 3, which overlap"),
        ({"ids": "9-0"}, ValueError, "ids must be ascending in a range"),
        ({"ids": "0-x"}, ValueError, "ids must be like '0-49999'"),
        ({"ids": ""}, ValueError, "ids must be like '0-49999'"),
        ({"ids": []}, ValueError, "ids must name one sample or more, got none"),
        ({"ids": range(-1, 3)}, ValueError, r"ids must be in \[0, 2\*\*32\)"),
        ({"ids": range(2**32 - 1, 2**32 + 1)}, ValueError, r"ids must be in \[0, 2\*\*32\)"),
        ({"ids": torch.arange(3.0)}, TypeError, "ids must be an int64 tensor"),
        ({"ids": 5}, TypeError, "ids must be a range, ints, an int64 tensor or text"),
        ({"ids": [0.5]}, TypeError, "ids must be an int"),
        ({"noise": torch.Generator()}, TypeError, "noise must be a Noise or an int"),
        ({"noise": Noise(0, first_sample=1)}, ValueError, "noise must have one seed and leave its samples to ids"),
        ({"noise": Noise(torch.arange(3))}, ValueError, "noise must have one seed and leave its samples to ids"),
        ({"noise": None}, TypeError, "noise must be a Noise, an int"),
        ({"batch": 0}, ValueError, "batch must be >= 1"),
        ({"n_steps": None}, TypeError, "n_steps must be an int, got None"),
        ({"n_steps": -1}, ValueError, "n_steps must be >= 0"),
        ({"format": "jpeg"}, ValueError, "format must be one of 'npz', 'png'"),
        ({"format": "png"}, ValueError, r"shape must be \(1, H, W\) or \(3, H, W\)"),
        ({"init": 3}, TypeError, "init must be a function"),
        ({"init": lambda _, noise: noise.randn((3, 4))}, ValueError, r"init must return \(3, 3\), got \(3, 4\)"),
        ({"any_batch": 1}, TypeError, "any_batch must be True or False"),
        ({"save_every": -1}, ValueError, "save_every must be seconds >= 0"),
        ({"out": None}, TypeError, "out must be a path"),
        ({"progress": None}, TypeError, "progress must be True or False"),
    ],
)
def test_arguments(given, error, message, tmp_path):
    with pytest.raises(error, match=f"sample: {message}"):
        job(**{"out": tmp_path / "out"} | given)
    assert not (tmp_path / "out").exists()


def test_functions(tmp_path):
    given = {"ids": range(4), "noise": 0, "batch": 2, "out": tmp_path / "out"}
    with pytest.raises(ValueError, match="n_steps must be None for a sampler that is a function"):
        sample(batch_size, (1,), n_steps=3, **given)
    with pytest.raises(ValueError, match=r"sampler must return \(2, 1\) like x0, got \(4,\)"):
        sample(lambda x0, **_: x0.new_zeros(4), (1,), **given)
    with pytest.raises(TypeError, match=r"sampler must be one of pyebm\.samplers or a function"):
        sample(None, (1,), **given)
    with pytest.raises(TypeError, match="shape must be a sequence"):
        sample(batch_size, 1, **given)
