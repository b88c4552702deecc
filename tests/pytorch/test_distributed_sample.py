"""pyebm.distributed.sample writes the same bytes for any number of processes, and the numbers of
one call."""

from __future__ import annotations

import zipfile

import many_processes
import numpy as np
import pytest
import torch
import torch.distributed as dist
from cases import assert_equal
from sampled_jobs import SAMPLERS, batch_size, contents, job

import pyebm
from pyebm import Noise
from pyebm.distributed import sample
from pyebm.samplers import MALA, AnnealedLangevin, Langevin

pytestmark = pytest.mark.skipif(
    not dist.is_available() or not dist.is_gloo_available(), reason="torch has no gloo here"
)


def whole(sampler, ids, noise, n_steps=None):
    noise = Noise(noise.seed, sample_ids=ids, step=noise.step, stream=noise.stream)
    return sampler(noise.at(stream=noise.stream + 2**31).randn((len(ids), 3)), n_steps, noise=noise)


def jobs(out, kinds):
    return [job(out / kind, kind)[:4] for kind in kinds]


def test_same_bytes(tmp_path):
    """Also where some ranks have nothing to do: there are five micro-batches."""
    for world, kinds in ((1, SAMPLERS), (2, SAMPLERS), (3, SAMPLERS), (8, ["underdamped"])):
        results = many_processes.run(world, jobs, tmp_path / str(world), list(kinds))
        assert results == [[(13, 0, 0, world)] * len(kinds)] * world, results
        for kind in kinds:
            made = contents(tmp_path / str(world) / kind)
            assert len(made) == 7  # five files, run.json and the checksums
            assert made == contents(tmp_path / "1" / kind)


def test_values(tmp_path):
    """The samples in the files are those that one call gives for all ids."""
    sampler, noise, ids = MALA(pyebm.targets.DoubleWell(), 0.05), Noise(3, step=2), [*range(5, 12), 2]
    assert sample(sampler, (3,), ids=ids, noise=noise, batch=3, out=tmp_path, n_steps=30)[:4] == (8, 0, 0, 1)
    files = [np.load(tmp_path / f"samples-{number:06d}.npz") for number in range(3)]
    assert [file["ids"].tolist() for file in files] == [[5, 6, 7], [8, 9, 10], [11, 2]]
    assert_equal(
        torch.from_numpy(np.concatenate([file["x"] for file in files])), whole(sampler, ids, noise, 30)
    )
    assert all(file["run.json"] == (tmp_path / "run.json").read_bytes() for file in files)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_dtypes_and_init(dtype, tmp_path):
    def init(ids, noise):
        assert noise == Noise(3, sample_ids=ids, stream=2**31)
        return ids[:, None].expand(-1, 2).to(dtype)

    sample(
        Langevin(torch.neg, 0.1), [2], ids=range(3, 5), noise=3, batch=4, out=tmp_path, n_steps=0, init=init
    )
    x = np.load(tmp_path / "samples-000000.npz")["x"]
    assert x.tolist() == [[3, 3], [4, 4]]
    assert x.dtype == {torch.float64: np.float64, torch.float16: np.float16}.get(dtype, np.float32)


def test_micro_batches_are_full(tmp_path):
    for any_batch, last in ((False, 4), (True, 2)):
        out = tmp_path / str(any_batch)
        sample(batch_size, (1,), ids=range(6), noise=0, batch=4, out=out, any_batch=any_batch)
        assert np.load(out / "samples-000001.npz")["x"].flatten().tolist() == [4 + last, 5 + last]


def test_schedule(tmp_path):
    sampler = AnnealedLangevin(lambda x, sigma: -x / (1 + sigma[:, None] ** 2), [2.0, 1.0], 0.05, 10)
    sample(sampler, (3,), ids=range(4), noise=1, batch=4, out=tmp_path)
    assert_equal(
        torch.from_numpy(np.load(tmp_path / "samples-000000.npz")["x"]),
        whole(sampler, list(range(4)), Noise(1)),
    )


def test_pictures(tmp_path):
    image = pytest.importorskip("matplotlib.image")
    ramp = torch.linspace(-1.2, 1.2, 3 * 2 * 5).reshape(3, 2, 5)
    for channels in (1, 3):
        out = tmp_path / str(channels)
        shape = (channels, 2, 5)
        wanted = (
            (ramp[:channels].double() * 127.5 + 128)
            .clamp(0, 255)
            .to(torch.uint8)
            .permute(1, 2, 0)
            .squeeze(-1)
        )
        sample(
            lambda x0, **_: ramp[: x0.shape[1]].expand_as(x0),
            shape,
            ids=[7, 3],
            noise=0,
            batch=4,
            out=out,
            format="png",
        )
        with zipfile.ZipFile(out / "samples-000000.zip") as archive:
            assert archive.namelist() == ["0000000007.png", "0000000003.png", "ids.npy", "run.json"]
            with archive.open("0000000003.png") as file:
                got = torch.from_numpy(image.imread(file)) * 255
        assert_equal(got.round().to(torch.uint8), wanted)
    infinite = lambda x0, noise: x0 / (noise.sample_ids != 1).reshape(-1, 1, 1, 1)  # noqa: E731
    with pytest.raises(ValueError, match=r"not finite, as samples \[1\] have"):
        sample(infinite, (1, 2, 2), ids=range(3), noise=0, batch=3, out=tmp_path / "nan", format="png")


def test_the_last_ids(tmp_path):
    """No two (sample, step) share their numbers, up to the ends of 32 bits."""
    ids, steps = [0, 1, 2**31, 2**32 - 2, 2**32 - 1], (0, 1, 2**31, 2**32 - 1)
    words = torch.cat(
        [Noise(0, sample_ids=ids, step=step).rand((len(ids), 2), dtype=torch.float64) for step in steps]
    )
    assert len(words.unique(dim=0)) == len(ids) * len(steps)
    sample(
        Langevin(torch.neg, 0.1),
        (3,),
        ids=ids,
        noise=Noise(0, step=2**32 - 4),
        batch=8,
        out=tmp_path,
        n_steps=3,
    )
    assert np.load(tmp_path / "samples-000000.npz")["ids"].tolist() == ids
