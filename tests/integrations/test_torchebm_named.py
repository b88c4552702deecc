"""torchebm's other samplers and losses under a Noise: the whole package draws by name, and with its
own generator each is torchebm's own."""

from __future__ import annotations

import importlib
import inspect
import pickle

import pytest
import torch
from cases import assert_equal, normal
from compare import assert_as_good, gradient
from peers import package

from pyebm import Noise

torchebm = package("torchebm")
from torchebm import integrators, losses, samplers  # noqa: E402
from torchebm.core import BaseModel, GaussianModel  # noqa: E402

from pyebm.integrations import torchebm as ours  # noqa: E402

NOISE = Noise(1, step=7)


class Velocity(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([[0.3, -0.2], [0.1, 0.5]]))

    def forward(self, x, t):
        return torch.tanh(x @ self.weight) - t.reshape(-1, *[1] * (x.dim() - 1)) * x


class Energy(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([0.3, -0.2]))

    def forward(self, x):
        return (x * self.weight).cosh().log().sum(1) + 0.5 * x.square().sum(1)


def metric(x):
    return torch.eye(x.shape[1]).expand(len(x), -1, -1) * (1 + 0.1 * x.square().sum(1)[:, None, None])


GAUSSIAN = GaussianModel(torch.zeros(2), torch.eye(2))
SAMPLERS = {
    "LangevinDynamics": lambda made, **noise: made(GAUSSIAN, step_size=0.1, **noise),
    "HamiltonianMonteCarlo": lambda made, **noise: made(GAUSSIAN, 0.3, 3, **noise),
    "RiemannianManifoldHMC": lambda made, **noise: made(GAUSSIAN, metric, 0.3, 3, **noise),
    "FlowSampler": lambda made, **noise: made(Velocity(), mode="sde", interpolant="cosine", **noise),
}
# Made of (class, noise): a loss over data (B, 2).
LOSSES = {
    "ContrastiveDivergence": lambda made, **noise: made(
        Energy(), samplers.LangevinDynamics(Energy(), step_size=0.1), k_steps=3, **noise
    ),
    "PersistentContrastiveDivergence": lambda made, **noise: made(
        Energy(),
        samplers.LangevinDynamics(Energy(), step_size=0.1),
        k_steps=3,
        buffer_size=32,
        init_steps=2,
        add_noise_to_real=True,
        new_sample_ratio=0.3,
        **noise,
    ),
    "FlowMatchingLoss": lambda made, **noise: made(Velocity(), interpolant="vp", **noise),
    "EquilibriumMatchingLoss": lambda made, **noise: made(Velocity(), t_sampler="lognormal", **noise),
    "EnergyMatchingLoss": lambda made, **noise: made(Energy(), n_langevin_steps=3, **noise),
}


def generator():
    return torch.Generator().manual_seed(3)


def value(made, x, **options):
    with torch.no_grad() if isinstance(made, samplers.LangevinDynamics) else torch.enable_grad():
        result = made(x, **options)
    return result[0] if isinstance(result, tuple) else result


def test_every_class_that_draws_is_here():
    """What draws takes a generator somewhere. The optimisers draw a first state alone."""
    found = set()
    for room in (samplers, losses, integrators):
        for name in room.__all__:
            cls = getattr(room, name)
            if inspect.isclass(cls) and any(
                "generator" in inspect.signature(method).parameters
                for method in (getattr(cls, key, None) for key in ("sample", "forward"))
                if callable(method)
            ):
                found.add(name)
    left = {"GradientDescentSampler", "NesterovSampler"}
    assert found - left <= set(ours.__all__)
    assert {"EulerMaruyamaIntegrator", "BackwardEulerMaruyamaIntegrator"} <= set(ours.__all__)


