"""The derivatives of learned targets, and the parameters that they follow."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from cases import assert_equal, normal
from learned_cases import SMOOTH, energy_of, mlp, seeded, wired
from torch import nn
from torch.func import functional_call

import pyebm
from pyebm import Noise
from pyebm.targets import MLPEnergy, MLPScore

F64 = torch.float64
NOISE = Noise(3, step=2)
close = torch.testing.assert_close


def seeded_twice(net):
    net = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(2)
    return net


class TestDerivatives:
    @pytest.mark.parametrize("activation", SMOOTH)
    def test_gradients(self, activation):
        target = MLPEnergy(mlp(2, 1, activation, 4, F64), 0.2)
        names, values = zip(*target.named_parameters(), strict=True)
        x = normal(3, 2, dtype=F64, grad=True)

        def energy(x, *values):
            return functional_call(target, dict(zip(names, values, strict=True)), (x,))

        torch.autograd.gradcheck(energy, (x, *values))
        torch.autograd.gradcheck(target.score, x)
        torch.autograd.gradgradcheck(target, x)

    def test_scores_gradient_by_the_parameters(self):
        """A denoising loss of an energy needs this gradient: double backward."""
        target, x = MLPEnergy(mlp(3, 1, dtype=F64), 0.2), normal(6, 3, dtype=F64)
        got = torch.autograd.grad(
            target.score(x).square().sum(), tuple(target.parameters()), allow_unused=True
        )
        want = pyebm.energy_score(energy_of(target.net, 0.2), x, create_graph=True).square().sum()
        want = torch.autograd.grad(want, tuple(target.parameters()), allow_unused=True)
        for one, other in zip(got, want, strict=True):
            close(one, other)

    def test_transforms(self):
        target, x, v = (
            MLPEnergy(mlp(3, 1, dtype=F64)),
            normal(6, 3, dtype=F64),
            normal(6, 3, dtype=F64, seed=1),
        )
        eager = energy_of(target.net)
        for function, plain in (
            (target, eager),
            (target.score, lambda x: pyebm.energy_score(eager, x, create_graph=True)),
        ):
            for one, other in zip(
                torch.func.jvp(function, (x,), (v,)), torch.func.jvp(plain, (x,), (v,)), strict=True
            ):
                close(one, other)
            assert_equal(
                torch.vmap(function)(x.reshape(2, 3, 3)), torch.stack([function(x[:3]), function(x[3:])])
            )
        close(torch.func.grad(lambda x: target(x).sum())(x), -target.score(x))

    def test_an_ensemble(self):
        """torch.vmap runs over stacked parameters."""
        nets = [seeded(mlp(3, 1), seed=k) for k in range(3)]
        parameters, buffers = torch.func.stack_module_state([MLPEnergy(net) for net in nets])
        target, x = MLPEnergy(mlp(3, 1)), normal(4, 3)
        got = torch.vmap(lambda p: functional_call(target, (p, {}), (x,)))(parameters)
        assert buffers
        assert_equal(got, torch.stack([MLPEnergy(net)(x) for net in nets]))

    @pytest.mark.parametrize("activation", SMOOTH)
    def test_second_derivatives(self, activation):
        target, x, v = (
            MLPEnergy(mlp(3, 1, activation, dtype=F64), 0.4),
            normal(4, 3, dtype=F64),
            normal(4, 3, dtype=F64, seed=1),
        )
        eager = energy_of(target.net, 0.4)
        hessian = torch.stack(
            [torch.autograd.functional.hessian(lambda one: eager(one[None])[0], row) for row in x]
        )
        close(target.hvp(x, v), (hessian @ v.unsqueeze(2)).squeeze(2))
        close(target.laplacian(x), hessian.diagonal(dim1=1, dim2=2).sum(1))
        with torch.no_grad():
            close(target.hvp(x.reshape(4, 3, 1), v.reshape(4, 3, 1)).reshape(4, 3), target.hvp(x, v))
            assert_equal(target.hvp(x, v), MLPEnergy(target.net, 0.4).hvp(x, v))
        assert_equal(target.hvp(x, v).detach(), target.hvp(x.detach(), v).detach())
        level, c = MLPEnergy(mlp(5, 1, activation, dtype=F64), condition=2), normal(4, 2, dtype=F64, seed=2)
        plain = energy_of(lambda x: level.net(torch.cat((x, c), 1)))
        want = torch.func.jvp(torch.func.grad(lambda x: plain(x).sum()), (x,), (v,))[1]
        close(level.given(c).hvp(x, v), want)
        with torch.no_grad():
            close(level.given(c).hvp(x, v), want.detach())
        target.laplacian(x).sum().backward()
        assert target.net[0].weight.grad.isfinite().all()

    def test_through_a_wrapper(self):
        """DataParallel, like DistributedDataParallel, has a forward of its own: autograd must
        see it."""
        seen = []

        class Wrapper(nn.DataParallel):
            def forward(self, *args):
                seen.append(1)
                return super().forward(*args)

        net, x = mlp(2, 1), normal(4, 2)
        assert_equal(MLPEnergy(Wrapper(net))(x), MLPEnergy(net)(x))
        assert seen
        assert_equal(MLPEnergy(torch.compile(net, backend="eager"))(x), MLPEnergy(net)(x))


class TestParameters:
    """A call uses the numbers that the module has at that time."""

    def test_every_way_to_write(self):
        net, x = mlp(2, 1), normal(4, 2)
        target, optimiser = MLPEnergy(net), torch.optim.SGD(net.parameters(), 0.1)
        other = mlp(2, 1, "tanh")

        def step():
            target(x).sum().backward()
            optimiser.step()

        def write():
            net[0].weight.data.mul_(1.5)

        def replace():
            net[1] = nn.Tanh()

        def set_slope():
            net[1] = nn.ELU(0.3)
            target(x)
            net[1].alpha = 1.7

        for change in (
            step,
            write,
            lambda: net.load_state_dict(other.state_dict()),
            replace,
            set_slope,
            lambda: net.append(nn.Tanh()),
        ):
            with torch.no_grad():
                before = target(x)
            change()
            with torch.no_grad():
                assert not torch.equal(target(x), before)
                close(target(x), net(x).squeeze(1), rtol=1e-5, atol=1e-6)

    def test_functional_call(self):
        target, x = MLPEnergy(mlp(2, 1), 0.2), normal(4, 2)
        twice = {name: 2 * parameter for name, parameter in target.named_parameters()}
        before = target(x)
        close(functional_call(target, twice, (x,)), energy_of(seeded_twice(target.net), 0.2)(x))
        assert_equal(target(x), before)

    def test_copies(self):
        x = normal(4, 2)
        target = MLPScore(wired(3, 2), condition=1).given(0.5)
        for made in (copy.deepcopy(target), pickle.loads(pickle.dumps(target)), copy.copy(target)):
            assert_equal(made(x), target(x))
        energy, other = MLPEnergy(mlp(2, 1), 0.25), MLPEnergy(mlp(2, 1, "tanh"), 1.0)
        other.load_state_dict(energy.state_dict())
        assert other.quadratic == 0.25
        assert set(energy.state_dict()) == {"quadratic", *(f"net.{name}" for name in energy.net.state_dict())}
        assert "quadratic=0.25" in repr(energy)
        assert "condition=1, c=<()>" in repr(target)
        assert repr(pyebm.samplers.Langevin(energy, 0.1)) == "Langevin(MLPEnergy(...), step_size=0.1)"
