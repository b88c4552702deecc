"""Every differentiable call in both modes of autograd and under the transforms of torch.func."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from choice import thinned
from torch import Tensor
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

import pyebm

NOISE = pyebm.Noise(3, first_sample=5, step=2)
SHAPE = (3, 2)
TARGETS = {
    "double_well": pyebm.targets.DoubleWell(),
    "gaussian": pyebm.targets.Gaussian(torch.tensor([0.5, -1.0]), 2.0),
    "full": pyebm.targets.Gaussian(covariance=torch.tensor([[1.0, 0.5], [0.5, 2.0]])),
    "mixture": pyebm.targets.GaussianMixture(torch.tensor([[-1.0, 0.0], [1.0, 0.5]]), 0.7),
    "diagonal": pyebm.targets.GaussianMixture(
        torch.tensor([[-1.0, 0.0], [1.0, 0.5]]), torch.tensor([[0.7, 1.0], [0.5, 0.8]])
    ),
    "polynomial": pyebm.targets.Polynomial([0.0, 0.3, -1.0, 0.0, 0.25]),
    "rastrigin": pyebm.targets.Rastrigin(),
    "rosenbrock": pyebm.targets.Rosenbrock(),
    "ackley": pyebm.targets.Ackley(),
    "funnel": pyebm.targets.Funnel(),
}
CALLS: dict[str, Callable[[Tensor], Tensor]] = {
    "perturb": lambda x: pyebm.perturb(x, 0.5, NOISE, alpha=0.8),
    "perturb, rows": lambda x: pyebm.perturb(x, torch.tensor([0.5, 0.1, 0.0]), NOISE),
    "dsm_loss": lambda x: pyebm.dsm_loss(x, 0.5, NOISE),
    "dsm_loss, z": lambda x: pyebm.dsm_loss(
        x, torch.tensor([0.5, 0.1, 2.0]), torch.ones_like(x), weight="sigma2"
    ),
    "denoising_loss": lambda x: pyebm.denoising_loss(
        x, NOISE, lam=-0.7, mu=0.5, x0=torch.ones_like(x), weight=2.0
    ),
    "denoising_loss, sample": lambda x: pyebm.denoising_loss(x, NOISE, reduction="sample"),
    "denoising_loss, none": lambda x: pyebm.denoising_loss(x, NOISE, reduction="none", half=True),
    "langevin_step": lambda x: pyebm.langevin_step(x, -x, 0.1, NOISE, clamp=(-3, 3)),
    "langevin_step, rows": lambda x: pyebm.langevin_step(
        x, x.sin(), torch.tensor([0.1, 0.2, 0.3]), NOISE, temperature=0.5
    ),
    "affine_step": lambda x: pyebm.affine_step(x, x * x, 0.9, 0.1, 0.3, NOISE),
    "langevin_chain": lambda x: pyebm.langevin_chain(x, TARGETS["double_well"], 3, 0.01, NOISE),
    "mixture's chain": lambda x: pyebm.langevin_chain(x, TARGETS["mixture"], 3, 0.01, NOISE),
    **{f"score of {name}": target.score for name, target in TARGETS.items()},
    **{f"energy of {name}": target.energy for name, target in TARGETS.items()},
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


def samples(dtype: torch.dtype = torch.float64) -> Tensor:
    return pyebm.Noise(11).randn(SHAPE, dtype=dtype) * 0.7 + 0.1


@every_call
class TestTransforms:
    def test_gradcheck(self, call):
        x = samples().requires_grad_()
        assert gradcheck(
            call, x, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True
        )

    def test_second_order(self, call):
        x = samples().requires_grad_()
        assert gradgradcheck(call, x, check_fwd_over_rev=True)

    def test_func_agrees_with_autograd(self, call):
        x, v = samples(), torch.ones(SHAPE, dtype=torch.float64)
        leaf = x.clone().requires_grad_()
        (expected,) = torch.autograd.grad(call(leaf).sum(), leaf)
        assert torch.allclose(grad(lambda y: call(y).sum())(x), expected)
        assert torch.allclose(jvp(lambda y: call(y).sum(), (x,), (v,))[1], expected.sum())
        assert torch.allclose(vjp(lambda y: call(y).sum(), x)[1](torch.ones((), dtype=x.dtype))[0], expected)
        assert torch.allclose(jacfwd(call)(x), jacrev(call)(x))
        assert hessian(lambda y: call(y).sum())(x).shape == SHAPE * 2

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_values_are_the_kernels(self, call, dtype):
        """A differentiated call returns the same number as any other, to the last bit."""
        x = samples(dtype)
        expected = call(x)
        assert torch.equal(call(x.clone().requires_grad_()).detach(), expected)
        assert torch.equal(vjp(call, x)[0], expected)
        assert torch.equal(jvp(call, (x,), (torch.ones_like(x),))[0], expected)
        with forward_ad.dual_level():
            value = call(forward_ad.make_dual(x, torch.ones_like(x)))
            assert torch.equal(forward_ad.unpack_dual(value).primal, expected)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_vmap_is_the_loop(self, call, dtype):
        x = torch.stack([samples(dtype) + shift for shift in (0.0, 0.3, -0.2, 0.7)])
        assert torch.equal(vmap(call)(x), torch.stack([call(one) for one in x]))
        assert torch.equal(vmap(vmap(call))(x[:, None]), vmap(call)(x)[:, None])
        assert torch.equal(vmap(call, in_dims=2)(x.movedim(0, 2)), vmap(call)(x))

    def test_vmap_of_grad_is_the_loop(self, call):
        x = torch.stack([samples(), samples() + 0.3])
        one = grad(lambda y: call(y).sum())
        assert torch.equal(vmap(one)(x), torch.stack([one(each) for each in x]))


@pytest.mark.parametrize("call", thinned(((call,) for call in CALLS.values()), 3), ids=CALLS)
def test_a_tangent_inside_compiled_code(call):
    x, v = samples(), torch.ones(SHAPE, dtype=torch.float64)
    expected = jvp(call, (x,), (v,))
    compiled = torch.compile(lambda x, v: jvp(call, (x,), (v,)), backend="eager", fullgraph=True)
    torch._dynamo.reset()
    for made, right in zip(compiled(x, v), expected, strict=True):
        assert torch.allclose(made, right)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_before_the_tangent_came(backend):
    """Code that was compiled outside forward mode does not run inside it."""
    torch._dynamo.reset()
    x = samples()
    compiled = torch.compile(
        lambda x: pyebm.langevin_step(x, -x, 0.1, NOISE), backend=backend, fullgraph=True
    )
    compiled(x)
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(compiled(forward_ad.make_dual(x, torch.ones_like(x)))).tangent
    assert torch.allclose(tangent, torch.full_like(x, 0.9))


def test_weights_of_a_network_forward():
    """The tangent in a network's weights comes through the score."""
    net, x = torch.nn.Linear(2, 2).double(), samples()
    weights = {name: p.detach() for name, p in net.named_parameters()}
    tangents = {name: torch.ones_like(p) for name, p in weights.items()}

    def loss(weights):
        score = torch.func.functional_call(net, weights, (pyebm.perturb(x, 0.5, NOISE),))
        return pyebm.dsm_loss(pyebm.langevin_step(x, score, 0.1, NOISE), 0.5, NOISE)

    expected = sum(gradient.sum() for gradient in grad(loss)(weights).values())
    assert torch.allclose(jvp(loss, (weights,), (tangents,))[1], expected)


