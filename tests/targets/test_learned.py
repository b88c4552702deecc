"""MLPEnergy and MLPScore: values, derivatives, conditions, parameters that are never stale, and
torch's treatments of a target."""

from __future__ import annotations

import copy

import pytest
import torch
from cases import assert_equal, normal
from learned_cases import ACTIVATIONS, energy_of, mlp, seeded, wired
from torch import nn

import pyebm
from pyebm import Noise
from pyebm.targets import MLPEnergy, MLPScore, Residual
from pyebm.targets._learned import Learned

pytestmark = pytest.mark.usefixtures("one_thread")
F64 = torch.float64
NOISE = Noise(3, step=2)
close = torch.testing.assert_close


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_is_the_network(activation):
    """Energy and score are the network's in both dtypes; the kernel and grad mode give the same
    bits."""
    for dtype, tolerance in ((F64, 1e-12), (torch.float32, 2e-5)):
        net, x = mlp(3, 1, activation, dtype=dtype), normal(9, 3, dtype=dtype)
        target, eager = MLPEnergy(net, 0.3), energy_of(net, 0.3)
        with torch.no_grad():
            energy, score = target(x), target.score(x)
        close(energy, eager(x).detach(), rtol=tolerance, atol=tolerance)
        close(score, pyebm.energy_score(eager, x), rtol=tolerance, atol=tolerance)
        assert_equal(target(x).detach(), energy)
        assert_equal(target.score(x).detach(), score)
        vector = MLPScore(mlp(3, 3, activation, dtype=dtype))
        close(vector(x), vector.net(x), rtol=tolerance, atol=tolerance)
        with torch.no_grad():
            assert_equal(vector(x), vector.score(x))


def test_wiring():
    """Residuals, input skips, nesting, Linear without bias or activation, modules that do nothing;
    samples of any shape."""
    net, x = wired(6, 1, F64), normal(5, 2, 3, dtype=F64)
    target = MLPEnergy(net)
    with torch.no_grad():
        close(target(x), net(x).squeeze(1), rtol=1e-12, atol=1e-12)
        close(target.score(x), pyebm.energy_score(energy_of(net), x), rtol=1e-12, atol=1e-12)
        flat = nn.Sequential(net, nn.Flatten(0))  # (B,)
        assert_equal(MLPEnergy(flat)(x), target(x))
        assert target(x[:0]).shape == (0,)
        assert target.score(x[:0]).shape == (0, 2, 3)
    first = seeded(nn.Sequential(Residual(nn.Linear(6, 6), nn.Tanh()), nn.Linear(6, 1)), F64)  # of x itself
    close(
        MLPEnergy(first).score(x),
        pyebm.energy_score(energy_of(nn.Sequential(nn.Flatten(), first)), x),
        rtol=1e-12,
        atol=1e-12,
    )
    score = MLPScore(wired(6, 6, F64))
    close(score(x), score.net(x).reshape(5, 2, 3), rtol=1e-12, atol=1e-12)


def test_half_precisions():
    """Computes in float32 and rounds once; half-precision weights are widened."""
    net, x = mlp(3, 1), normal(9, 3)
    with torch.no_grad():
        target = MLPEnergy(net, 0.1)
        for dtype in (torch.float16, torch.bfloat16):
            narrow = x.to(dtype)
            assert_equal(target.score(narrow), target.score(narrow.float()).to(dtype))
            assert_equal(target(narrow), target(narrow.float()))
            half = copy.deepcopy(net).to(dtype)
            assert_equal(MLPEnergy(half)(x), MLPEnergy(copy.deepcopy(half).float())(x))
    grad = MLPEnergy(half)(x.requires_grad_()).sum()
    grad.backward()
    assert half[0].weight.grad.dtype is torch.bfloat16
    assert x.grad.dtype is torch.float32


