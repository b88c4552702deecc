"""A network's loss in one compiled step: the op's bits, and which calls are left to the op."""

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
SIGMAS = torch.linspace(0.1, 1, 20)
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
    """Whether the compiled step took each call."""
    seen: list[bool] = []
    step = _fused._in_one_step

    def noted(*args):
        made = step(*args)
        seen.append(made is not None)
        return made

    monkeypatch.setattr(_fused, "_in_one_step", noted)
    return seen


def target(kind: str = "energy", dtype: torch.dtype = torch.float32):
    net = mlp(3, 1 if kind == "energy" else 3, dtype=dtype)
    return MLPEnergy(net, 0.1) if kind == "energy" else MLPScore(net)


def test_a_network_with_layers_that_have_no_bias(taken, monkeypatch):
    fn, x = (
        MLPScore(
            torch.nn.Sequential(torch.nn.Linear(3, 9, bias=False), torch.nn.Tanh(), torch.nn.Linear(9, 3))
        ),
        normal(20, 3),
    )

    def run():
        return loss_and_gradients(fn, CALLS["denoising"](fn, x))

    got = run()
    assert taken == [True]
    for one, other in zip(got, by_the_op(monkeypatch, run), strict=True):
        assert_equal(one, other)


def loss_and_gradients(fn, loss) -> list[torch.Tensor]:
    found = torch.autograd.grad(loss, tuple(fn.net.parameters()), allow_unused=True)
    return [loss.detach(), *(one for one in found if one is not None)]


def by_the_op(monkeypatch, run) -> list[torch.Tensor]:
    with monkeypatch.context() as patch:
        patch.setattr(_fused, "_in_one_step", lambda *_: None)
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

    @pytest.mark.parametrize(
        "call",
        {
            "x": lambda fn, x: CALLS["denoising"](fn, x),
            "energies of x": lambda fn, x: CALLS["contrastive"](fn, x),
            "seeds": lambda fn, x: pyebm.denoising_score_matching(fn, x, 0.5, Noise(torch.arange(20))),
            "ids": lambda fn, x: pyebm.denoising_score_matching(
                fn, x, 0.5, Noise(3, sample_ids=torch.arange(20) * 7)
            ),
            "sigma": lambda fn, x: pyebm.denoising_score_matching(fn, x, SIGMAS, NOISE),
            "weight": lambda fn, x: pyebm.sliced_score_matching(fn, x, NOISE, weight=SIGMAS),
            "each": lambda fn, x: pyebm.sliced_score_matching(fn, x, NOISE, reduction="sample").mean(),
            "half": lambda fn, x: pyebm.sliced_score_matching(fn, x.detach().half(), NOISE) + 0 * x.sum(),
            "fisher": lambda fn, x: (
                pyebm.fisher_divergence(fn, pyebm.targets.Gaussian(), x.detach()) + 0 * x.sum()
            ),
            "none": lambda fn, x: (
                pyebm.sliced_score_matching(fn, x[:0], NOISE, reduction="sum") + 0 * x.sum()
            ),
        }.items(),
        ids=lambda call: call[0],
    )
    def test_with_a_gradient_by_x(self, call, taken, monkeypatch):
        fn, x = target(), normal(20, 3).requires_grad_()

        def run():
            loss = call[1](fn, x)
            inputs = (x, *fn.net.parameters())
            return [loss.detach(), *torch.autograd.grad(loss, inputs, allow_unused=True)]

        got = run()
        assert taken == [True]
        for one, other in zip(got, by_the_op(monkeypatch, run), strict=True):
            assert one is other is None or torch.equal(one, other)

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
        "change", [lambda x: x.t().contiguous().t(), torch._neg_view], ids=["strides", "sign"]
    )
    def test_samples(self, change, taken, monkeypatch):
        fn, x = target(), change(normal(20, 3))

        def run():
            return loss_and_gradients(fn, pyebm.denoising_score_matching(fn, x, 0.5, NOISE, reduction="sum"))

        got = run()
        assert taken == [False]
        for one, other in zip(got, by_the_op(monkeypatch, run), strict=True):
            assert_equal(one, other)

    def test_samples_of_inference_mode(self, taken):
        """A graph can't keep them."""
        with torch.inference_mode():
            x = normal(20, 3)
        fn = target()
        got = loss_and_gradients(fn, CALLS["denoising"](fn, x))
        assert not taken
        for one, other in zip(got, loss_and_gradients(fn, CALLS["denoising"](fn, x.clone())), strict=True):
            torch.testing.assert_close(one, other)

    def test_levels_that_are_a_parameter(self, taken):
        fn, x = target(), normal(20, 3)
        sigma = torch.nn.Parameter(SIGMAS, requires_grad=False)
        got = pyebm.denoising_score_matching(fn, x, sigma, NOISE)
        assert taken == [False]
        assert_equal(got, pyebm.denoising_score_matching(fn, x, SIGMAS, NOISE))

    def test_parameters(self, taken):
        """A minus sign that torch keeps beside the memory is no part of what the step reads."""
        fn, x = target(), normal(20, 3)
        fn.net[0].weight = torch.nn.Parameter(torch._neg_view(fn.net[0].weight.detach()))
        CALLS["denoising"](fn, x)
        assert taken in ([], [False])

    @pytest.mark.parametrize("kept", [0, 32])
    def test_parameters_without_memory(self, kept):
        fn, x = target(), normal(20, 3)
        CALLS["denoising"](fn, x)
        fn.net[0].weight.untyped_storage().resize_(kept)
        for call in (lambda: CALLS["denoising"](fn, x), lambda: fn.score(x)):
            with pytest.raises(RuntimeError, match="net must have its parameters in memory"):
                call()
