"""A network's loss past torch's dispatcher: the op's bits, and which calls are left to the op."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, normal
from learned_cases import mlp
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import pyebm
from pyebm import Noise
from pyebm.targets import MLPEnergy, MLPScore, _fused

F64 = torch.float64
NOISE = Noise(3, step=2, stream=1).shard(first_sample=5)
CALLS = {
    "denoising": lambda fn, x: pyebm.denoising_score_matching(fn, x, 0.5, NOISE),
    "denoising, weight": lambda fn, x: pyebm.denoising_score_matching(fn, x, 0.5, NOISE, weight="edm"),
    "sliced": lambda fn, x: pyebm.sliced_score_matching(fn, x, NOISE, 2),
    "sliced along": lambda fn, x: pyebm.sliced_score_matching(fn, x, NOISE, 2, variance_reduced=False),
    "exact": lambda fn, x: pyebm.score_matching(fn, x, reduction="sum"),
    "contrastive": lambda fn, x: pyebm.contrastive_divergence(fn, x, x[1:] + 1),
    "contrastive, l2": lambda fn, x: pyebm.contrastive_divergence(fn, x, x + 1, l2=0.5),
}


@pytest.fixture
def taken(monkeypatch) -> list[bool]:
    """Whether the plain entry took each call."""
    seen: list[bool] = []
    plain = _fused.plain_loss

    def noted(*args):
        seen.append(plain(*args))
        return seen[-1]

    monkeypatch.setattr(_fused, "plain_loss", noted)
    return seen


def target(kind: str = "energy", dtype: torch.dtype = torch.float32):
    net = mlp(3, 1 if kind == "energy" else 3, dtype=dtype)
    return MLPEnergy(net, 0.1) if kind == "energy" else MLPScore(net)


def loss_and_gradients(fn, loss) -> list[torch.Tensor]:
    found = torch.autograd.grad(loss, tuple(fn.net.parameters()), allow_unused=True)
    return [loss.detach(), *(one for one in found if one is not None)]


def by_the_op(monkeypatch, run) -> list[torch.Tensor]:
    with monkeypatch.context() as patch:
        patch.setattr(_fused, "plain_loss", lambda *_: False)
        return run()


class TestBits:
    @pytest.mark.parametrize("call", CALLS)
    @pytest.mark.parametrize(
        ("batch", "kind", "dtype"),
        [(70, "energy", torch.float32), (2, "energy", F64), (17, "score", torch.float32)],
    )
    def test_are_the_ops(self, call, batch, kind, dtype, taken, monkeypatch):
        if kind == "score" and call.startswith("contrastive"):
            return
        fn, x = target(kind, dtype), normal(batch, 3, dtype=dtype)

        def run():
            return loss_and_gradients(fn, CALLS[call](fn, x))

        got = run()
        assert taken == [True]
        want = by_the_op(monkeypatch, run)
        assert len(got) == len(want) >= 4
        for one, other in zip(got, want, strict=True):
            assert_equal(one, other)

    def test_a_second_backward(self, taken):
        """It takes the parameters of the forward pass."""
        fn = target()
        loss = CALLS["denoising"](fn, normal(20, 3))
        first = torch.autograd.grad(loss, fn.net[0].weight, retain_graph=True)[0].clone()
        fn.net[0].weight.data = torch.zeros_like(fn.net[0].weight)
        assert_equal(torch.autograd.grad(loss, fn.net[0].weight)[0], first)
        assert taken == [True]

    def test_a_parameter_overwritten_before_the_backward(self, taken):
        fn = target()
        loss = CALLS["denoising"](fn, normal(20, 3))
        with torch.no_grad():
            fn.net[0].weight.mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()
        assert taken == [True]

    def test_the_kept_weights_of_contrastive_divergence(self):
        """A call in inference mode leaves none that a later backward can't save."""
        fn, x = target(), normal(23, 3)
        with torch.inference_mode():
            CALLS["contrastive"](fn, x)
        CALLS["contrastive"](fn, x).backward()
        want = (fn(x).mean() - fn(x[1:] + 1).mean()).detach()
        torch.testing.assert_close(CALLS["contrastive"](fn, x).detach(), want)


class Ops(TorchDispatchMode):
    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        return op(*args, **(kwargs or {}))


class Functions(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


class TestLeftToTheOp:
    @pytest.mark.parametrize("mode", [Ops, Functions, torch.profiler.profile])
    def test_under_a_mode(self, mode, taken):
        fn, x = target(), normal(20, 3)
        want = CALLS["denoising"](fn, x).detach()
        taken.clear()
        with mode():
            got = CALLS["denoising"](fn, x).detach()
        torch.testing.assert_close(got, want)
        assert taken in ([], [False])

    def test_a_profiler_sees_the_op(self):
        fn, x = target(), normal(20, 3)
        with torch.profiler.profile() as profile:
            CALLS["denoising"](fn, x)
        assert "pyebm::network_loss" in {event.name for event in profile.events()}

    @pytest.mark.parametrize(
        "case",
        {
            "half": lambda x: x.half(),
            "strides": lambda x: x.t().contiguous().t(),
            "sign": torch._neg_view,
            "gradient": lambda x: x.clone().requires_grad_(),
            "empty": lambda x: x[:0],
        }.items(),
        ids=lambda case: case[0],
    )
    def test_samples(self, case, taken, monkeypatch):
        fn, x = target(), case[1](normal(20, 3))

        def run():
            return loss_and_gradients(fn, pyebm.denoising_score_matching(fn, x, 0.5, NOISE, reduction="sum"))

        got = run()
        assert taken in ([], [False])
        for one, other in zip(got, by_the_op(monkeypatch, run), strict=True):
            assert_equal(one, other)

    @pytest.mark.parametrize(
        "noise", [Noise(torch.arange(20)), Noise(3, sample_ids=torch.arange(20) * 7)], ids=["seeds", "ids"]
    )
    def test_noise(self, noise, taken):
        fn, x = target(), normal(20, 3)
        loss = pyebm.denoising_score_matching(fn, x, 0.5, noise)
        assert taken == [False]
        score = fn.score(pyebm.perturb(x, 0.5, noise))
        torch.testing.assert_close(loss, pyebm.dsm_loss(score, 0.5, noise, weight="sigma2"))

    def test_sigma_and_weight_per_sample(self, taken):
        fn, x = target(), normal(20, 3)
        sigma = torch.linspace(0.1, 1, 20)
        pyebm.denoising_score_matching(fn, x, sigma, NOISE).backward()
        pyebm.sliced_score_matching(fn, x, NOISE, weight=sigma).backward()
        assert taken == [False, True]  # the second has its weights in float64

    def test_parameters_without_memory(self):
        fn, x = target(), normal(20, 3)
        CALLS["denoising"](fn, x)
        fn.net[0].weight.untyped_storage().resize_(0)
        with pytest.raises(RuntimeError, match="net must have its parameters in memory"):
            CALLS["denoising"](fn, x)
