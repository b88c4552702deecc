"""Public objects can be copied, pickled and called functionally like torch's: type and behaviour
stay."""

from __future__ import annotations

import copy
import functools
import io
import pickle

import pytest
import torch
from cases import assert_equal, normal
from torch import nn
from torch.func import functional_call

import pyebm
from pyebm import Noise
from pyebm.samplers import (
    HMC,
    MALA,
    VE,
    VP,
    AnnealedLangevin,
    Langevin,
    PredictorCorrector,
    State,
    SubVP,
    UnderdampedLangevin,
)

X = normal(6, 2)
T = pyebm.targets


def energy(x):
    return 0.5 * x.square().sum(1)


def score_at(x, sigma):
    return -x * sigma.mean()


def loaded(value):
    """Passes the value through torch.save and torch.load."""
    stream = io.BytesIO()
    torch.save(value, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=False)


COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "torch.save": loaded,
}
NOISES = {
    "plain": lambda: Noise(-3, first_sample=7, step=5, stream=2),
    "ids": lambda: Noise(4, sample_ids=torch.arange(6) ** 2),
    "seeds": lambda: Noise(torch.arange(6), first_sample=1),
    "random": Noise,
}
TARGETS = {
    "Harmonic": T.Harmonic,
    "DoubleWell": T.DoubleWell,
    "Gaussian": lambda: T.Gaussian(torch.tensor([0.5, -1.0]), torch.tensor([1.0, 2.0])),
    "full covariance": lambda: T.Gaussian(torch.zeros(2), covariance=torch.tensor([[1.0, 0.3], [0.3, 2.0]])),
    "Polynomial": lambda: T.Polynomial([0.0, 0.5, 1.0]),
    "Rosenbrock": T.Rosenbrock,
    "Ackley": T.Ackley,
    "Rastrigin": T.Rastrigin,
    "Funnel": T.Funnel,
    "GaussianMixture": lambda: T.GaussianMixture(normal(5, 2, seed=1), 0.5),
}
SAMPLERS = {
    "Langevin": lambda: Langevin(torch.neg, 0.1, clamp=(-2.0, 2.0)),
    "Langevin, a target": lambda: Langevin(T.DoubleWell(), 0.01),
    "Langevin, an energy": lambda: Langevin(functools.partial(pyebm.energy_score, energy), 0.1),
    "AnnealedLangevin": lambda: AnnealedLangevin(score_at, [1.0, 0.5], 0.1, 4),
    "PredictorCorrector VP": lambda: PredictorCorrector(score_at, VP(), 30),
    "PredictorCorrector VE": lambda: PredictorCorrector(score_at, VE(), 30),
    "PredictorCorrector subVP": lambda: PredictorCorrector(score_at, SubVP(), 30),
    "MALA": lambda: MALA(energy, 0.1, warmup=3),
    "HMC": lambda: HMC(T.DoubleWell(), 0.05, 3),
    "UnderdampedLangevin": lambda: UnderdampedLangevin(torch.neg, 0.1),
}
by = pytest.mark.parametrize("how", COPIES)


@by
@pytest.mark.parametrize("name", NOISES)
def test_noise(name, how):
    noise = NOISES[name]()
    made = COPIES[how](noise)
    assert type(made) is Noise
    assert_equal(made.randn((6, 3)), noise.randn((6, 3)))
    assert (made.step, made.stream, made.first_sample) == (noise.step, noise.stream, noise.first_sample)


@by
@pytest.mark.parametrize("name", TARGETS)
def test_targets(name, how):
    target = TARGETS[name]()
    before = target.score(X), target.energy(X)  # so that copies are of a target with kept numbers
    made = COPIES[how](target)
    assert type(made) is type(target)
    assert_equal((made.score(X), made.energy(X)), before)
    assert repr(made) == repr(target)
    if how != "copy":  # the copy has numbers of its own
        with torch.no_grad():
            for buffer in made.buffers():
                buffer.mul_(1.5)
        assert_equal((target.score(X), target.energy(X)), before)


@by
@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers(name, how):
    sampler = SAMPLERS[name]()
    want = sampler(X, 6, noise=Noise(1))
    made = COPIES[how](sampler)
    assert type(made) is type(sampler)
    assert_equal(made(X, 6, noise=Noise(1)), want)


@by
def test_states_and_trajectories(how):
    sampler = HMC(T.DoubleWell(), 0.05, 3)
    trajectory = sampler(X, 6, noise=Noise(1), thin=2)
    made = COPIES[how](trajectory)
    assert type(made) is type(trajectory)
    assert_equal((made.states, made.x, made.info), (trajectory.states, trajectory.x, trajectory.info))
    state = COPIES[how](trajectory.state)
    assert type(state) is State
    assert_equal(sampler(state, 3).x, sampler(trajectory.state, 3).x)


@by
@pytest.mark.parametrize(
    "loss", [pyebm.losses.DSMLoss(weight="sigma2", reduction="sum"), pyebm.losses.DenoisingLoss(half=True)]
)
def test_losses(loss, how):
    made = COPIES[how](loss)
    assert type(made) is type(loss)
    assert repr(made) == repr(loss)
    arguments = (0.5, Noise(0)) if isinstance(loss, pyebm.losses.DSMLoss) else (Noise(0),)
    assert_equal(made(X, *arguments), loss(X, *arguments))


@by
def test_functions(how):
    for function in (pyebm.perturb, pyebm.dsm_loss, pyebm.langevin_step_, pyebm.langevin_chain):
        assert COPIES[how](function) is function


class Model(nn.Module):
    """A network, a target's score added to it, and the loss."""

    def __init__(self):
        super().__init__()
        self.net, self.target, self.loss = nn.Linear(2, 2), T.DoubleWell(), pyebm.losses.DSMLoss()

    def forward(self, x, noise):
        noisy = pyebm.perturb(x, 0.5, noise)
        return self.loss(self.net(noisy) + self.target.score(noisy), 0.5, noise)


def test_functional_call():
    """One call uses other numbers for parameters and buffers, and their gradients flow to those."""
    model, noise = Model(), Noise(2)
    before = model(X, noise).detach()
    other = Model()
    other.target = T.DoubleWell(barrier=2.5)
    numbers = {**dict(other.named_parameters()), **dict(other.named_buffers())}
    got = functional_call(model, numbers, (X, noise))
    assert_equal(got, other(X, noise))
    assert_equal(model(X, noise).detach(), before)
    got.backward()
    grads = {name: parameter.grad for name, parameter in other.named_parameters()}
    other.zero_grad()
    other(X, noise).backward()
    for name, parameter in other.named_parameters():
        assert_equal(grads[name], parameter.grad)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_copied_model_goes_on():
    """An exponential moving average of weights is made by such a copy."""
    model, noise = Model(), Noise(2)
    twin = copy.deepcopy(model)
    loss = twin(X, noise)
    assert_equal(loss, model(X, noise))
    loss.backward()
    assert all(p.grad is None for p in model.parameters())
    averaged = torch.optim.swa_utils.AveragedModel(model, use_buffers=True)
    averaged.update_parameters(model)
    assert_equal(averaged(X, noise), model(X, noise))