def test_one_sample_at_a_time():
    """Gradients per sample by vmap(grad(...)) have the bits of the loop, because the noise is
    the one that the loop names."""
    x = samples(torch.float32)

    def loss(one: Tensor) -> Tensor:
        return pyebm.dsm_loss(-(one[None] ** 2), 0.5, NOISE)

    assert torch.equal(vmap(grad(loss))(x), torch.stack([grad(loss)(one) for one in x]))


def test_in_place_under_transforms():
    def step(x: Tensor) -> Tensor:
        return pyebm.langevin_step_(x.clone(), -x, 0.1, NOISE)

    x = samples()
    assert torch.allclose(jvp(step, (x,), (torch.ones_like(x),))[1], torch.full_like(x, 0.9))
    assert torch.equal(vmap(step)(x[None]), step(x)[None])


def test_a_tangent_that_reaches_only_the_backward_pass():
    x = samples().requires_grad_()
    loss = pyebm.dsm_loss(x, 0.5, NOISE)
    with forward_ad.dual_level():
        seed = forward_ad.make_dual(torch.ones((), dtype=x.dtype), torch.full((), 2.0, dtype=x.dtype))
        (gradient,) = torch.autograd.grad(loss, x, seed)
        value, tangent = forward_ad.unpack_dual(gradient)
    assert torch.equal(tangent, 2 * value)


