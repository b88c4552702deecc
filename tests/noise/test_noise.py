"""Noise as a name: which bits it stands for, what can't be named, and that nothing else changes
the bits."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from cases import LARGE, assert_equal, levels, name_of, normal

import pyebm
from pyebm import Noise

pytestmark = pytest.mark.usefixtures("poison", "one_thread")

WORD = 2**32
SEEDS = torch.tensor([0, -1, 2**63 - 1, -(2**63), 12345, 0])
IDS = torch.tensor([7, 0, 2**32 - 1, 7, 3, 1])

NAMES = {
    "plain": {"seed": 3},
    "far": {"seed": -5, "first_sample": 2**32 - 30_000, "step": 2**32 - 1, "stream": 2**32 - 2},
    "seeds": {"seed": "rows", "step": 9},
    "ids": {"seed": 2**64 - 1, "sample_ids": "rows", "stream": 1},
    "seeds-ids": {"seed": "rows", "sample_ids": "rows", "step": 3},
}


def named(kind: str, batch: int) -> Noise:
    """A Noise of this kind; seeds and ids that it lists are as many as the batch."""
    random = torch.Generator().manual_seed(batch)
    rows = {
        "seed": torch.randint(-(2**63), 2**63 - 1, (batch,), generator=random),
        "sample_ids": torch.randint(0, WORD, (batch,), generator=random),
    }
    return Noise(**{key: rows[key] if value == "rows" else value for key, value in NAMES[kind].items()})


@pytest.mark.parametrize("kind", ["far", "seeds-ids"])
def test_equals_the_reference(backend, device, dtype, shape, kind):
    noise = named(kind, shape[0])
    got = noise.randn(shape, dtype=dtype, device=device, backend=backend)
    assert_equal(got, noise.randn(shape, dtype=dtype, device=device, backend="reference"))
    assert got.shape == shape
    assert got.dtype == dtype


@pytest.mark.parametrize("shape", LARGE, ids=name_of)
def test_threads_change_nothing(backend, device, threads, shape):
    assert torch.get_num_threads() == threads
    got = Noise(0).randn(shape, device=device, backend=backend)
    assert_equal(got, Noise(0).randn(shape, device=device, backend="reference"))


def test_low_precision_is_float32_rounded_once(backend, device, dtype):
    z = Noise(1).randn((50, 301), device=device, backend=backend)
    assert_equal(Noise(1).randn((50, 301), dtype=dtype, device=device, backend=backend), z.to(dtype))


@pytest.mark.parametrize("size", [(), (1,), (2, 3), (3, 5, 7), (1031,)], ids=name_of)
class TestSamples:
    """A sample's noise is its own: neither its batch nor its place there matters."""

    def test_shards(self, backend, size):
        whole = Noise(4, first_sample=10).randn((9, *size), backend=backend)
        for first, count in ((0, 9), (2, 3), (8, 1), (5, 0)):
            part = Noise(4).shard(first_sample=10 + first).randn((count, *size), backend=backend)
            assert_equal(part, whole[first : first + count])

    def test_shuffled(self, backend, size):
        order = torch.tensor([4, 0, 8, 8, 1])  # one sample twice: ids need not differ
        got = Noise(4, sample_ids=order).randn((5, *size), backend=backend)
        assert_equal(got, Noise(4).randn((9, *size), backend=backend)[order])

    def test_seed_per_sample(self, backend, size):
        got = Noise(SEEDS, first_sample=2).randn((6, *size), backend=backend)
        for b, seed in enumerate(SEEDS.tolist()):
            assert_equal(got[b : b + 1], Noise(seed, first_sample=2 + b).randn((1, *size), backend=backend))

    def test_seed_and_id_per_sample(self, backend, size):
        got = Noise(SEEDS, sample_ids=IDS).randn((6, *size), backend=backend)
        for b, (seed, sample) in enumerate(zip(SEEDS.tolist(), IDS.tolist(), strict=True)):
            assert_equal(got[b : b + 1], Noise(seed, first_sample=sample).randn((1, *size), backend=backend))

    def test_longer_samples_begin_alike(self, backend, size):
        z = Noise(4).randn((9, *size), backend=backend).reshape(9, -1)
        longer = Noise(4).randn((9, z.shape[1] + 1029), backend=backend)
        assert_equal(longer[:, : z.shape[1]], z)


def test_only_the_flat_index_inside_the_sample_counts(backend):
    assert_equal(
        Noise(5).randn((4, 3, 8, 8), backend=backend).flatten(1), Noise(5).randn((4, 192), backend=backend)
    )


def test_every_word_of_the_name_matters():
    """Each change of the name gives other numbers everywhere, not just somewhere."""
    names = [
        {},
        {"seed": 1},
        {"seed": 1 << 32},
        {"step": 1},
        {"stream": 1},
        {"first_sample": 8},
        {"step": 1 << 31},
    ]
    drawn = torch.stack([Noise(**{"seed": 0, **name}).randn((8, 500)).flatten() for name in names])
    clashes = (drawn[:, None] == drawn[None]).sum(2) - torch.eye(len(names), dtype=torch.int64) * 4000
    assert clashes.max() < 5  # two float32 normals are equal by chance once in some 10^7


