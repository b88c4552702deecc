"""Noises compare, copy and pickle by value, and a state that names nothing is refused."""

import copy
import io
import pickle

import pytest
import torch

from pyebm import Noise, NoiseCounter

DIFFERENT = [
    Noise(0),
    Noise(1),
    Noise(0, step=1),
    Noise(0, stream=1),
    Noise(0, first_sample=1),
    Noise(0, sample_ids=[0, 1]),
    Noise(0, sample_ids=[1, 0]),
    Noise(torch.tensor([0, 0])),
    Noise(torch.tensor([0, 1])),
    Noise(torch.tensor([0, 1]), sample_ids=[0, 1]),
]


def _through_torch(noise):
    buffer = io.BytesIO()
    torch.save(noise, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda noise: pickle.loads(pickle.dumps(noise)),
    "torch.save": _through_torch,
}
copied = pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)


@copied
def test_equality_and_hash_are_by_value(copied):
    for i, a in enumerate(DIFFERENT):
        assert copied(a) == a
        assert hash(copied(a)) == hash(a)
        assert [j for j, b in enumerate(DIFFERENT) if a == b] == [i]
    assert len({*DIFFERENT, *map(copied, DIFFERENT)}) == len(DIFFERENT)
    assert Noise(-1) == Noise(2**64 - 1)  # the same 64 bits
    assert Noise(0) != 0


@copied
def test_a_counter_s_copy_is_a_counter_of_its_own(copied):
    counter = NoiseCounter(Noise(3, sample_ids=[4, 5], stream=2)).advance_(3)
    other = copied(counter)
    assert type(other) is NoiseCounter
    assert other == counter
    assert torch.equal(other.advance_().randn((2, 3)), counter.at(step=4).randn((2, 3)))
    assert (other.step, counter.step) == (4, 3)
    assert other != counter


def test_a_counter_keeps_its_device():
    counter = NoiseCounter(Noise(3), "meta")
    with pytest.raises(ValueError, match="lives on meta"):
        NoiseCounter(Noise(3), counter._name.device).randn((2, 3))


def test_a_counter_is_not_hashable_and_no_plain_noise():
    counter = NoiseCounter(Noise(3))
    with pytest.raises(TypeError, match="unhashable"):
        hash(counter)
    assert counter != Noise(3)
    assert counter.at() == Noise(3)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"seed": None}, TypeError, "seed must be an int or an int64 tensor"),
        ({"seed": "3"}, TypeError, "seed must be an int"),
        ({"seed": 0.5}, TypeError, "seed must be an int"),
        ({"sample_ids": [1, 2]}, TypeError, "sample_ids must be an int64 tensor"),
        ({"sample_ids": torch.ones(2)}, TypeError, "sample_ids must be int64, got torch.float32"),
        ({"step": None}, TypeError, "step must be an int, got None"),
        ({"stream": 1.5}, TypeError, "stream must be an int, got 1.5"),
        ({"first_sample": -1}, ValueError, "first_sample must be in"),
        ({"version": 2}, ValueError, "version 1, got 2"),
        ({"more": 2}, ValueError, "must have the keys"),
    ],
)
def test_a_state_s_values_are_checked(change, error, message):
    with pytest.raises(error, match=message):
        Noise.from_state_dict(Noise(3).state_dict() | change)


def test_a_state_is_a_dict():
    with pytest.raises(TypeError, match="state must be a dict"):
        Noise.from_state_dict([1, 2])
