"""ReplayBuffer: which chains a batch gets and where they begin; all this depends only on the
seed, the step and the chains' ids."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from cases import assert_equal, normal

import pyebm
from pyebm import Noise, ReplayBuffer
from pyebm.targets import Gaussian

NOISE = Noise(3)


def drawn_and_put(buffer: ReplayBuffer, steps: int, batch: int, noise: Noise = NOISE) -> ReplayBuffer:
    for k in range(steps):
        drawn = buffer.draw(batch, noise.at(step=k))
        buffer.put(drawn, drawn.x + 0.1 * drawn.noise.randn(drawn.x.shape))
    return buffer


@pytest.mark.parametrize("size", [1, 7, 64, 97])
def test_a_batch_gets_different_chains_each_as_often_as_another(size):
    buffer, counts = ReplayBuffer(size, (1,)), torch.zeros(size)
    batch = max(size // 4, 1)
    for k in range(400):
        ids = buffer.draw(batch, NOISE.at(step=k)).ids
        assert ids.unique().numel() == batch
        counts[ids] += 1
    assert (counts - 400 * batch / size).abs().max() < 5 * (400 * batch / size) ** 0.5
    assert_equal(buffer.draw(size, NOISE).ids.sort().values, torch.arange(size))


def test_any_split_of_a_batch_and_any_order_give_the_same_bits():
    whole, parts = (ReplayBuffer(20, (2,), reinit=0.3) for _ in range(2))
    for k in range(6):
        noise = NOISE.at(step=k)
        drawn = whole.draw(10, noise)
        whole.put(drawn, drawn.x + drawn.noise.randn((10, 2)))
        for ids in ([7, 2, 9], [0, 1, 3, 4, 5, 6, 8]):
            part = parts.draw(len(ids), Noise(3, sample_ids=ids, step=k))
            assert_equal(part.x, drawn.x[ids])
            assert_equal(part.ids, drawn.ids[ids])
            parts.put(part, part.x + part.noise.randn((len(ids), 2)))
    assert_equal(parts.state_dict(), whole.state_dict())


def test_chains_begin_anew_as_often_as_said_and_go_on_otherwise():
    buffer = drawn_and_put(ReplayBuffer(50, (2,), reinit=0.0), 1, 50)
    assert (buffer.ages == 1).all()
    before = buffer.states.clone()
    drawn = buffer.draw(50, NOISE.at(step=8))
    assert not drawn.fresh.any()
    assert_equal(drawn.x, before[drawn.ids])
    assert_equal(drawn.noise.sample_ids, drawn.ids)
    buffer.put(drawn, drawn.x)
    assert (buffer.ages == 2).all()
    often = drawn_and_put(ReplayBuffer(1000, (1,), reinit=0.25), 1, 1000)
    fresh = torch.stack([often.draw(1000, NOISE.at(step=k)).fresh for k in range(1, 21)])
    assert float(fresh.double().mean()) == pytest.approx(0.25, abs=0.012)
    again = often.draw(1000, NOISE.at(step=1))
    often.put(again, again.x)
    assert_equal(often.ages[again.ids], torch.where(again.fresh, 1, 2))
    assert ReplayBuffer(5, (1,), reinit=1.0).draw(5, NOISE).fresh.all()


def test_who_writes_to_the_ids_leaves_the_noise_as_it_is():
    drawn = ReplayBuffer(40, (2,)).draw(5, NOISE)
    want = drawn.ids.clone()
    drawn.ids.zero_()
    assert_equal(drawn.noise.sample_ids, want)


def test_where_chains_begin():
    data = normal(6, 2)
    starts = {
        None: lambda noise: noise.randn((40, 2)),
        Gaussian(torch.tensor([5.0, 0.0]), torch.tensor([0.1, 2.0])): None,
        (lambda shape, noise: 2 * noise.rand(shape) - 1): lambda noise: 2 * noise.rand((40, 2)) - 1,
    }
    for init, want in starts.items():
        drawn = ReplayBuffer(40, (2,), init=init).draw(40, NOISE)
        named = drawn.noise.at(stream=NOISE.stream ^ pyebm._streams.START)
        want = (lambda noise, init=init: init.sample((40, 2), noise)) if want is None else want
        assert_equal(drawn.x, want(named))
    drawn = ReplayBuffer(600, (2,), init=data).draw(600, NOISE)
    rows = (drawn.x[:, None] == data).all(2)
    assert (rows.sum(1) == 1).all()
    assert rows.double().mean(0).sub(1 / 6).abs().max() < 0.06


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_state_dict_a_copy_and_a_pickle_go_on_with_the_same_bits(dtype, tmp_path):
    buffer = drawn_and_put(ReplayBuffer(9, (2, 1), reinit=0.4, dtype=dtype), 4, 5)
    torch.save(buffer.state_dict(), tmp_path / "buffer.pt")
    loaded = ReplayBuffer(9, (2, 1), reinit=0.4, dtype=dtype)
    loaded.load_state_dict(torch.load(tmp_path / "buffer.pt", weights_only=True))
    others = [loaded, copy.deepcopy(buffer), pickle.loads(pickle.dumps(buffer))]
    want = drawn_and_put(buffer, 7, 5).state_dict()
    for other in others:
        assert_equal(drawn_and_put(other, 7, 5).state_dict(), want)


def test_a_chain_that_is_lost_begins_anew():
    buffer = drawn_and_put(ReplayBuffer(4, (2,), reinit=0.0), 1, 4)
    drawn = buffer.draw(4, NOISE.at(step=1))
    x = drawn.x.clone()
    x[1, 0] = torch.nan
    buffer.put(drawn, x)
    again = buffer.draw(4, NOISE.at(step=2))
    assert again.fresh.sum() == 1
    assert again.ids[again.fresh] == drawn.ids[1]
    assert again.x.isfinite().all()


REFUSED = {
    "size": (lambda: ReplayBuffer(0, (2,)), ValueError, "size must be >= 1"),
    "shape": (lambda: ReplayBuffer(4, 2), TypeError, "shape must be a sequence"),
    "reinit": (lambda: ReplayBuffer(4, (2,), reinit=1.5), ValueError, "reinit must be a probability"),
    "init": (lambda: ReplayBuffer(4, (2,), init=3), TypeError, "init must be"),
    "data": (lambda: ReplayBuffer(4, (2,), init=normal(5, 3)), ValueError, "init must be data"),
    "no data": (lambda: ReplayBuffer(4, (2,), init=normal(0, 2)), ValueError, "init must be data"),
    "dtype": (lambda: ReplayBuffer(4, (2,), dtype=torch.int64), TypeError, "dtype must be"),
    "count": (lambda: ReplayBuffer(4, (2,)).draw(5, NOISE), ValueError, "ids below size, 4, got an id of 4"),
    "shard": (
        lambda: ReplayBuffer(4, (2,)).draw(2, NOISE.shard(first_sample=3)),
        ValueError,
        "got an id of 4",
    ),
    "twice": (
        lambda: ReplayBuffer(4, (2,)).draw(2, Noise(0, sample_ids=[1, 1])),
        ValueError,
        "different samples",
    ),
    "seeds": (
        lambda: ReplayBuffer(4, (2,)).draw(2, Noise(torch.arange(2))),
        ValueError,
        "noise must have one seed",
    ),
    "noise": (lambda: ReplayBuffer(4, (2,)).draw(2, 0), TypeError, "noise must be a Noise"),
    "start": (
        lambda: ReplayBuffer(4, (2,), init=lambda *_: torch.zeros(3)).draw(2, NOISE),
        ValueError,
        "init must return",
    ),
    "put": (
        lambda: (buffer := ReplayBuffer(4, (2,))).put(buffer.draw(2, NOISE), torch.zeros(3, 2)),
        ValueError,
        "x must have the shape",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    call, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        call()