class TestEnergyScore:
    @staticmethod
    def score(x: Tensor) -> Tensor:
        return pyebm.energy_score(lambda y: (y**4).sum(1) / 4, x)

    def test_forward_mode(self):
        x, v = samples(), torch.ones(SHAPE, dtype=torch.float64)
        assert torch.allclose(jvp(self.score, (x,), (v,))[1], -3 * x**2)
        with forward_ad.dual_level():
            made = forward_ad.unpack_dual(self.score(forward_ad.make_dual(x, v)))
        assert torch.allclose(made.primal, -(x**3))
        assert torch.allclose(made.tangent, -3 * x**2)

    def test_transforms(self):
        x = samples()
        assert torch.allclose(grad(lambda y: self.score(y).sum())(x), -3 * x**2)
        assert torch.equal(
            vmap(self.score)(torch.stack([x, 2 * x])), torch.stack([self.score(x), self.score(2 * x)])
        )
        assert torch.allclose(jacfwd(self.score)(x), jacrev(self.score)(x))

    def test_weights_of_the_network(self):
        weight = torch.tensor(2.0, dtype=torch.float64)

        def score(weight: Tensor) -> Tensor:
            return pyebm.energy_score(lambda y: weight * y.square().sum(1), samples())

        assert torch.allclose(jvp(score, (weight,), (torch.ones_like(weight),))[1], -2 * samples())

    def test_constant_energy_is_refused_there_too(self):
        with pytest.raises(ValueError, match="depends on x"):
            vmap(lambda x: pyebm.energy_score(lambda _: torch.ones(3), x))(samples()[None])


@pytest.mark.parametrize("schedule", [False, True])
@pytest.mark.parametrize(
    "noise", [NOISE, pyebm.Noise(torch.arange(4), sample_ids=torch.tensor([5, 1, 2, 9]), step=3)]
)
def test_chains_of_a_batch_are_one_launch(noise, schedule, monkeypatch):
    """Each entry's chains have the noise that they have in the loop, and one launch serves all
    entries."""
    x, sizes = NOISE.randn((5, 4, 2)), 0.01 + 0.01 * NOISE.rand((5, 4, 1))
    launches = []
    kernel = torch.ops.pyebm.langevin_chain.default
    monkeypatch.setitem(
        pyebm._ops._REGISTERED, "langevin_chain", lambda *args: launches.append(1) or kernel(*args)
    )

    def chain(x: Tensor, size: Tensor) -> Tensor:
        step_size = [0.01, 0.02, 0.03] if schedule else size
        return pyebm.langevin_chain(
            x, TARGETS["double_well"], 3, step_size, noise, temperature=0.5, clamp=(-2, None)
        )

    made = vmap(chain)(x, sizes)
    assert len(launches) == 1
    assert torch.equal(made, torch.stack([chain(*entry) for entry in zip(x, sizes, strict=True)]))


@pytest.mark.parametrize("reduction", ["none", "sample", "sum", "mean", "batchmean"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_losses_of_a_batch_are_one_launch(dtype, reduction, monkeypatch):
    x = NOISE.randn((3, 1000, 5)).to(dtype)
    launches = []
    kernel = torch.ops.pyebm.denoising_loss.default

    def loss(x: Tensor) -> Tensor:
        return pyebm.denoising_loss(
            x, NOISE, kappa=torch.linspace(0.1, 2, 1000), weight=torch.tensor(0.7), reduction=reduction
        )

    expected = torch.stack([loss(entry) for entry in x])
    monkeypatch.setitem(
        pyebm._ops._REGISTERED, "denoising_loss", lambda *args: launches.append(1) or kernel(*args)
    )
    assert torch.equal(vmap(loss)(x), expected)
    assert len(launches) == 1


def test_names_and_masks_of_a_batch():
    """Seeds, ids and masks may differ between the entries of a batch, too."""
    x, seeds = samples(), torch.arange(6).reshape(2, 3)
    mask = NOISE.rand((2, *SHAPE)) > 0.5

    def step(seeds: Tensor, mask: Tensor) -> Tensor:
        noise = pyebm.Noise(seeds)
        noisy = pyebm.perturb(pyebm.langevin_step(x, -x, 0.1, noise, mask=mask), 0.5, noise)
        return noisy + noise.randn(SHAPE) + pyebm.dsm_loss(noisy, 0.5, noise)

    assert torch.equal(
        vmap(step)(seeds, mask), torch.stack([step(*entry) for entry in zip(seeds, mask, strict=True)])
    )
