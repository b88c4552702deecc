"""MLPEnergy and MLPScore: values, derivatives, conditions, parameters that are never stale, and
torch's treatments of a target."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.distributed as dist
from cases import assert_equal, normal
from learned_cases import ACTIVATIONS, SMOOTH, energy_of, mlp, seeded, wired
from torch import nn
from torch.func import functional_call
from torch.testing._internal.two_tensor import TwoTensor

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


def seeded_twice(net):
    net = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(2)
    return net


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


class TestSurroundings:
    @pytest.mark.filterwarnings("ignore")  # torch warns while it compiles
    def test_compiled(self):
        target, level, x = MLPEnergy(mlp(2, 1), 0.5), MLPScore(mlp(3, 2), condition=1), normal(4, 2)
        annealed = pyebm.samplers.AnnealedLangevin(level, [1.0, 0.5], 0.1, 2)
        for function in (
            target.score,
            target,
            lambda x: pyebm.langevin_chain(x, target, 3, 0.1, NOISE),
            lambda x: pyebm.langevin_chain(x, target, 3, 0.1, NOISE, differentiable=True),
            lambda x: level(x, x[:, 0]),
            lambda x: annealed(x, noise=0),
        ):
            assert_equal(torch.compile(function, fullgraph=True, backend="aot_eager")(x), function(x))

    @pytest.mark.filterwarnings("ignore")
    def test_exported(self):
        class Chain(nn.Module):
            def __init__(self):
                super().__init__()
                self.target = MLPEnergy(mlp(2, 1), 0.5)

            def forward(self, x):
                return pyebm.langevin_chain(x, self.target, 3, 0.1, NOISE)

        model, x = Chain(), normal(4, 2)
        assert_equal(torch.export.export(model, (x,)).module()(x), model(x))

    def test_meta(self):
        with torch.device("meta"):
            target = MLPEnergy(nn.Sequential(nn.Linear(2, 8), nn.SiLU(), nn.Linear(8, 1)))
            x = torch.empty(4, 2)
        assert repr(target)
        for made in (
            target.score(x),
            pyebm.langevin_chain(x, target, 3, 0.1, NOISE),
            pyebm.samplers.Langevin(target, 0.1)(x, 3, noise=0),
        ):
            assert made.is_meta
            assert made.shape == x.shape
        assert target(x).shape == (4,)

    def test_modes(self):
        """Autocast, inference mode and the default dtype change no bit."""
        target, x = MLPEnergy(mlp(2, 1), 0.5), normal(4, 2)

        def all_of():
            return [
                target(x),
                target.score(x),
                target.hvp(x, x),
                pyebm.langevin_chain(x, target, 3, 0.1, NOISE),
            ]

        want = all_of()
        with torch.autocast("cpu", torch.bfloat16):
            assert_equal(all_of(), want)
        with torch.inference_mode():
            assert_equal([one.clone() for one in all_of()], [one.detach() for one in want])
        torch.set_default_dtype(F64)
        try:
            assert_equal(all_of(), want)
        finally:
            torch.set_default_dtype(torch.float32)

    def test_reference(self):
        target, x = MLPEnergy(mlp(2, 1), 0.5), normal(4, 2)
        with torch.no_grad():
            close(target.score(x, backend="reference"), target.score(x))
        made = pyebm.langevin_chain(x, target, 3, 0.1, NOISE, backend="reference")
        close(made, pyebm.langevin_chain(x, target, 3, 0.1, NOISE))

    def test_subclasses(self):
        """For tensors with operations of their own, an energy is the module's own operations; a
        score refuses them, as every target's does."""
        target, x = MLPEnergy(mlp(2, 1), 0.5), normal(4, 2)
        both = TwoTensor(x.clone(), x.clone())
        close(target(both).a, target(x))
        with pytest.raises(TypeError, match="score: x must be a plain tensor or a DTensor, got TwoTensor"):
            target.score(both)
        assert_equal(target.score(nn.Parameter(x)).detach(), target.score(x).detach())

    @pytest.mark.skipif(
        not (dist.is_available() and dist.is_gloo_available()), reason="torch has no gloo here"
    )
    def test_dtensor(self, tmp_path):
        """Sharded by samples: the chain is a constant; energies and scores work where nothing
        requires grad."""
        from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh

        dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
        try:
            target, x = MLPEnergy(mlp(2, 1), 0.5), normal(4, 2)
            sharded = distribute_tensor(x, init_device_mesh("cpu", (1,)), [Shard(0)])
            chain = pyebm.langevin_chain(sharded, target, 3, 0.1, NOISE)
            assert_equal(chain.to_local(), pyebm.langevin_chain(x, target, 3, 0.1, NOISE))
            for call in (
                target,
                target.score,
                lambda x: pyebm.langevin_chain(x, target, 3, 0.1, NOISE, differentiable=True),
            ):
                with pytest.raises(ValueError, match="must not require grad where x is a DTensor"):
                    call(sharded)
                with torch.no_grad():
                    assert_equal(call(sharded).to_local(), call(x))
        finally:
            dist.destroy_process_group()
