"""Gradients of learned energies, of scores and of losses on them: the kernels' equal autograd's,
in one backward pass, in further ones, and beside other derivatives."""

from __future__ import annotations

import copy

import pytest
import torch
from cases import assert_equal, normal
from learned_cases import SMOOTH, mlp, wired
from torch import Tensor, nn

import pyebm
from pyebm import _ops
from pyebm.targets import MLPEnergy, MLPScore
from pyebm.targets import _gradients as gradients
from pyebm.targets._fused import Terms, fused_loss

BOUND = {torch.float32: 3e-5, torch.float64: 1e-13}


@pytest.fixture
def launches(monkeypatch) -> list[str]:
    """Collects the names of the ops that run."""
    seen: list[str] = []

    def noted(name, op):
        def run(*args, **kwargs):
            seen.append(name)
            op(*args, **kwargs)

        return run

    table = {name: noted(name, op) for name, op in _ops._REGISTERED.items()}
    monkeypatch.setattr(_ops, "_REGISTERED", table)
    return seen


def learned(kind: str, dtype: torch.dtype = torch.float32, activation: str = "silu", dim: int = 3):
    net = mlp(dim, 1 if kind == "energy" else dim, activation, dtype=dtype)
    return MLPEnergy(net, quadratic=0.1) if kind == "energy" else MLPScore(net)


def truth(target, dtype: torch.dtype = torch.float64):
    """Returns energy, score and parameters of a copy in float64, by torch's own operations."""
    twin = copy.deepcopy(target).to(dtype)

    def energy(x: Tensor) -> Tensor:
        return twin.net(x).reshape(len(x)) + twin.quadratic.to(dtype) * x.square().sum(1)

    def score(x: Tensor) -> Tensor:
        if isinstance(twin, MLPScore):
            return twin.net(x)
        x = x if x.requires_grad else x.requires_grad_()
        return -torch.autograd.grad(energy(x).sum(), x, create_graph=True)[0]

    return energy, score, list(twin.net.parameters())


def assert_near(got, want, bound: float) -> None:
    for one, of_truth in zip(got, want, strict=True):
        scale = max(float(of_truth.abs().max()), 1e-3)
        assert (one.double() - of_truth).abs().max() <= bound * scale


def gradient_of(parameter: Tensor) -> Tensor:
    """A gradient of zeros where autograd leaves None because nothing depends on the parameter: a
    score does not depend on the last bias of its energy."""
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


@pytest.mark.parametrize("dtype", BOUND, ids=str)
@pytest.mark.parametrize("activation", SMOOTH)
class TestBackward:
    def test_of_an_energy(self, launches, activation, dtype):
        target, x, a = (
            learned("energy", dtype, activation),
            normal(21, 3, dtype=dtype),
            normal(21, dtype=dtype, seed=1),
        )
        energy, _, parameters = truth(target)
        at, of_truth = x.clone().requires_grad_(), x.double().requires_grad_()
        (a * target.energy(at)).sum().backward()
        want = torch.autograd.grad(
            (a.double() * energy(of_truth)).sum(), [*parameters, of_truth], materialize_grads=True
        )
        assert_near([*(gradient_of(p) for p in target.net.parameters()), at.grad], want, BOUND[dtype])
        assert launches == ["network_score", "network_grad"]

    @pytest.mark.parametrize("kind", ["energy", "score"])
    def test_of_a_score(self, launches, kind, activation, dtype):
        target, x, u = (
            learned(kind, dtype, activation),
            normal(21, 3, dtype=dtype),
            normal(21, 3, dtype=dtype, seed=1),
        )
        _, score, parameters = truth(target)
        at, of_truth = x.clone().requires_grad_(), x.double().requires_grad_()
        (u * target.score(at)).sum().backward()
        want = torch.autograd.grad(
            (u.double() * score(of_truth)).sum(), [*parameters, of_truth], materialize_grads=True
        )
        assert_near([*(gradient_of(p) for p in target.net.parameters()), at.grad], want, BOUND[dtype])
        assert launches == ["network_score", "network_grad"]


class TestAgain:
    """Derivatives of a gradient are composed."""

    @pytest.mark.parametrize("kind", ["energy", "score"])
    def test_gradgradcheck(self, kind):
        target, x = learned(kind, torch.float64), normal(2, 3, dtype=torch.float64).requires_grad_()
        weight = target.net[0].weight

        def score(x: Tensor, weight: Tensor) -> Tensor:
            with torch.no_grad():
                return_to = target.net[0]._parameters["weight"]
            target.net[0]._parameters["weight"] = weight
            try:
                return target.score(x)
            finally:
                target.net[0]._parameters["weight"] = return_to

        assert torch.autograd.gradcheck(score, (x, weight))
        assert torch.autograd.gradgradcheck(score, (x, weight))

    def test_x_that_depends_on_the_parameters(self):
        """The gradient counts the way through x once."""
        target, x = learned("energy", torch.float64), normal(5, 3, dtype=torch.float64)
        _, score, parameters = truth(target)
        found = []
        for s, of in ((target.score, list(target.net.parameters())), (score, parameters)):
            y = x + 0.1 * s(x)
            first = torch.autograd.grad(s(y).square().sum(), of, create_graph=True, materialize_grads=True)
            found.append(
                torch.autograd.grad(sum(g.square().sum() for g in first), of, materialize_grads=True)
            )
        assert_near(*found, 1e-10)

    def test_batched_gradients(self):
        target, x = learned("energy"), normal(4, 3).requires_grad_()
        energies = target.energy(x)
        jacobian = torch.autograd.grad(energies, x, torch.eye(4), is_grads_batched=True)[0]
        torch.testing.assert_close(jacobian.sum(0), -target.score(x).detach(), rtol=1e-5, atol=1e-6)

    def test_hessian_by_create_graph(self):
        target, x, v = (
            learned("energy", torch.float64),
            normal(4, 3, dtype=torch.float64).requires_grad_(),
            normal(4, 3, seed=2),
        )
        (gradient,) = torch.autograd.grad(target.energy(x).sum(), x, create_graph=True)
        (product,) = torch.autograd.grad((gradient * v).sum(), x)
        torch.testing.assert_close(product, target.hvp(x, v.double()).detach(), rtol=1e-10, atol=1e-11)


