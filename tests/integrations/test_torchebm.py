"""Our integrator and loss against torchebm's own, in its own sampler and with its own models."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, normal
from compare import DTYPES, assert_as_good, gradient
from peers import package

from pyebm import Noise

torchebm = package("torchebm")
from torchebm import integrators, losses  # noqa: E402
from torchebm.core import BaseModel, DoubleWellModel, GaussianModel  # noqa: E402
from torchebm.samplers import LangevinDynamics  # noqa: E402

from pyebm.integrations.torchebm import DenoisingScoreMatching, EulerMaruyamaIntegrator  # noqa: E402

NOISE = Noise(1, step=7)


class Net(BaseModel):
    """An energy with parameters."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.Softplus(), torch.nn.Linear(16, 1))

    def forward(self, x, y=0.0):
        return self.layers(x).squeeze(-1) + 0.5 * (1 + y) * x.square().sum(1)


def sampler(**options):
    return LangevinDynamics(DoubleWellModel(), step_size=0.01, noise_scale=0.7, clamp=(-2.0, 2.0), **options)


@pytest.mark.parametrize("dtype", DTYPES)
def test_step(dtype):
    x, drift = normal(64, 3).to(dtype), normal(64, 3, seed=1).to(dtype)
    z = NOISE.randn(x.shape, dtype=dtype)
    theirs = integrators.EulerMaruyamaIntegrator(dtype=dtype)
    options = {"step_size": 0.01, "noise_scale": 0.7}
    exact = x.double() + 0.01 * drift.double() + (2 * 0.01) ** 0.5 * 0.7 * z.double()
    plain = theirs.step({"x": x}, drift=lambda *_: drift, noise=z, **options)["x"]
    for source, noise in ((NOISE, None), (None, z)):
        ours = EulerMaruyamaIntegrator(noise=source, dtype=dtype)
        got = ours.step({"x": x}, drift=lambda *_: drift, noise=noise, **options)["x"]
        assert_as_good(got, plain, exact)


def test_a_generator_gives_their_chain():
    x = normal(64, 3)
    chains = [
        sampler(**options).sample(x, n_steps=50, generator=torch.Generator().manual_seed(3))
        for options in ({}, {"integrator": EulerMaruyamaIntegrator()})
    ]
    torch.testing.assert_close(*chains, rtol=1e-4, atol=1e-5)


def test_a_named_chain():
    """A chain does not depend on its batch; the next call takes the noise's next steps."""
    x = normal(64, 3)
    integrator = EulerMaruyamaIntegrator(noise=NOISE)
    whole = sampler(integrator=integrator).sample(x, n_steps=20)
    half = sampler(integrator=EulerMaruyamaIntegrator(noise=NOISE.shard(first_sample=32))).sample(
        x[32:], n_steps=20
    )
    assert_equal(half, whole[32:])
    further = sampler(integrator=integrator).sample(whole, n_steps=5)
    again = sampler(integrator=EulerMaruyamaIntegrator(noise=NOISE.at(step=NOISE.step + 20))).sample(
        whole, n_steps=5
    )
    assert_equal(further, again)


def test_the_stationary_law():
    model = GaussianModel(torch.tensor([1.0, -1.0]), torch.eye(2))
    chains = LangevinDynamics(model, step_size=0.1, integrator=EulerMaruyamaIntegrator(noise=NOISE))
    x = chains.sample(torch.zeros(20_000, 2), n_steps=100)
    torch.testing.assert_close(x.mean(0), model.mean, atol=0.03, rtol=0)
    torch.testing.assert_close(x.var(0), torch.full((2,), 1 / (1 - 0.05)), atol=0.04, rtol=0)


def test_steps_that_stay_theirs():
    """The integrator leaves an ODE step, and a diffusion of each element, to torchebm."""
    x = normal(64, 3)
    wide = torch.full((64, 3), 0.3)
    ours, theirs = EulerMaruyamaIntegrator(noise=NOISE), integrators.EulerMaruyamaIntegrator()
    for options in ({}, {"diffusion": wide, "noise": NOISE.randn(x.shape)}):
        steps = [
            integrator.step({"x": x}, 0.01, drift=lambda x, _: -x, **options)["x"]
            for integrator in (ours, theirs)
        ]
        assert_equal(*steps)
    got = ours.step({"x": x}, 0.01, drift=lambda x, _: -x, diffusion=wide, noise=NOISE)["x"]
    assert_equal(got, steps[0])
    one = ours.step({"x": x}, 0.01, drift=lambda x, _: -x, diffusion=wide[:, :1], noise=NOISE)["x"]
    torch.testing.assert_close(one, got)  # one pass


