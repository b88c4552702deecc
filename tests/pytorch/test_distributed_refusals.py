"""pyebm.distributed.sample refuses arguments and files that can't be right, and leaves what it
finds as it is."""

from __future__ import annotations

import hashlib
import io
import os
import resource
import shutil
import signal

import many_processes
import pytest
import torch
import torch.distributed as dist
from sampled_jobs import batch_size, contents, job, network

from pyebm import Noise
from pyebm.distributed import _archive, sample
from pyebm.samplers import Langevin, State

pytestmark = pytest.mark.skipif(
    not dist.is_available() or not dist.is_gloo_available(), reason="torch has no gloo here"
)


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


@pytest.mark.parametrize("ended", [True, False])
def test_damaged(ended, tmp_path):
    out, name = tmp_path / "out", "samples-000003.npz"
    job(out)
    job(tmp_path / "other", noise=4)
    if not ended:
        (out / "SHA256SUMS").unlink()
    before = contents(out)
    good = before[name]
    flipped = bytearray(good)
    flipped[140] ^= 1
    for bad in (good[:-1], good[: len(good) // 2], b"", bytes(flipped), contents(tmp_path / "other")[name]):
        (out / name).write_bytes(bad)
        for said in many_processes.run(1 if bad or ended else 2, job, out):
            assert f"cut short or damaged: {name}; move them away" in said
        assert contents(out) == before | {name: bad}  # nothing else changed
    (out / name).unlink()
    assert job(out)[:2] == (13, 10)
    assert {
        name: content for name, content in contents(out).items() if name != "SHA256SUMS" or ended
    } == before


def test_other_numbers(tmp_path):
    """The file is whole, but it is not the one whose checksum SHA256SUMS has."""
    job(tmp_path)
    path = tmp_path / "samples-000003.npz"
    members = _archive.unpacked(path.read_bytes())
    path.write_bytes(_archive.packed(members | {"x.npy": members["x.npy"][:-1] + b"0"}))
    with pytest.raises(ValueError, match=r"cut short or damaged: samples-000003\.npz"):
        job(tmp_path)


def test_damaged_state(tmp_path):
    folder = tmp_path / "out"
    job(folder)
    shutil.move(folder / "samples-000004.npz", tmp_path)
    (folder / ".state-000004.pt").write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"state-000004.pt is cut short or damaged; delete it"):
        job(folder)
    other = State(torch.zeros(3, 3), Noise(3, sample_ids=[34, 34, 34], step=7, stream=1))
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
    """Runs the job as on a disk that takes files of at most ``limit`` bytes."""
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
    """A file that someone puts there during the run stays."""

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
        (
            {"noise": Noise(0, first_sample=1)},
            ValueError,
            "noise must have one seed and leave its samples to ids",
        ),
        (
            {"noise": Noise(torch.arange(3))},
            ValueError,
            "noise must have one seed and leave its samples to ids",
        ),
        ({"noise": None}, TypeError, "noise must be a Noise, an int"),
        ({"batch": 0}, ValueError, "batch must be >= 1"),
        ({"n_steps": None}, TypeError, "n_steps must be an int, got None"),
        ({"n_steps": -1}, ValueError, "n_steps must be >= 0"),
        ({"format": "jpeg"}, ValueError, "format must be one of 'npz', 'png'"),
        ({"format": "png"}, ValueError, r"shape must be \(1, H, W\) or \(3, H, W\)"),
        ({"init": 3}, TypeError, "init must be a function"),
        (
            {"init": lambda _, noise: noise.randn((3, 4))},
            ValueError,
            r"init must return \(3, 3\), got \(3, 4\)",
        ),
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