class TestCondition:
    @pytest.mark.parametrize("make", [lambda: mlp(5, 2, dtype=F64), lambda: wired(5, 2, F64)])
    def test_is_the_network_of_both(self, make):
        target, x, c = MLPScore(make(), condition=3), normal(4, 2, dtype=F64), normal(4, 3, dtype=F64, seed=1)
        with torch.no_grad():
            close(target.given(c).score(x), target.net(torch.cat((x, c), 1)), rtol=1e-12, atol=1e-12)
            close(target(x, c[0]), target.net(torch.cat((x, c[:1].expand(4, 3)), 1)), rtol=1e-12, atol=1e-12)
            assert_equal(target(x, c), torch.cat([target(x[k : k + 1], c[k : k + 1]) for k in range(4)]))
        assert_equal(target(x, c).detach(), target.given(c)(x).detach())

    def test_one_number(self):
        """A noise level may come as a number, (), (1,), (B,) or (B, 1)."""
        target, x = MLPEnergy(mlp(3, 1), condition=1), normal(4, 2)
        with torch.no_grad():
            want = target(x, torch.full((4, 1), 0.5))
            for c in (0.5, torch.tensor(0.5), torch.tensor([0.5]), torch.full((4,), 0.5)):
                assert_equal(target(x, c), want)
                assert_equal(target.given(c).score(x), target.score(x, torch.full((4, 1), 0.5)))

    def test_embedding(self):
        embedding = nn.Sequential(nn.Linear(1, 4), nn.SiLU())
        target, x, c = MLPEnergy(mlp(6, 1), condition=4, embedding=embedding), normal(3, 2), torch.rand(3, 1)
        close(target(x, c), target.net(torch.cat((x, embedding(c)), 1)).squeeze(1))
        target(x, c).sum().backward()
        assert embedding[0].weight.grad.abs().sum() > 0

    def test_a_frozen_network(self):
        """An embedding that is no module, and c, get gradients although nothing else is
        differentiated."""
        scale, target_net = torch.tensor(1.5, requires_grad=True), mlp(3, 1).requires_grad_(False)
        target = MLPEnergy(target_net, condition=1, embedding=lambda c: (scale * c).reshape(-1, 1))
        target(normal(4, 2), torch.rand(4)).sum().backward()
        assert scale.grad.isfinite()

    def test_by_the_condition(self):
        target, x, c = (
            MLPEnergy(mlp(3, 1, dtype=F64), condition=1),
            normal(4, 2, dtype=F64),
            normal(4, 1, dtype=F64, grad=True),
        )
        torch.autograd.gradcheck(lambda c: target.given(c).score(x), c)

    def test_refusals(self):
        target, x = MLPScore(mlp(4, 2), condition=2), normal(4, 2)
        for call, error, match in (
            (lambda: target(x), ValueError, "takes a condition"),
            (
                lambda: target.given(torch.zeros(3)),
                ValueError,
                r"c must have the shape \(2,\) or \(B, 2\), got \(3,\)",
            ),
            (lambda: target(x, torch.zeros(3, 2)), ValueError, r"\(4, 2\), got \(3, 2\)"),
            (lambda: target(x, torch.zeros(4, 2, dtype=torch.int64)), TypeError, "floating-point"),
            (lambda: MLPScore(mlp(2, 2)).given(0.1), ValueError, "no condition"),
            (lambda: MLPScore(mlp(4, 2), condition=-1), ValueError, "condition must be"),
            (lambda: MLPScore(mlp(2, 2), embedding=torch.sin), ValueError, "embedding must be"),
        ):
            with pytest.raises(error, match=match):
                call()