@pytest.mark.parametrize(("seed", "same"), [(-1, 2**64 - 1), (-(2**63), 2**63), (0, -0), (2**64 - 5, -5)])
def test_seed_is_64_bits(seed, same):
    assert_equal(Noise(seed).randn((2, 5)), Noise(same).randn((2, 5)))
    assert_equal(
        Noise(torch.tensor([same - 2**64 if same >= 2**63 else same] * 2)).randn((2, 5)),
        Noise(seed).randn((2, 5)),
    )


def test_no_seed_follows_torch_manual_seed():
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append((Noise().seed, Noise(None).seed))
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0][0] != drawn[0][1]


def test_at_and_shard_keep_the_rest():
    noise = Noise(6, first_sample=5, step=1, stream=2)
    assert_equal(noise.at(step=8).randn((2, 5)), Noise(6, first_sample=5, step=8, stream=2).randn((2, 5)))
    assert_equal(noise.at(stream=8).randn((2, 5)), Noise(6, first_sample=5, step=1, stream=8).randn((2, 5)))
    assert_equal(noise.at().randn((2, 5)), noise.randn((2, 5)))
    assert_equal(noise.shard(first_sample=0).randn((2, 5)), Noise(6, step=1, stream=2).randn((2, 5)))
    rows = Noise(SEEDS, sample_ids=IDS).at(step=3, stream=4)
    assert_equal(rows.randn((6, 5)), Noise(SEEDS, sample_ids=IDS, step=3, stream=4).randn((6, 5)))


@pytest.mark.parametrize("kind", NAMES)
def test_state_dict_round_trip(kind, tmp_path):
    noise = named(kind, 6).at(step=77)
    torch.save(noise.state_dict(), tmp_path / "noise.pt")
    again = Noise.from_state_dict(torch.load(tmp_path / "noise.pt", weights_only=True))
    assert_equal(again.randn((6, 5)), noise.randn((6, 5)))
    assert repr(again) == repr(noise)


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda noise: pickle.loads(pickle.dumps(noise))]
)
def test_copies_and_pickles(copied):
    """A loader's worker process needs these, and so does a checkpoint that holds a sampler."""
    noise = named("seeds-ids", 6)
    assert_equal(copied(noise).randn((6, 5)), noise.randn((6, 5)))


class TestImmutable:
    @pytest.mark.parametrize("attribute", ["seed", "step", "stream", "first_sample", "sample_ids", "other"])
    def test_attributes(self, attribute):
        noise = Noise(0)
        with pytest.raises(AttributeError):
            setattr(noise, attribute, 1)
        assert_equal(noise.randn((2, 3)), Noise(0).randn((2, 3)))

    @pytest.mark.parametrize("write", ["caller's seed", "caller's ids", "seed", "sample_ids", "state_dict"])
    def test_written_tensors(self, write):
        """The caller may write to a tensor that it gave or got; the noise and its state stay the
        same."""
        seeds, ids = SEEDS.clone(), IDS.clone()
        noise = Noise(seeds, sample_ids=ids)
        before = noise.randn((6, 5))
        tensor = {
            "caller's seed": seeds,
            "caller's ids": ids,
            "seed": noise.seed,
            "sample_ids": noise.sample_ids,
        }
        tensor.get(write, noise.state_dict()["seed"]).zero_()
        assert_equal(noise.randn((6, 5)), before)
        assert_equal(Noise.from_state_dict(noise.state_dict()).randn((6, 5)), before)

    def test_using_it_draws_nothing(self):
        """The same Noise gives the same numbers again, and does not advance torch's own
        generator."""
        noise, state = Noise(0), torch.get_rng_state()
        first = noise.randn((3, 4))
        pyebm.perturb(normal(3, 4), levels(3), noise)
        assert_equal(noise.randn((3, 4)), first)
        assert_equal(torch.get_rng_state(), state)


def test_shared_between_threads(backend, device):
    """Many threads draw from one Noise at once."""
    noise = Noise(SEEDS, sample_ids=IDS)
    with ThreadPoolExecutor(4) as pool:
        drawn = list(
            pool.map(
                lambda k: noise.at(step=k % 3).randn((6, 9001), device=device, backend=backend), range(12)
            )
        )
    for k, z in enumerate(drawn):
        assert_equal(z, noise.at(step=k % 3).randn((6, 9001), device=device, backend="reference"))