@pytest.mark.parametrize("kind", ["noise_scale", "diffusion"])
def test_a_time_grid(kind):
    """With a generator it is torchebm's run; with a Noise, step k of the grid takes step k."""
    x, grid = normal(8, 3), torch.tensor([0.0, 0.01, 0.03, 0.06])
    given = {"noise_scale": 0.7} if kind == "noise_scale" else {"diffusion": lambda _, t: 0.2 + t[:, None]}

    def run(integrator, **options):
        return integrator.integrate(
            {"x": x}, 0.01, 3, drift=lambda x, t: -x + t[:, None], t=grid, **given, **options
        )["x"]

    runs = [
        run(cls(), generator=torch.Generator().manual_seed(3), inference_mode=inference)
        for cls in (EulerMaruyamaIntegrator, integrators.EulerMaruyamaIntegrator)
        for inference in (False, True)
    ]
    for got in runs[:-1]:
        torch.testing.assert_close(got, runs[-1])
    named = [run(EulerMaruyamaIntegrator(noise=NOISE)) for _ in range(2)]
    assert_equal(*named)
    normals = iter([NOISE.at(step=NOISE.step + k).randn(x.shape) for k in range(3)])
    torch.testing.assert_close(run(EulerMaruyamaIntegrator(noise=lambda _: next(normals))), named[0])


@pytest.mark.parametrize("sigma", [1e-3, 0.1, 2.0])
def test_loss_and_gradient(sigma):
    x, net = normal(32, 3), Net()
    weight = net.layers[0].weight
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    plain = gradient(
        losses.DenoisingScoreMatching(net, sigma)(x, generator=torch.Generator().manual_seed(3)), weight
    )
    loss = DenoisingScoreMatching(net, sigma)
    exact = Net().double()
    wide = (x.double() + sigma * z.double()).requires_grad_()
    (slope,) = torch.autograd.grad(exact(wide).sum(), wide, create_graph=True)
    truth = gradient((0.5 * (slope - z.double() / sigma) ** 2).sum(1).mean(), exact.layers[0].weight)
    for got in (loss(x, generator=torch.Generator().manual_seed(3)), loss.compute_loss(x, noise=z)):
        for triple in zip(gradient(got, weight), plain, truth, strict=True):
            assert_as_good(*triple)


def test_a_named_loss():
    """Evaluation k takes step k of the Noise; regenerating it equals giving its tensor."""
    x, net = normal(32, 3), Net()
    loss = DenoisingScoreMatching(net, 0.1, noise=NOISE)
    for k in range(3):
        want = DenoisingScoreMatching(net, 0.1).compute_loss(
            x, noise=NOISE.at(step=NOISE.step + k).randn(x.shape)
        )
        torch.testing.assert_close(loss(x), want)


def test_regularisation_and_conditions_stay_theirs():
    x, net = normal(32, 3), Net()
    made = [
        cls(net, 0.1, regularization_strength=0.5)
        for cls in (DenoisingScoreMatching, losses.DenoisingScoreMatching)
    ]
    values = [
        loss(x, y=torch.linspace(0, 1, 32), generator=torch.Generator().manual_seed(3)) for loss in made
    ]
    torch.testing.assert_close(*values)


def test_200_training_steps():
    """torchebm's loss and ours, from the same start and the same noise, give the same curve."""
    curves = []
    for kind in ("theirs", "caller's noise", "regenerated"):
        net = Net()
        make = losses.DenoisingScoreMatching if kind == "theirs" else DenoisingScoreMatching
        loss, optimiser = make(net, 0.3), torch.optim.Adam(net.parameters(), lr=1e-2)
        values = []
        for k in range(200):
            x, noise = (
                1.5 * normal(64, 3, seed=k).sign() + 0.1 * normal(64, 3, seed=1000 + k),
                NOISE.at(step=k),
            )
            if kind == "theirs":
                loss.perturb_data = lambda x, noise=noise, **_: (
                    x + 0.3 * noise.randn(x.shape),
                    0.3 * noise.randn(x.shape),
                )
                value = loss(x)
            else:
                value = loss.compute_loss(x, noise=noise if kind == "regenerated" else noise.randn(x.shape))
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            values.append(value.item())
        curves.append(torch.tensor(values))
    theirs, *ours = curves
    for got in ours:
        torch.testing.assert_close(got, theirs, rtol=1e-3, atol=1e-4)
    assert theirs[-50:].mean() < 0.9 * theirs[:20].mean()
