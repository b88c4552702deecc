"""A target's score follows the target's numbers, whatever wrote them: nothing that was packed is
ever stale."""

from __future__ import annotations

import copy
import functools
import pickle

import pytest
import torch
from cases import assert_equal, normal
from target_cases import KINDS, lacks, make, start

import pyebm
from pyebm import Noise, targets

T = functools.partial(torch.tensor, dtype=torch.float64)


def mixture(*, scale=0.5, dtype=torch.float32, dim=3):
    return targets.GaussianMixture(
        normal(7, dim, seed=3).to(dtype), scale, torch.softmax(normal(7, seed=4), 0)
    )


TARGETS = {
    **{kind: functools.partial(make, kind, 3) for kind in KINDS},
    "mixture": mixture,
    "mixture_float64": functools.partial(mixture, dtype=torch.float64),
    "mixture_stretched": functools.partial(mixture, scale=torch.tensor([0.5, 1.0, 2.0])),
    "mixture_diagonal": functools.partial(mixture, scale=normal(7, 3, seed=5).abs() + 0.5),
    "mixture_padded": functools.partial(mixture, dim=512),
    "gaussian_full": lambda: targets.Gaussian(
        covariance=T([[2.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 3.0]])
    ),
}


def by_data(tensor, new):
    tensor.data.copy_(new)


def by_numpy(tensor, new):
    tensor.numpy()[...] = new.numpy()


def by_storage(tensor, new):
    tensor.untyped_storage().copy_(new.clone().untyped_storage())


def by_swap(tensor, new):
    torch.utils.swap_tensors(tensor, new.clone())


def by_other_data(tensor, new):
    tensor.data = new.clone()


def in_inference_mode(tensor, new):
    with torch.inference_mode():
        tensor.copy_(new)


def one_number(tensor, new):
    tensor.data.view(-1)[-1].copy_(new.reshape(-1)[-1])


WRITERS = (by_data, by_numpy, by_storage, by_swap, by_other_data, in_inference_mode, one_number)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("name", TARGETS)
def test_follows(name, write, dtype):
    """After a write, the score, chain, energy and the rest are those of a new target with the
    new numbers."""
    target = TARGETS[name]()
    x = start((5, target.dim or 3), dtype)
    calls = {
        "score": lambda t: t.score(x),
        "chain": lambda t: pyebm.langevin_chain(x, t, 3, 0.01, Noise(1)),
        "mala": lambda t: pyebm.samplers.MALA(t, 0.01)(x, 2, noise=Noise(2)),
        "energy": lambda t: t(x),
        "log_prob": lambda t: t.log_prob(x),
        "sample": lambda t: t.sample(x.shape, Noise(3)),
    }
    for method in ("log_prob", "sample"):
        if lacks(target, method, target.dim or 3):
            del calls[method]
    before = {key: call(target) for key, call in calls.items()}
    for buffer in list(target.buffers()):
        changed = buffer.clone().mul_(1.25)
        write(buffer, changed)
    fresh = copy.deepcopy(target)
    for key, call in calls.items():
        got = call(target)
        assert_equal(got, call(fresh))
        if write is not one_number or (
            key == "score" and name != "mixture_padded"
        ):  # it is one component's, which may be far away
            assert not torch.equal(got, before[key]), key


@pytest.mark.parametrize("name", TARGETS)
def test_kept_while_nothing_changes(name):
    target = TARGETS[name]()
    x = start((5, target.dim or 3))
    first = target._checked("test", x)
    assert target._checked("test", x) is first
    assert target._checked("test", x.bfloat16()) is first
    with torch.inference_mode():
        assert target._checked("test", x) is first
    for buffer in target.buffers():
        buffer.data.copy_(buffer.clone())  # the same values again
    assert target._checked("test", x) is first


def test_the_sign_of_a_zero_and_nan():
    target, x = targets.Harmonic(1.0, 0.0), torch.zeros(1, 2)
    assert not target.score(x).signbit().any()
    target.center.data.fill_(-0.0)
    assert target.score(x).signbit().all()
    target.center.data.fill_(torch.nan)
    assert target.score(x).isnan().all()
    target.center.data.fill_(1.0)
    assert_equal(target.score(x), torch.ones(1, 2))