BAD = {
    "seed-float": (lambda: Noise(1.0), TypeError, "seed.*int"),
    "seed-numpy-float": (lambda: Noise(torch.tensor(1.5).numpy()[()]), TypeError, "seed.*int"),
    "seed-str": (lambda: Noise("12"), TypeError, "seed.*int"),
    "seed-list": (lambda: Noise([1, 2]), TypeError, "seed.*int"),
    "seed-high": (lambda: Noise(2**64), ValueError, "seed.*64 bits.*got 18446744073709551616"),
    "seed-low": (lambda: Noise(-(2**63) - 1), ValueError, "seed.*64 bits.*got -9223372036854775809"),
    "seed-dtype": (lambda: Noise(torch.zeros(3)), TypeError, "seed.*int64.*got torch.float32"),
    "seed-0-dim": (lambda: Noise(torch.tensor(3)), ValueError, r"seed.*\(B,\).*got \(\)"),
    "seed-2-dim": (lambda: Noise(SEEDS[None]), ValueError, r"seed.*\(B,\).*got \(1, 6\)"),
    "step-negative": (lambda: Noise(0, step=-1), ValueError, "step.*got -1"),
    "step-high": (lambda: Noise(0, step=WORD), ValueError, "step.*got 4294967296"),
    "step-fraction": (lambda: Noise(0, step=1.5), TypeError, "step.*int"),
    "stream-high": (lambda: Noise(0, stream=WORD), ValueError, "stream.*got 4294967296"),
    "first-negative": (lambda: Noise(0, first_sample=-1), ValueError, "first_sample.*got -1"),
    "at-step": (lambda: Noise(0).at(step=WORD), ValueError, "step.*got 4294967296"),
    "at-stream": (lambda: Noise(0).at(stream=-1), ValueError, "stream.*got -1"),
    "shard": (lambda: Noise(0).shard(first_sample=WORD), ValueError, "first_sample.*got 4294967296"),
    "shard-ids": (lambda: Noise(0, sample_ids=IDS).shard(first_sample=1), ValueError, "sample_ids"),
    "shard-seeds": (lambda: Noise(SEEDS).shard(first_sample=1), ValueError, "seed"),
    "ids-negative": (lambda: Noise(0, sample_ids=[1, -1]), ValueError, r"sample_ids.*2\*\*32.*got -1"),
    "ids-high": (lambda: Noise(0, sample_ids=[1, WORD]), ValueError, r"sample_ids.*2\*\*32.*4294967296"),
    "ids-dtype": (lambda: Noise(0, sample_ids=IDS.int()), TypeError, "sample_ids.*int64.*got torch.int32"),
    "ids-dim": (lambda: Noise(0, sample_ids=IDS[None]), ValueError, r"sample_ids.*\(B,\)"),
    "ids-and-first": (
        lambda: Noise(0, sample_ids=IDS, first_sample=1),
        ValueError,
        "first_sample or sample_ids",
    ),
    "ids-and-seeds": (
        lambda: Noise(SEEDS, sample_ids=IDS[:5]),
        ValueError,
        "one entry per sample each, got 6 and 5",
    ),
    "ids-overflow": (
        lambda: Noise(0, first_sample=WORD - 1).randn((2, 3)),
        ValueError,
        "first_sample=4294967295 and 2 samples",
    ),
    "batch-seeds": (lambda: Noise(SEEDS).randn((5, 3)), ValueError, "seed names 6 samples, got a batch of 5"),
    "batch-ids": (
        lambda: Noise(0, sample_ids=IDS).randn((7, 3)),
        ValueError,
        "sample_ids names 6 samples, got a batch of 7",
    ),
    "dtype": (lambda: Noise(0).randn((2, 3), dtype=torch.int32), TypeError, "dtype.*got torch.int32"),
    "shape-empty": (lambda: Noise(0).randn(()), ValueError, r"shape.*got \(\)"),
    "shape-int": (lambda: Noise(0).randn(5), TypeError, "shape"),
    "shape-negative": (lambda: Noise(0).randn((2, -1)), ValueError, r"shape.*got \(2, -1\)"),
    "elements": (lambda: Noise(0).randn((1, 2**34 + 4)), ValueError, r"shape.*2\*\*34.*got 17179869188"),
    "backend": (lambda: Noise(0).randn((2, 3), backend="gpu"), ValueError, "backend.*'cpu'.*got 'gpu'"),
    "state-version": (
        lambda: Noise.from_state_dict({**Noise(0).state_dict(), "version": 99}),
        ValueError,
        "version 1, got 99",
    ),
    "state-empty": (lambda: Noise.from_state_dict({}), ValueError, "version 1, got None"),
    "state-keys": (
        lambda: Noise.from_state_dict({"version": 1, "seed": 0}),
        ValueError,
        "keys.*first_sample",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_the_last_sample_id_works(backend):
    last = Noise(0, first_sample=WORD - 2).randn((2, 3), backend=backend)
    assert_equal(last, Noise(0, sample_ids=[WORD - 2, WORD - 1]).randn((2, 3)))


def test_a_walk_names_every_step():
    noise, x = Noise(3, step=5, stream=2, first_sample=7), torch.zeros(2, 3)
    walked = list(noise._walk(1030, x))  # more than the names of one block
    assert [one.step for one in walked] == list(range(5, 1035))
    for k in (0, 1023, 1024, 1029):
        assert_equal(walked[k].randn(x.shape), noise.at(step=5 + k).randn(x.shape))
