"""torch.inference_mode, in which Lightning validates and predicts: energies, and every sampler
on one, give no_grad's bits."""

from __future__ import annotations

import functools

import pytest
import torch
from cases import assert_equal, normal

import pyebm
from pyebm import Noise, targets
from pyebm.samplers import (
    HMC,
    MALA,
    VE,
    VP,
    AnnealedLangevin,
    Langevin,
    PredictorCorrector,
    SubVP,
    UnderdampedLangevin,
)

X = normal(5, 3)
NET = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))


def energy(x):
    return NET(x).squeeze(1) + 0.5 * x.square().sum(1)


SCORE = functools.partial(pyebm.energy_score, energy)


def level_score(x, level):
    """A score with the signature that annealed samplers and those of SDEs want: the level that
    they pass ends up in the energy's graph."""
    return pyebm.energy_score(lambda y: energy(y) / (1 + level**2), x)


SAMPLERS = {
    "langevin": lambda: Langevin(SCORE, 0.1),
    "underdamped": lambda: UnderdampedLangevin(SCORE, 0.1, 1.0),
    "mala": lambda: MALA(energy, 0.1),
    "mala_warmup": lambda: MALA(energy, 0.1, warmup=3),
    "mala_target": lambda: MALA(targets.Gaussian(covariance=torch.eye(3)), 0.1),
    "hmc": lambda: HMC(energy, 0.1, 3, jitter=0.1),
    "hmc_score": lambda: HMC(energy, 0.1, 2, score_fn=SCORE),
    "annealed": lambda: AnnealedLangevin(level_score, [1.0, 0.3], 0.02, 2),
    **{
        f"{type(sde).__name__}_{per}": functools.partial(PredictorCorrector, level_score, sde, 30, per=per)
        for sde in (VE(0.1, 2.0), VP(), SubVP())
        for per in ("batch", "sample")
    },
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler(name):
    """The bits are no_grad's in the mode and out of it, whether x and the sampler were made
    inside or outside."""
    sampler, n_steps = SAMPLERS[name](), 4
    with torch.no_grad():
        want = sampler(X, n_steps, noise=Noise(1))
    with torch.inference_mode():
        assert_equal(sampler(X, n_steps, noise=Noise(1)), want)
        assert_equal(SAMPLERS[name]()(X.clone(), n_steps, noise=Noise(1)), want)
        kept = sampler(X, n_steps, noise=Noise(1), thin=2, callback=lambda *_: None)
    assert_equal(kept.x, want)
    assert_equal(sampler(X, n_steps, noise=Noise(1)), want)


def test_the_score_of_an_energy():
    want = pyebm.energy_score(energy, X)
    with torch.inference_mode():
        inside = X.clone()
        for x in (X, inside):
            got = pyebm.energy_score(energy, x)
            assert_equal(got, want)
            assert not got.is_inference()  # it is an ordinary tensor
            assert not got.requires_grad
    assert_equal(pyebm.energy_score(energy, inside), want)


def test_a_callback_is_in_the_caller_s_mode():
    with torch.inference_mode():
        seen = torch.zeros(3)

        def callback(k, _, info):
            seen[k - 1] = info[
                "energy"
            ].sum()  # torch lets an inference tensor be written to in inference mode alone
            return not torch.is_inference_mode_enabled()

        MALA(energy, 0.1)(X, 3, noise=Noise(0), callback=callback)
    assert seen.all()


def test_training_through_a_score():
    """Within inference mode, create_graph=True still gives a graph to the network."""
    for context in (torch.inference_mode, torch.no_grad):
        with context():
            score = pyebm.energy_score(energy, X, create_graph=True)
        grads = torch.autograd.grad(score.square().sum(), NET[0].weight)
        if context is torch.inference_mode:
            inside = grads[0]
    assert_equal(inside, grads[0])


def test_weights_made_in_inference_mode_are_torch_s_to_refuse():
    with torch.inference_mode():
        net = torch.nn.Linear(3, 1)
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
        pyebm.energy_score(lambda x: net(x).squeeze(1), X)


@pytest.mark.parametrize("name", ["DoubleWell", "Funnel", "Rastrigin"])
def test_targets(name):
    make = getattr(targets, name)
    calls = (lambda t: t(X), lambda t: t.score(X), lambda t: pyebm.langevin_chain(X, t, 3, 0.01, Noise(0)))
    outside = make()
    want = [call(make()) for call in calls]
    with torch.inference_mode():
        inside = make()
        for target in (outside, inside):
            assert all(
                torch.equal(call(target), expected) for call, expected in zip(calls, want, strict=True)
            )
        assert_equal(pyebm.energy_score(outside, X), pyebm.energy_score(make(), X))
    # Numbers that were packed in the mode are good outside too, also in a graph.
    x = X.clone().requires_grad_()
    for target in (outside, inside):
        assert_equal(target.score(X), want[1])
    outside.score(x).sum().backward()
    assert x.grad is not None
