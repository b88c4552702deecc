"""Small losses in one compiled step: the bits of the way through Python, with and without a node of
autograd, for plain calls alone."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, levels, normal
from torch.autograd import forward_ad, profiler

import pyebm
from pyebm import Noise, _small_calls
from pyebm.losses import _denoising

pytestmark = pytest.mark.skipif(_small_calls._C is None, reason="the library is built without Python.h")

X, X0, ROWS = normal(6, 5), normal(6, 5, seed=1), levels(6)
NOISE = Noise(3, first_sample=2, step=4, stream=1)

# Each loss with what it is given; plain calls all.
PLAIN = [
    ("dsm_loss", (X, 0.5, NOISE), {}),
    ("dsm_loss", (X, ROWS, NOISE), {"weight": "sigma2"}),
    ("dsm_loss", (X, 0.0, NOISE), {"weight": "sigma2", "reduction": "sum"}),
    ("dsm_loss", (X, ROWS.double(), NOISE), {"weight": ROWS, "reduction": "mean", "backend": None}),
    ("dsm_loss", (X, 2, NOISE), {"weight": None}),
    ("dsm_loss", (X.double(), ROWS[:1], NOISE), {"weight": -2}),
    ("dsm_loss", (normal(1024, 32), 0.5, NOISE), {}),
    ("dsm_loss", (X, 0.5, Noise(torch.arange(6) - 3)), {}),
    ("denoising_loss", (X, Noise(4, sample_ids=7 * torch.arange(6))), {"kappa": ROWS}),
    ("denoising_loss", (X, NOISE), {}),
    ("denoising_loss", (X, NOISE), {"kappa": ROWS, "lam": 1.0, "weight": None, "x0": None, "mu": 0}),
    ("denoising_loss", (X, NOISE), {"lam": ROWS, "mu": -ROWS, "x0": X0, "reduction": "batchmean"}),
    ("denoising_loss", (X, NOISE), {"lam": 0, "mu": -1, "x0": X0, "weight": ROWS, "half": True}),
    ("denoising_loss", (X.double(), NOISE), {"x0": X0.double(), "half": False}),
    ("denoising_loss", (normal(3, 1, 7), NOISE), {"kappa": 0.25, "reduction": "sum"}),
]


def compiled(name, *args, **options):
    return getattr(_small_calls._C, name)(*args, **options)


def through_python(name, *args, **options):
    return getattr(pyebm, name).__wrapped__(*args, **options)


def gradients(call, name, pred, args, options, above=1.0):
    pred = pred.clone().requires_grad_()
    loss = call(name, pred, *args[1:], **options)
    return loss, *torch.autograd.grad(above * loss, pred, retain_graph=True)


@pytest.mark.parametrize("case", PLAIN, ids=lambda case: case[0])
@pytest.mark.usefixtures("simd")
class TestPlainCalls:
    def test_the_bits_of_the_other_way(self, case):
        name, args, options = case
        got = compiled(name, *args, **options)
        assert_equal(got, through_python(name, *args, **options))
        assert type(got) is torch.Tensor
        assert got.is_leaf

    @pytest.mark.parametrize("above", [1.0, -0.3])
    def test_the_bits_of_the_gradient(self, case, above):
        name, args, options = case
        got = gradients(compiled, name, args[0], args, options, above)
        want = gradients(through_python, name, args[0], args, options, above)
        for a, b in zip(got, want, strict=True):
            assert_equal(a, b)
            assert a.stride() == b.stride()
        assert type(got[0].grad_fn) is type(want[0].grad_fn)


# Calls that are not plain, some of them wrong.
OTHERS = [
    ("dsm_loss", (X, 0.5), {}),
    ("dsm_loss", (X, 0.5, NOISE, None), {}),
    ("dsm_loss", (X, 0.5, X0), {}),
    ("dsm_loss", (X, 0.0, NOISE), {}),
    ("dsm_loss", (X, -0.5, NOISE), {"weight": "sigma2"}),
    ("dsm_loss", (X, -ROWS, NOISE), {"weight": "sigma2"}),
    ("dsm_loss", (X, ROWS[:3], NOISE), {}),
    ("dsm_loss", (X, ROWS[:, None], NOISE), {}),
    ("dsm_loss", (X, ROWS.clone().requires_grad_(), NOISE), {}),
    ("dsm_loss", (X, "0.5", NOISE), {}),
    ("dsm_loss", (X, None, NOISE), {}),
    ("dsm_loss", (X, 0.5, NOISE), {"weight": "sigma"}),
    ("dsm_loss", (X, 0.5, NOISE), {"weight": float("inf")}),
    ("dsm_loss", (X, 0.5, NOISE), {"weight": torch.tensor(2.0)}),
    ("dsm_loss", (X, 0.5, NOISE), {"reduction": "sample"}),
    ("dsm_loss", (X, 0.5, NOISE), {"reduction": "none"}),
    ("dsm_loss", (X, 0.5, NOISE), {"reduction": "median"}),
    ("dsm_loss", (X, 0.5, NOISE), {"reduction": None}),
    ("dsm_loss", (X, 0.5, NOISE), {"reduction": []}),
    ("dsm_loss", (X, 0.5, NOISE), {"backend": "cpu"}),
    ("dsm_loss", (X, 0.5, NOISE), {"seed": 1}),
    ("dsm_loss", (X.half(), 0.5, NOISE), {}),
    ("dsm_loss", (X[:0], 0.5, NOISE), {"reduction": "sum"}),
    ("dsm_loss", (X.T, 0.5, NOISE), {}),
    ("dsm_loss", (X.tolist(), 0.5, NOISE), {}),
    ("dsm_loss", (X, 0.5, Noise(torch.arange(7))), {}),
    ("denoising_loss", (X, Noise(0, sample_ids=torch.arange(5))), {}),
    ("dsm_loss", (normal(1025, 32), 0.5, NOISE), {}),
    ("denoising_loss", (X,), {}),
    ("denoising_loss", (X, NOISE, 1.0), {}),
    ("denoising_loss", (X, None), {}),
    ("denoising_loss", (X, NOISE), {"mu": -1.0}),
    ("denoising_loss", (X, NOISE), {"mu": 0 * ROWS}),
    ("denoising_loss", (X, NOISE), {"mu": ROWS, "x0": X0[:3]}),
    ("denoising_loss", (X, NOISE), {"mu": ROWS, "x0": X0.double()}),
    ("denoising_loss", (X, NOISE), {"mu": ROWS, "x0": X0.clone().requires_grad_()}),
    ("denoising_loss", (X, NOISE), {"mu": ROWS, "x0": X0.tolist()}),
    ("denoising_loss", (X, NOISE), {"kappa": None}),
    ("denoising_loss", (X, NOISE), {"kappa": float("nan")}),
    ("denoising_loss", (X, NOISE), {"half": None}),
    ("denoising_loss", (X, NOISE), {"half": 1}),
]


@pytest.mark.parametrize("case", OTHERS, ids=lambda case: case[0])
def test_other_calls_are_left_to_python(case):
    """They get what Python gives or says without the compiled step."""
    name, args, options = case
    assert compiled(name, *args, **options) is None

    def public(name, *args, **options):
        return getattr(pyebm, name)(*args, **options)

    with_step, without = (outcome(call, name, args, options) for call in (public, through_python))
    if isinstance(without, torch.Tensor):
        assert_equal(with_step, without)
        assert with_step.requires_grad == without.requires_grad
    else:
        assert type(with_step) is type(without)
        assert str(with_step) == str(without)


def outcome(call, name, args, options):
    try:
        return call(name, *args, **options)
    except Exception as error:
        return error


class TestTheNode:
    def pred(self):
        return X.clone().requires_grad_()

    def test_public_calls_take_it(self, monkeypatch):
        monkeypatch.setattr(_denoising, "_made", None)  # which the way through Python calls
        assert pyebm.dsm_loss(self.pred(), 0.5, NOISE).grad_fn.name() == "LossWithGradientBackward"
        with pytest.raises(TypeError):
            through_python("dsm_loss", self.pred(), 0.5, NOISE)

    def test_a_second_derivative(self):
        second = []
        for call in (compiled, through_python):
            pred = self.pred()
            loss = call("denoising_loss", pred, NOISE, kappa=ROWS, mu=ROWS, x0=X0)
            (first,) = torch.autograd.grad(loss, pred, create_graph=True)
            second.append(torch.autograd.grad(first.square().sum(), pred)[0])
        assert_equal(*second)
        assert second[0].abs().min() > 0

    @pytest.mark.parametrize("noise", [NOISE, Noise(-torch.arange(6), sample_ids=3 * torch.arange(6))])
    def test_a_second_backward(self, noise):
        pred = self.pred()
        loss = compiled("dsm_loss", pred, ROWS, noise)
        first, again = (torch.autograd.grad(loss, pred, retain_graph=True)[0] for _ in range(2))
        assert_equal(first, again)

    @pytest.mark.parametrize("place", [0, 1, 2])
    def test_what_was_overwritten_is_noticed(self, place):
        pred, rows, x0 = self.pred(), ROWS.clone(), X0.clone()
        loss = compiled("denoising_loss", pred, NOISE, kappa=rows, mu=1.0, x0=x0)
        with torch.no_grad():
            (pred, rows, x0)[place].mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()

    def test_a_batch_of_gradients(self):
        pred = self.pred()
        loss = compiled("dsm_loss", pred, 0.5, NOISE)
        above = torch.tensor([1.0, 2.0])
        (grads,) = torch.autograd.grad(loss, pred, above, is_grads_batched=True, retain_graph=True)
        (once,) = torch.autograd.grad(loss, pred)
        assert_equal(grads, torch.stack([once, 2 * once]))

    def test_what_a_hook_raises_is_for_the_caller(self):
        def stop(_):
            raise InterruptedError

        hooks = torch.autograd.graph.saved_tensors_hooks(stop, lambda saved: saved)
        with hooks, pytest.raises(InterruptedError):
            compiled("dsm_loss", self.pred(), 0.5, NOISE)

    def test_of_a_network(self):
        net = torch.nn.Linear(5, 5)
        grads = []
        for call in (compiled, through_python):
            net.zero_grad()
            call("dsm_loss", net(X), ROWS, NOISE, weight="sigma2").backward()
            grads.append(net.weight.grad.clone())
        assert_equal(*grads)

    def test_nothing_follows_where_gradients_are_off(self):
        with torch.no_grad():
            assert compiled("dsm_loss", self.pred(), 0.5, NOISE).grad_fn is None

    def test_no_tensor_is_held(self):
        pred, rows, x0, name = self.pred(), ROWS.clone(), X0.clone(), NOISE._name
        tensors = (pred, rows, x0, name)
        kept = [t._use_count() for t in tensors]
        for kappa in (rows, -rows, rows[:2], None):
            for mu in (1.0, rows, None):
                loss = compiled("denoising_loss", pred, NOISE, kappa=kappa, mu=mu, x0=x0)
                if loss is not None:
                    loss.backward()
        del loss
        pred.grad = None
        assert [t._use_count() for t in tensors] == kept


@pytest.mark.parametrize("name", ["dsm_loss", "denoising_loss"])
@pytest.mark.parametrize(
    "watcher",
    [
        lambda: torch.device("cpu"),
        lambda: torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True),
        profiler.profile,
        forward_ad.dual_level,
    ],
)
def test_nothing_that_wants_to_see_every_op_misses_one(name, watcher):
    args = (X.clone().requires_grad_(), *((0.5,) if name == "dsm_loss" else ()), NOISE)
    with watcher():
        assert compiled(name, *args) is None
    assert compiled(name, *args) is not None


def test_transforms_see_every_op():
    seen = []

    def call(x):
        seen.append(_small_calls._C.dsm_loss(X, 0.5, NOISE))
        return pyebm.dsm_loss(x, 0.5, NOISE)

    want = gradients(through_python, "dsm_loss", X, (X, 0.5, NOISE), {})[1]
    torch.testing.assert_close(torch.func.grad(call)(X), want)
    assert seen == [None]


def test_a_library_of_another_version_takes_no_losses():
    assert _small_calls._C.prepare_losses({}) is False
    assert compiled("dsm_loss", X, 0.5, NOISE) is not None
