"""MALA and HMC on closed-form targets run in one launch, and have the bits of the same steps by
several ops each."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, levels, normal
from metropolis_cases import NAMED, SAMPLERS, equals_the_ops
from target_cases import KINDS, make

import pyebm
from pyebm import Noise, _composed, _ops, reference
from pyebm.samplers._metropolis import Metropolis

WITH_ENERGY = [kind for kind in KINDS if kind in _composed.ENERGIES]


@pytest.mark.parametrize("of", SAMPLERS)
@pytest.mark.parametrize("kind", WITH_ENERGY)
def test_every_target(kind, of, monkeypatch):
    target = make(kind, 6)
    ours = equals_the_ops(monkeypatch, SAMPLERS[of](target, 0.02), 0.5 * normal(37, 6), 7, NAMED)
    assert 0 < ours.info["acceptance"].mean() <= 1


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(1, 1), (300, 2), (5, 3), (700, 3, 2), (12, 512), (3, 509)], ids=str)
@pytest.mark.parametrize("of", SAMPLERS)
def test_shapes_and_dtypes(of, shape, dtype, monkeypatch):
    x0 = (0.5 * normal(*shape)).to(dtype)
    equals_the_ops(monkeypatch, SAMPLERS[of](make("double_well", 6), 0.05), x0, 4, NAMED, thin=2)


@pytest.mark.parametrize("of", SAMPLERS)
@pytest.mark.parametrize("rows", [torch.float32, torch.float64])
def test_a_step_size_for_each_chain(of, rows, monkeypatch):
    sampler = SAMPLERS[of](make("gaussian", 3), 0.1 * levels(301, dtype=rows), temperature=1.7)
    ids = torch.arange(301).flip(0)
    equals_the_ops(monkeypatch, sampler, normal(301, 3), 5, Noise(ids + 5, sample_ids=ids))
    equals_the_ops(monkeypatch, sampler, normal(301, 3).bfloat16(), 5, NAMED)


@pytest.mark.parametrize("of", SAMPLERS)
def test_after_the_warm_up(of, monkeypatch):
    """The steps of a warm-up of the whole batch are ops; the later steps are the kernel's, with the
    step size that the warm-up found."""
    sampler = SAMPLERS[of](make("gaussian", 3), 0.1, warmup=10, per="batch")
    steps = []
    original = Metropolis.decide
    monkeypatch.setattr(
        Metropolis, "decide", lambda self, *args: (steps.append(args[5]), original(self, *args))[1]
    )
    ours = sampler(normal(40, 3), 30, noise=NAMED, thin=3)
    assert steps == list(range(2, 12))
    monkeypatch.setattr(Metropolis, "_fits_a_chain", lambda _: False)
    theirs = sampler(normal(40, 3), 30, noise=NAMED, thin=3)
    assert_equal(ours.x, theirs.x)
    assert_equal(ours.info["step_size"], theirs.info["step_size"])


@pytest.mark.parametrize("of", SAMPLERS)
def test_chains_depend_on_nothing_but_themselves(of):
    means = normal(9, 5, seed=4)
    sampler, x0 = SAMPLERS[of](pyebm.targets.GaussianMixture(means, 0.7), 0.05), normal(70, 5)
    whole = sampler(x0, 9, noise=NAMED)
    half = sampler(x0, 4, noise=NAMED)
    assert_equal(sampler(half, 5, noise=NAMED.at(step=6)), whole)
    assert_equal(sampler(x0[33:34], 9, noise=Noise(3, first_sample=40, step=2, stream=1)), whole[33:34])


@pytest.mark.parametrize("of", SAMPLERS)
@pytest.mark.parametrize("start", [1e10, 1e18])
def test_proposals_without_an_energy_are_never_taken(of, start, monkeypatch):
    """Such a proposal's energy is -infinity or NaN."""
    target = pyebm.targets.Polynomial([0.0, 0.0, 0.0, -1e30, 1e-30])
    with pytest.warns(RuntimeWarning):
        ours = equals_the_ops(monkeypatch, SAMPLERS[of](target, 1e3), torch.full((50, 2), start), 4, NAMED)
    assert not ours.info["acceptance"].any()


@pytest.mark.parametrize("n_leapfrog", [0, 1, 3])
def test_the_reference(n_leapfrog):
    """The reference steps in torch's own operations, in float64: only the order in which the
    squares are added differs."""
    target, x = make("rosenbrock", 4), 0.3 * normal(20, 4, dtype=torch.float64)
    made = []
    for op in (_ops._REGISTERED["metropolis_chain"], reference.OPS["metropolis_chain"]):
        score, energy = torch.empty_like(x), torch.empty(20, dtype=torch.float64)
        numbers = target._checked("test", x)
        reference.OPS["target_energy"](energy, score, x, target._index, numbers, 0.0)
        held = [
            x.clone(),
            score,
            energy,
            torch.zeros(20, dtype=torch.int64),
            torch.zeros(20, dtype=torch.bool),
            energy.clone(),
        ]
        steps = (6, n_leapfrog, 0.01, 1.3, NAMED._name.clone(), 0.25 if n_leapfrog else 0.0)
        op(*held, target._index, numbers, None, None, 0.0, *steps)
        made.append(held)
    for ours, theirs in zip(*made, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    assert made[0][3].double().mean() > 1