class TestWhatIsWanted:
    def test_x_alone(self, launches):
        """Frozen weights get no gradient, and cost none."""
        target, x = learned("energy"), normal(9, 3).requires_grad_()
        target.requires_grad_(False)
        (gradient,) = torch.autograd.grad(target.energy(x).sum(), x)
        torch.testing.assert_close(gradient, -target.score(x).detach(), rtol=1e-5, atol=1e-6)
        assert launches[:2] == ["network_score", "network_grad"]

    @pytest.mark.parametrize("each", [True, False])
    @pytest.mark.parametrize("frozen", [True, False])
    def test_a_condition(self, each, frozen):
        net = mlp(3 + 2, 1, dtype=torch.float64)
        target, x = MLPEnergy(net, condition=2), normal(7, 3, dtype=torch.float64)
        target.requires_grad_(not frozen)
        c = normal(*((7, 2) if each else (2,)), dtype=torch.float64, seed=5).requires_grad_()
        of = [c] if frozen else [c, *net.parameters()]
        got = torch.autograd.grad(target.score(x, c).square().sum(), of, materialize_grads=True)
        at = x.clone().requires_grad_()
        energy = net(torch.cat((at, c.expand(7, 2)), 1)).sum()
        score = -torch.autograd.grad(energy, at, create_graph=True)[0]
        assert_near(got, torch.autograd.grad(score.square().sum(), of, materialize_grads=True), 1e-12)

    def test_wiring_and_no_bias(self):
        net = wired(4, 1, torch.float64)
        target, x = MLPEnergy(net), normal(9, 4, dtype=torch.float64)
        got = torch.autograd.grad(
            target.score(x).square().sum(), list(net.parameters()), materialize_grads=True
        )
        at = x.clone().requires_grad_()
        score = torch.autograd.grad(net(at).sum(), at, create_graph=True)[0]
        assert_near(
            got,
            torch.autograd.grad(score.square().sum(), list(net.parameters()), materialize_grads=True),
            1e-11,
        )

    def test_half_precision(self):
        net = mlp(3, 1).to(torch.bfloat16)
        target, x = MLPEnergy(net), normal(9, 3, dtype=torch.bfloat16)
        target.energy(x).sum().backward()
        assert all(p.grad is not None and p.grad.dtype is torch.bfloat16 for p in net.parameters())

    def test_an_optimisers_step_between(self):
        """It is an error, as in torch."""
        target, x = learned("energy"), normal(9, 3)
        for value in (target.energy(x).sum(), fused_loss(target, x, Terms()).double()):
            with torch.no_grad():
                target.net[0].weight.add_(1.0)
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                value.backward()

    def test_a_sample_made_in_inference_mode(self):
        """Autograd can't keep such a sample, so the composed operations take a copy."""
        target = learned("energy")
        with torch.inference_mode():
            x = normal(5, 3).clone()
        target.score(x).sum().backward()
        assert target.net[0].weight.grad.any()
        assert fused_loss(target, x, Terms()) is None

    def test_meta(self):
        target = learned("energy").to("meta")
        value = target.energy(torch.empty(5, 3, device="meta"))
        gradients = torch.autograd.grad(value.sum(), list(target.net.parameters()), allow_unused=True)
        assert gradients[0].is_meta

    def test_an_empty_batch(self):
        target = learned("energy")
        target.energy(torch.empty(0, 3)).sum().backward()
        assert not any(p.grad.any() for p in target.net.parameters())


def test_training_is_the_same_on_any_number_of_threads():
    def trained() -> list[Tensor]:
        torch.manual_seed(0)
        net = mlp(2, 1, width=32)
        energy, optimiser = MLPEnergy(net), torch.optim.SGD(net.parameters(), 0.05)
        noise, x = pyebm.Noise(0), normal(200, 2)
        for step in range(5):
            now = noise.at(step=step)
            loss = pyebm.dsm_loss(energy.score(pyebm.perturb(x, 0.3, now)), 0.3, now)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return [p.detach().clone() for p in net.parameters()]

    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(trained())
    finally:
        torch.set_num_threads(before)
    assert_equal(found[1], found[0])
    assert_equal(found[2], found[0])


def test_a_gradient_of_a_wrapped_network_is_its_own():
    """DDP's backward relies on its own forward, so the kernel's gradient does not replace it."""
    net = mlp(3, 1)
    wrapped = nn.DataParallel(net)
    value = MLPEnergy(wrapped).energy(normal(5, 3))
    assert gradients.Evaluation.__name__ not in type(value.grad_fn).__name__
