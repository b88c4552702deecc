"""torchebm's exact and sliced score matching where it is right and where it is not, its HMC, and
its contrastive divergence over our chains."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, normal
from peers import package

import pyebm
from pyebm import Noise

torchebm = package("torchebm")
from torchebm.core import BaseModel, GaussianModel  # noqa: E402
from torchebm.samplers import LangevinDynamics  # noqa: E402

from pyebm.integrations import torchebm as ours  # noqa: E402

NOISE = Noise(1, step=7)


class Model(BaseModel):
    """An energy of samples of any shape."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(normal(6, seed=5))

    def forward(self, x):
        return energy(x.flatten(1), self.weight)


def energy(flat, weight):
    return (weight * flat + 0.5 * flat.roll(1, -1)).cosh().log().sum(-1) + 0.1 * flat.pow(4).sum(-1)


def exact(x):
    """mean_b sum_i (s_i^2 / 2 + ds_i/dx_i) of Model's energy, by its Hessians."""
    flat, weight = x.flatten(1), normal(6, seed=5)
    slope = torch.func.vmap(torch.func.grad(energy), (0, None))(flat, weight)
    hessian = torch.func.vmap(torch.func.hessian(energy), (0, None))(flat, weight)
    return (slope.square().sum(1) / 2 - hessian.diagonal(dim1=1, dim2=2).sum(1)).mean()


def test_exact_is_right_for_any_shape():
    x = normal(8, 6)
    got = ours.ScoreMatching(Model())(x)
    torch.testing.assert_close(got, torchebm.losses.ScoreMatching(Model())(x))
    torch.testing.assert_close(got, exact(x))
    torch.testing.assert_close(ours.ScoreMatching(Model())(x.reshape(8, 1, 2, 3)), exact(x))


def test_approximations_are_unbiased_in_any_shape():
    x = normal(4000, 6)
    for shape in ((4000, 6), (4000, 2, 3)):
        approx = ours.ScoreMatching(Model(), hessian_method="approx", noise=NOISE)(x.reshape(shape))
        assert abs(approx - exact(x)) < 0.02 * abs(exact(x)) + 0.05
        for kind in ("rademacher", "sphere", "gaussian"):
            loss = ours.SlicedScoreMatching(Model(), n_projections=20, projection_type=kind, noise=NOISE)
            assert abs(loss(x.reshape(shape)) - exact(x)) < 0.05 * abs(exact(x)) + 0.1
    theirs = torchebm.losses.ScoreMatching(Model(), hessian_method="approx")(x)
    assert abs(theirs - exact(x)) > 1.0  # the dimension divides its trace


def test_losses_are_functions_of_the_noise():
    x = normal(8, 6)
    for cls, options in ((ours.ScoreMatching, {"hessian_method": "approx"}), (ours.SlicedScoreMatching, {})):
        one, two = (cls(Model(), **options, noise=NOISE) for _ in range(2))
        first = one(x)
        assert_equal(two(x), first)
        assert not torch.equal(one(x), first)
        one(x).backward()
        assert one.model.weight.grad is not None
    generator = lambda: torch.Generator().manual_seed(3)  # noqa: E731
    assert_equal(
        ours.SlicedScoreMatching(Model(), noise=NOISE)(x, generator=generator()),
        torchebm.losses.SlicedScoreMatching(Model())(x, generator=generator()),
    )


@pytest.mark.parametrize("mass", [None, 2.0, torch.tensor([0.5, 1.0, 2.0])])
def test_hmc(mass):
    model = GaussianModel(torch.zeros(3), torch.eye(3))
    x = normal(2000, 3)

    def run(noise, **options):
        sampler = ours.HamiltonianMonteCarlo(model, 0.3, 5, mass=mass, noise=noise)
        return sampler.sample(x, n_steps=15, **options)

    drawn = run(NOISE)
    assert_equal(run(NOISE), drawn)
    assert (drawn.std(0) - 1).abs().max() < 0.1
    assert not torch.equal(run(NOISE.at(stream=9)), drawn)
    theirs = torchebm.samplers.HamiltonianMonteCarlo(model, 0.3, 5, mass=mass)
    generator = lambda: torch.Generator().manual_seed(3)  # noqa: E731
    assert_equal(run(NOISE, generator=generator()), theirs.sample(x, n_steps=15, generator=generator()))
    # A chain does not depend on its batch.
    x = x[1000:]
    assert_equal(run(NOISE.shard(first_sample=1000)), drawn[1000:])


@pytest.mark.parametrize("persistent", [False, True])
def test_contrastive_divergence_over_our_chains(persistent):
    """The negative chains are a function of the Noise; nothing else in the loss draws."""

    def loss(noise):
        torch.manual_seed(0)  # of the buffer's start
        model = Model()
        integrator = ours.EulerMaruyamaIntegrator(noise=noise)
        sampler = LangevinDynamics(model, step_size=0.05, integrator=integrator)
        cd = torchebm.losses.ContrastiveDivergence(
            model, sampler, k_steps=4, persistent=persistent, buffer_size=32, init_steps=0
        )
        return cd(normal(8, 6))

    value, chains = loss(NOISE)
    again, same = loss(NOISE)
    assert_equal(chains, same)
    assert_equal(value, again)
    assert not torch.equal(loss(NOISE.at(stream=3))[1], chains)
    if not persistent:
        x, model = normal(8, 6), Model()
        for k in range(4):
            score = pyebm.energy_score(model, x).detach()
            x = pyebm.langevin_step(x, score, 0.05, NOISE.at(step=7 + k))
        torch.testing.assert_close(chains, x)
