"""The ops refuse exactly the tensors that share memory with a written one, by comparison with a
list of all elements' addresses."""

import random

import pytest
import torch
from cases import assert_equal, normal

from pyebm import Noise, _ops, _overlap

NAME = Noise(5)._name
BACKENDS = {"cpu": lambda: _ops._REGISTERED, "reference": _ops._reference}


def views(rng):
    """Returns two tensors of one shape in one memory; the first does not overlap itself."""
    memory = torch.zeros(200)
    while True:
        shape = (rng.randint(1, 4), rng.randint(1, 4))
        strides = [tuple(rng.choice((1, 2, 3, 4, 8, 12)) for _ in shape) for _ in range(2)]
        out, x = (memory.as_strided(shape, each, rng.randint(0, 40)) for each in strides)
        if not _overlap.overlaps_itself(out):
            return out, x


def addresses(tensor):
    rows, columns = (
        range(0, size * stride, stride) for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )
    return {tensor.data_ptr() + 4 * (row + column) for row in rows for column in columns}


@pytest.mark.parametrize("backend", BACKENDS)
def test_random_views(backend):
    rng, refused = random.Random(0), 0
    for _ in range(400):
        out, x = views(rng)
        share = bool(addresses(out) & addresses(x))
        assert _overlap.share_memory(out, x) == share
        perturb, arguments = BACKENDS[backend]()["perturb"], (out, x, 1.0, 0.1, NAME)
        if share and not _overlap.same(out, x):
            with pytest.raises(ValueError, match="x must not overlap out in part"):
                perturb(*arguments)
            refused += 1
        else:
            perturb(*arguments)
    assert 50 < refused < 350


@pytest.mark.parametrize("backend", BACKENDS)
def test_woven_operands_are_taken(backend):
    step, memory = BACKENDS[backend]()["langevin_step"], normal(6, 5)
    x, score, sizes = memory[:, 0:3:2], memory[:, 1:4:2], memory[:, 4].abs_()
    want = torch.empty(6, 2)
    step(want, x.clone(), score.clone(), 0.0, 1.0, NAME, sizes.clone())
    step(x, None, score, 0.0, 1.0, NAME, sizes)
    assert_equal(x, want)
