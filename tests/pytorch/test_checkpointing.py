"""Activation checkpointing: the backward pass computes the same again, the noise included."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, normal
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import pyebm
from pyebm import Noise, NoiseCounter

NOISE = Noise(1, step=4)
TARGET = pyebm.targets.DoubleWell()
SIGMA = normal(8).abs() + 0.1
both = pytest.mark.parametrize("reentrant", [True, False], ids=["reentrant", "not reentrant"])


def perturbed(net, x):
    return pyebm.perturb(net(x), SIGMA, NOISE, alpha=0.5)


def dsm(net, x):
    return pyebm.dsm_loss(net(pyebm.perturb(x, SIGMA, NOISE)), SIGMA, NOISE)


def denoised(net, x):
    return pyebm.denoising_loss(net(x), NOISE, lam=-SIGMA, mu=0.5, x0=x.detach(), reduction="none")


def stepped(net, x):
    return pyebm.langevin_step(x, net(x), 0.1, NOISE, clamp=(-3.0, 3.0))


def affine(net, x):
    return pyebm.affine_step(x, net(x), 0.9, SIGMA, 0.1, NOISE)


def chained(net, x):
    return pyebm.langevin_chain(net(x), TARGET, 3, 0.01, NOISE)


def scored(net, x):
    return TARGET.score(net(x))


def energetic(net, x):
    """The score matching of an energy network takes a gradient inside the checkpointed function."""
    score = pyebm.energy_score(lambda x: net(x).square().sum(1), x, create_graph=True)
    return pyebm.dsm_loss(score, SIGMA, NOISE)


PIECES = (perturbed, dsm, denoised, stepped, affine, chained, scored)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 8), nn.SiLU(), nn.Linear(8, 2))


def gradients(run, model, x):
    """Returns the result, and the gradients of x and of the network."""
    x = x.clone().requires_grad_()
    model.zero_grad()
    made = run(x)
    made.square().sum().backward()
    return [made.detach(), x.grad, *(p.grad.clone() for p in model.parameters())]


@both
@pytest.mark.parametrize("piece", PIECES, ids=lambda piece: piece.__name__)
def test_the_same_gradients(piece, reentrant):
    model, x = net(), normal(8, 2)
    plain = gradients(lambda x: piece(model, x), model, x)
    again = gradients(lambda x: checkpoint(piece, model, x, use_reentrant=reentrant), model, x)
    for got, want in zip(again, plain, strict=True):
        assert_equal(got, want)


def test_a_gradient_inside():
    """Only checkpointing without reentrance can do it: torch refuses autograd.grad inside the
    other kind."""
    model, x = net(), normal(8, 2)
    plain = gradients(lambda x: energetic(model, x), model, x)
    again = gradients(lambda x: checkpoint(energetic, model, x, use_reentrant=False), model, x)
    for got, want in zip(again, plain, strict=True):
        assert_equal(got, want)


@both
def test_without_the_random_state(reentrant):
    """Our noise is in no generator: nothing of it need be kept, and torch's draws in between
    change nothing."""
    model, x = net(), normal(8, 2).requires_grad_()
    loss = checkpoint(dsm, model, x, use_reentrant=reentrant, preserve_rng_state=False)
    torch.randn(100)
    (got,) = torch.autograd.grad(loss, x) if not reentrant else (loss.backward() or x.grad,)
    (want,) = torch.autograd.grad(dsm(model, x), x)
    assert_equal(got, want)


class Step(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.net, self.k = net(), k

    def forward(self, x):
        return pyebm.langevin_step(x, self.net(x), 0.1, NOISE.at(step=self.k))


@both
def test_a_chain_of_segments(reentrant):
    """Differentiates through a sampler in the memory of the square root of its steps."""
    model, x = nn.Sequential(*(Step(k) for k in range(6))), normal(8, 2)
    plain = gradients(model, model, x)
    again = gradients(lambda x: checkpoint_sequential(model, 3, x, use_reentrant=reentrant), model, x)
    for got, want in zip(again, plain, strict=True):
        assert_equal(got, want)


@both
def test_a_counter_is_read_when_it_is_computed_again(reentrant):
    """A counter that advances in place would name other noise in the backward pass; a plain
    Noise made from it does not change."""
    model, x = net(), normal(8, 2)
    counter = NoiseCounter(NOISE)

    def run(x):
        name = counter.at()
        made = checkpoint(lambda x: pyebm.langevin_step(x, model(x), 0.1, name), x, use_reentrant=reentrant)
        counter.advance_()
        return made

    plain = gradients(lambda x: stepped_by(model, x, NOISE), model, x)
    for got, want in zip(gradients(run, model, x), plain, strict=True):
        assert_equal(got, want)


def stepped_by(model, x, noise):
    return pyebm.langevin_step(x, model(x), 0.1, noise)
