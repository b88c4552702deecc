"""The loss and the random generator of EDM's shape against the published formulas in plain
PyTorch."""

from __future__ import annotations

import pickle

import pytest
import torch
from cases import assert_equal, normal
from compare import DTYPES, assert_as_good, gradient

from pyebm import Noise
from pyebm.integrations.edm import EDMLoss, StackedRandomGenerator

SHAPE = (6, 3, 8, 8)
NOISE = Noise(1, step=7)


class Net:
    """A denoiser with one parameter, which keeps the sigma that it was given."""

    def __init__(self, dtype):
        self.weight = normal(3, 8, 8, dtype=dtype, seed=5, grad=True)
        self.sigma = self.labels = None

    def __call__(self, x, sigma, labels, augment_labels=None):
        self.sigma, self.labels = sigma, (labels, augment_labels)
        return self.weight * x


def published(net, y, z, sigma, data=0.5):
    weight = (sigma**2 + data**2) / (sigma * data) ** 2
    return weight * (net(y + sigma * z, sigma, None) - y) ** 2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ours", [True, False], ids=["regenerated", "caller's noise"])
def test_loss_and_gradient(dtype, ours):
    y, net, exact = normal(*SHAPE, dtype=dtype), Net(dtype), Net(torch.float64)
    exact.weight = net.weight.detach().double().requires_grad_()
    torch.manual_seed(3)
    got = EDMLoss(noise=NOISE if ours else torch.randn_like)(net, y)
    sigma = net.sigma
    assert got.shape == y.shape
    if ours:
        z, wide = (NOISE.randn(SHAPE, dtype=dtype) for dtype in (dtype, torch.float64))
        assert_equal(sigma, (NOISE.at(stream=1).randn((6, 1, 1, 1)) * 1.2 - 1.2).exp())
    else:
        torch.manual_seed(3)
        assert_equal(sigma, (torch.randn(6, 1, 1, 1) * 1.2 - 1.2).exp())
        z = torch.randn_like(y)
        wide = z.double()
    plain = published(net, y, z, sigma.to(dtype))
    truth = published(exact, y.double(), wide, sigma.double())
    for triple in zip(
        gradient(got, net.weight), gradient(plain, net.weight), gradient(truth, exact.weight), strict=True
    ):
        assert_as_good(*triple)


def test_sum_instead_of_elements():
    y = normal(*SHAPE)
    values = [
        gradient(EDMLoss(noise=NOISE, reduction=reduction)(net := Net(torch.float32), y).sum(), net.weight)
        for reduction in ("none", "sum")
    ]
    torch.testing.assert_close(*values)


def test_labels_and_augmentation():
    """The loss compares with the augmented images."""
    y, net = normal(*SHAPE), Net(torch.float32)
    got = EDMLoss(noise=NOISE)(
        net, y, labels="labels", augment_pipe=lambda images: (images.flip(-1), "augmented")
    )
    assert net.labels == ("labels", "augmented")
    assert_equal(got, EDMLoss(noise=NOISE)(net, y.flip(-1)))


def test_a_copy_goes_on_where_it_was():
    """EDM's training loop pickles the loss with every snapshot."""
    y, loss = normal(*SHAPE), EDMLoss(P_mean=-1.0, noise=NOISE)
    loss(Net(torch.float32), y)
    copy = pickle.loads(pickle.dumps(loss))
    assert copy.P_mean == -1.0
    assert_equal(copy(Net(torch.float32), y), loss(Net(torch.float32), y))
    pickle.dumps(EDMLoss(noise=torch.randn_like))


def test_a_sample_does_not_depend_on_its_batch():
    y = normal(*SHAPE)
    whole = EDMLoss(noise=NOISE)(Net(torch.float32), y)
    assert_equal(EDMLoss(noise=NOISE.shard(first_sample=4))(Net(torch.float32), y[4:]), whole[4:])


def test_random_generator():
    """A seed gives the same numbers in every batch, in every call, in every dtype."""
    whole, part = (
        StackedRandomGenerator("cpu", [5, 6, 7]),
        StackedRandomGenerator("cpu", torch.tensor([7, 5])),
    )
    for call in (
        lambda rnd, b: rnd.randn([b, 3, 4], device="cpu"),
        lambda rnd, b: rnd.randn_like(torch.empty(b, 3, 4, dtype=torch.float64)),
        lambda rnd, b: rnd.randint(10, size=[b, 50], device="cpu"),
        lambda rnd, b: rnd.randint(-3, 4, size=[b, 50]),
    ):
        a, b = call(whole, 3), call(part, 2)
        assert_equal(b, a[[2, 0]])
        assert not torch.equal(a[0], a[1])
    assert a.dtype == torch.int64
    assert sorted(a.unique().tolist()) == list(range(-3, 4))
    assert_equal(
        whole.randn_like(torch.empty(3, 4, dtype=torch.float64)).float(),
        StackedRandomGenerator("cpu", [5, 6, 7]).noise.at(step=4).randn((3, 4)),
    )


def test_random_integers_are_uniform():
    counts = (
        StackedRandomGenerator("cpu", range(100))
        .randint(10, size=[100, 1000])
        .flatten()
        .bincount(minlength=10)
    )
    assert len(counts) == 10
    assert ((counts - 10_000).abs() < 5 * 95).all()


def test_the_largest_uniform(monkeypatch):
    """The largest uniform is 1 itself, and still gives an integer below high."""
    monkeypatch.setattr(Noise, "rand", lambda _, shape, dtype, **__: torch.ones(shape, dtype=dtype))
    assert (StackedRandomGenerator("cpu", [1]).randint(10, size=[1, 3]) == 9).all()