def test_the_shape_changes():
    means = normal(6, 2)
    target, x = targets.GaussianMixture(means, 0.5, torch.full((6,), 1 / 6)), normal(4, 2)
    target.score(x)
    target.means.data, target.weights.data = (
        target.means.data[:3],
        target.weights.data[:3],
    )  # pruning keeps the addresses
    assert_equal(target.score(x), targets.GaussianMixture(means[:3], 0.5).score(x))


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("place", [0, 1, 100_000, 262_143, 262_144, 399_999])
def test_one_number_of_many(place):
    """Several threads compare the numbers: the changed one is at the ends of their shares, in
    rows of one memory and in padded rows."""
    for shape in ((40_000, 10), (400_000 // 512, 512)):
        count = min(place, shape[0] * shape[1] - 1)
        target = targets.GaussianMixture(normal(*shape), 1.0)
        x = target.means.flatten()[count] + torch.zeros(1, shape[1])
        numbers = target._checked("test", x)
        target.means.data.view(-1)[count] += 1
        assert target._checked("test", x) is not numbers
        assert_equal(target._checked("test", x), target._numbers_in(torch.float32))


def test_other_layouts():
    means = normal(2, 6).t()  # a strided matrix
    target, x = targets.GaussianMixture(means, 0.5), normal(4, 2)
    target.means = normal(2, 6, seed=9).t()
    target.score(x)
    target.means.data.copy_(means)
    assert_equal(target.score(x), targets.GaussianMixture(means, 0.5).score(x))


def test_copies_and_pickles_are_their_own():
    target, x = TARGETS["mixture"](), normal(4, 3)
    want = target.score(x)
    for other in (copy.deepcopy(target), pickle.loads(pickle.dumps(target)), copy.copy(target)):
        assert_equal(other.score(x), want)
    copied = copy.deepcopy(target)
    copied.means.data.zero_()
    assert not torch.equal(copied.score(x), want)
    assert_equal(target.score(x), want)


def test_functional_call_and_other_buffers():
    target, x = targets.Harmonic(1.0), normal(3, 2)
    target.score(x)

    class Score(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.target = target

        def forward(self, x):
            return self.target.score(x)

    got = torch.func.functional_call(Score(), {"target.stiffness": T(2.0)}, (x,))
    assert_equal(got, -2 * x)
    assert_equal(target.score(x), -x)


class Scaled(targets.Harmonic):
    """Numbers that depend on an attribute that is no buffer, and on an inner module."""

    def __init__(self):
        super().__init__(2.0)
        self.factor = 1.0
        self.inner = targets.Harmonic(1.0)

    def _numbers(self):
        return super()._numbers() * self.factor * self.inner.stiffness


def test_a_subclass_of_somebody_s():
    target, x = Scaled(), normal(3, 2)
    assert_equal(target.score(x), -2 * x)
    target.factor = 3.0
    assert_equal(target.score(x), -6 * x)
    target.inner.stiffness.data.fill_(0.5)
    assert_equal(target.score(x), -3 * x)
    target.stiffness.data.fill_(4.0)
    assert_equal(target.score(x), -6 * x)


def test_a_sampler_s_run_has_the_numbers_of_its_start():
    """A callback changes the target: in every sampler this run goes on as it began, and the next
    run follows."""
    x = normal(4, 2, dtype=torch.float64)
    for make_sampler in (
        lambda t: pyebm.samplers.Langevin(t, 0.1),
        lambda t: pyebm.samplers.Langevin(t, 0.1, score_clip=100.0),
        lambda t: pyebm.samplers.UnderdampedLangevin(t, 0.1, 1.0),
        lambda t: pyebm.samplers.MALA(t, 0.1),
        lambda t: pyebm.samplers.HMC(t, 0.1, 2),
    ):
        target = targets.DoubleWell()
        want = make_sampler(target)(x, 5, noise=Noise(1))
        got = make_sampler(target)(
            x, 5, noise=Noise(1), callback=lambda *_, t=target: t.barrier.data.fill_(5.0) and None
        )
        assert_equal(got, want)
        follows = make_sampler(target)(x, 5, noise=Noise(1))
        assert_equal(follows, make_sampler(targets.DoubleWell(5.0))(x, 5, noise=Noise(1)))
        assert not torch.equal(follows, want)


def test_beside_other_threads():
    """Several threads write and score in turn: each sees the present numbers of its own target."""
    from concurrent.futures import ThreadPoolExecutor

    def many(seed):
        target, x = targets.Harmonic(1.0), normal(3, 2, seed=seed)
        for k in range(1, 200):
            target.stiffness.data.fill_(float(k))
            assert torch.equal(target.score(x), k * -x)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(many, range(8)))