class TestChain:
    def test_equals_the_loop(self):
        """The chain is a loop of score and langevin_step: in grad mode too, with a clamp,
        thinned, cut in two, in half precision."""
        target, start = MLPEnergy(mlp(3, 1), 0.5), normal(6, 3)
        for x in (start, start.double(), start.bfloat16()):
            loop, kept = x, []
            for k in range(6):
                score = target.score(loop).detach()
                loop = pyebm.langevin_step(
                    loop, score, 0.1, NOISE.at(step=2 + k), temperature=0.7, clamp=(-1, 1)
                )
                kept.append(loop)
            made, states = pyebm.langevin_chain(
                x, target, 6, 0.1, NOISE, temperature=0.7, clamp=(-1, 1), thin=2
            )
            assert_equal(made, loop)
            assert_equal(states, torch.stack(kept[1::2]))
        half = pyebm.langevin_chain(start, target, 2, 0.1, NOISE)
        whole = pyebm.langevin_chain(half, target, 4, 0.1, NOISE.at(step=4))
        assert_equal(whole, pyebm.langevin_chain(start, target, 6, 0.1, NOISE))
        assert_equal(
            whole[2:3], pyebm.langevin_chain(start[2:3], target, 6, 0.1, NOISE.shard(first_sample=2))
        )

    def test_with_a_condition(self):
        target, x, c = MLPScore(wired(5, 3), condition=2).given(normal(6, 2)), normal(6, 3), normal(6, 2)
        loop = x
        for k in range(3):
            loop = pyebm.langevin_step(loop, target.score(loop).detach(), 0.1, NOISE.at(step=2 + k))
        assert_equal(pyebm.langevin_chain(x, target, 3, 0.1, NOISE), loop)
        one = target.given(c[0])
        assert_equal(
            pyebm.langevin_chain(x, one, 3, 0.1, NOISE),
            pyebm.langevin_chain(x, target.given(c[:1].expand(6, 2)), 3, 0.1, NOISE),
        )

    def test_is_a_constant(self):
        target, x = MLPEnergy(mlp(3, 1), 0.5), normal(6, 3)
        for given in (x, x.clone().requires_grad_()):
            made = pyebm.langevin_chain(given, target, 3, 0.1, NOISE)
            assert not made.requires_grad
            with pytest.raises(RuntimeError, match="does not require grad"):
                made.sum().backward()
        well = pyebm.targets.DoubleWell()
        assert not pyebm.langevin_chain(given, well, 3, 0.1, NOISE, differentiable=False).requires_grad
        assert pyebm.langevin_chain(given, well, 3, 0.1, NOISE).requires_grad

    def test_refuses_what_it_would_drop(self):
        target, x = MLPEnergy(mlp(3, 1), 0.5), normal(6, 3)

        def chain(x):
            return pyebm.langevin_chain(x, target, 3, 0.1, NOISE)

        for call in (
            lambda: torch.func.jvp(chain, (x,), (x,)),
            lambda: torch.func.grad(lambda x: chain(x).sum())(x),
        ):
            with pytest.raises(RuntimeError, match="differentiable=True"):
                call()
        assert_equal(torch.vmap(chain)(x.reshape(2, 3, 3)), torch.stack([chain(x[:3]), chain(x[3:])]))

    def test_differentiable(self):
        net, x = mlp(3, 1, dtype=F64), normal(4, 3, dtype=F64, grad=True)
        target = MLPEnergy(net, 0.5)
        made = pyebm.langevin_chain(x, target, 3, 0.1, NOISE, differentiable=True)
        assert_equal(made.detach(), pyebm.langevin_chain(x, target, 3, 0.1, NOISE))
        loop = x
        for k in range(3):
            score = pyebm.energy_score(energy_of(net, 0.5), loop, create_graph=True)
            loop = pyebm.langevin_step(loop, score, 0.1, NOISE.at(step=2 + k))
        leaves = (x, *net.parameters())
        for one, other in zip(
            torch.autograd.grad(made.square().sum(), leaves, allow_unused=True),
            torch.autograd.grad(loop.square().sum(), leaves, allow_unused=True),
            strict=True,
        ):
            close(one, other)

    def test_diverged(self):
        target = MLPEnergy(nn.Linear(2, 1), -1e30)
        _, diverged = pyebm.langevin_chain(normal(3, 2), target, 5, 0.1, NOISE, return_diverged=True)
        assert (diverged >= 0).all()


def test_without_a_kernel(monkeypatch):
    """Without a kernel, as on some device, the module itself runs with the same noise, and the
    chain has no derivative."""
    target, score, x = MLPEnergy(mlp(3, 1), 0.5), MLPScore(mlp(4, 3), condition=1), normal(6, 3)
    sampler = pyebm.samplers.Langevin(target, 0.1)
    annealed = pyebm.samplers.AnnealedLangevin(score, [1.0, 0.5], 0.1, 2)

    def all_of():
        with torch.no_grad():
            values = [target(x), target.score(x)]
        chain = pyebm.langevin_chain(x, target, 5, 0.1, NOISE)
        assert not chain.requires_grad
        return [
            *values,
            chain,
            sampler(x, 5, noise=3),
            annealed(x, noise=3),
            pyebm.samplers.MALA(target, 0.1)(x, 5, noise=3),
        ]

    want = all_of()
    monkeypatch.setattr(Learned, "_has_chain", lambda *_: False)
    for one, other in zip(all_of(), want, strict=True):
        close(one, other, rtol=1e-4, atol=1e-4)