def test_each_is_saved_as_the_class_it_replaces():
    for name in ours.__all__:
        cls = getattr(ours, name)
        module, _, last = cls._original.rpartition(".")
        original = getattr(importlib.import_module(module), last)
        assert name == last
        assert issubclass(cls, original)


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers(name):
    def run(cls, x=None, generator=None, **noise):
        sampler = SAMPLERS[name](cls, **noise)
        given = {"x": x} if x is not None else {"dim": 2, "n_samples": 6}
        return sampler.sample(**given, n_steps=4, generator=generator)

    cls, theirs = getattr(ours, name), getattr(samplers, name)
    x = normal(6, 2)
    torch.testing.assert_close(
        run(cls, generator=generator(), noise=NOISE), run(theirs, generator=generator())
    )
    drawn = run(cls, noise=NOISE)  # the first state too
    torch.manual_seed(5)
    assert_equal(run(cls, noise=NOISE), drawn)
    assert not torch.equal(run(cls, noise=NOISE.at(stream=9)), drawn)
    whole = run(cls, x, noise=NOISE)
    torch.testing.assert_close(run(cls, x[2:], noise=NOISE.shard(first_sample=2)), whole[2:])
    if name != "FlowSampler":  # whose network is not picklable by reference
        sampler = SAMPLERS["LangevinDynamics"](ours.LangevinDynamics, noise=NOISE)
        sampler.sample(x, n_steps=3)
        copy = pickle.loads(pickle.dumps(sampler))
        assert_equal(copy.sample(x, n_steps=3), sampler.sample(x, n_steps=3))


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name):
    x = normal(16, 2)
    cls, theirs = getattr(ours, name), getattr(losses, name)
    torch.testing.assert_close(
        value(LOSSES[name](cls, noise=NOISE), x, generator=generator()),
        value(LOSSES[name](theirs), x, generator=generator()),
    )
    made, again = (LOSSES[name](cls, noise=NOISE) for _ in range(2))
    torch.manual_seed(5)
    first = value(made, x)
    torch.manual_seed(6)
    assert_equal(value(again, x), first)
    second = value(made, x)
    assert not torch.equal(second, first)  # it goes on in the noise
    assert_equal(value(pickle.loads(pickle.dumps(again)), x), second)
    (grad,) = torch.autograd.grad(second, made.model.weight)
    assert bool(grad.isfinite().all() and grad.any())


CASES = {
    "FlowMatchingLoss": {"interpolant": "cosine", "loss_weight_fn": lambda t: 1 + t, "negate_velocity": True},
    "EquilibriumMatchingLoss": {"interpolant": "linear", "ct": "truncated", "time_invariant": False},
}


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradient(name):
    """The fused regression beside torchebm's, which is given the same normals and times."""
    x = normal(16, 3, 2)
    results = []
    z, t = NOISE.randn(x.shape), 1 - NOISE.at(step=8).rand((16, 1))[:, 0]
    for cls, dtype in ((getattr(ours, name), None), *[(getattr(losses, name), d) for d in
                       (torch.float32, torch.float64)]):  # fmt: skip
        net, options = Velocity(), dict(CASES[name])
        if dtype is None:
            options["noise"], given = NOISE, {}
        else:
            net, given = net.to(dtype), {"x0": z.to(dtype)}
            options |= {"dtype": dtype, "t_sampler": lambda *_, dtype, **__: t.to(dtype)}
        loss = cls(net, **options)(x.to(dtype or torch.float32), **given)
        results.append(gradient(loss, net.weight))
    for triple in zip(*results, strict=True):
        assert_as_good(*triple)


def test_the_fused_loss_stores_neither_the_noise_nor_the_target():
    x = normal(64, 2)
    fused = ours.FlowMatchingLoss(Velocity(), noise=NOISE)
    names = set()

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            names.add(getattr(func, "__name__", ""))
            return func(*args, **(kwargs or {}))

    with Watch():
        fused(x)
    assert "randn_like" not in names
    for coupling in ("ot", "sinkhorn"):  # these need the noise itself
        named = ours.FlowMatchingLoss(Velocity(), coupling=coupling, noise=NOISE)
        assert_equal(named(x), ours.FlowMatchingLoss(Velocity(), coupling=coupling, noise=NOISE)(x))
    given = ours.FlowMatchingLoss(Velocity(), noise=NOISE)(x, x0=normal(64, 2, seed=3))
    assert bool(given.isfinite())


def test_the_backward_integrator():
    x = normal(6, 2)
    options = {"drift": lambda x, _: -x, "noise_scale": 0.7}
    for run in ("step", "integrate"):
        steps = (0.1,) if run == "step" else (0.1, 3)
        named = [
            getattr(ours.BackwardEulerMaruyamaIntegrator(noise=NOISE), run)({"x": x}, *steps, **options)["x"]
            for _ in range(2)
        ]
        assert_equal(*named)
        theirs = getattr(integrators.BackwardEulerMaruyamaIntegrator(), run)
        mine = getattr(ours.BackwardEulerMaruyamaIntegrator(noise=NOISE), run)
        assert_equal(
            mine({"x": x}, *steps, generator=generator(), **options)["x"],
            theirs({"x": x}, *steps, generator=generator(), **options)["x"],
        )
    z = NOISE.randn(x.shape)
    plain = integrators.BackwardEulerMaruyamaIntegrator().step({"x": x}, 0.1, noise=z, **options)
    mine = ours.BackwardEulerMaruyamaIntegrator(noise=NOISE).step({"x": x}, 0.1, **options)
    torch.testing.assert_close(mine["x"], plain["x"])
