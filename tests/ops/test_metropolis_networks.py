"""MALA and HMC on networks run in one launch, and have the bits of the same steps by several ops
each."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, normal
from learned_cases import mlp, wired
from metropolis_cases import NAMED, SAMPLERS, equals_the_ops

from pyebm import Noise, _ops, reference
from pyebm.samplers import State
from pyebm.targets import MLPEnergy


@pytest.mark.usefixtures("simd", "threads")
@pytest.mark.parametrize("of", SAMPLERS)
def test_every_level(of, monkeypatch):
    ours = equals_the_ops(monkeypatch, SAMPLERS[of](MLPEnergy(mlp(3, 1), 0.5), 0.3), normal(101, 3), 7, NAMED)
    assert 0.1 < ours.info["acceptance"].mean() < 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (130, 3, 2), (3, 512)], ids=str)
@pytest.mark.parametrize("of", SAMPLERS)
def test_shapes_and_dtypes(of, shape, dtype, monkeypatch):
    dim = normal(*shape)[0].numel()
    target = MLPEnergy(wired(dim, 1, torch.float64 if dtype == torch.float64 else torch.float32), 0.2)
    equals_the_ops(monkeypatch, SAMPLERS[of](target, 0.05), normal(*shape).to(dtype), 4, NAMED, thin=2)


@pytest.mark.parametrize("of", SAMPLERS)
def test_conditions_and_step_sizes_of_each_chain(of, monkeypatch):
    target = MLPEnergy(mlp(4, 1), 0.5, condition=1).given(torch.linspace(-2, 2, 40))
    sampler = SAMPLERS[of](target, torch.linspace(0.05, 0.4, 40), temperature=1.7)
    ids = torch.arange(40).flip(0)
    equals_the_ops(monkeypatch, sampler, normal(40, 3), 5, Noise(ids + 5, sample_ids=ids))


@pytest.mark.parametrize("of", SAMPLERS)
def test_chains_depend_on_nothing_but_themselves(of):
    """This also holds after a warm-up, whose steps are ops."""
    sampler, x0 = SAMPLERS[of](MLPEnergy(mlp(5, 1), 0.5), 0.1, warmup=4), normal(50, 5)
    whole = sampler(State(x0, NAMED), 9)
    assert_equal(sampler(sampler(State(x0, NAMED), 6), 3).x, whole.x)
    assert_equal(sampler(x0[33:34], 9, noise=Noise(3, first_sample=40, step=2, stream=1)), whole.x[33:34])


@torch.no_grad()
@pytest.mark.parametrize("n_leapfrog", [0, 1, 3])
def test_the_reference(n_leapfrog):
    x, target = normal(20, 4, dtype=torch.float64), MLPEnergy(mlp(4, 1, dtype=torch.float64), 0.5)
    density, made = target._numbers_for("test", x).density, []
    for op in (_ops._REGISTERED["metropolis_chain"], reference.OPS["metropolis_chain"]):
        held = [x.clone(), target.score(x), target(x).detach(), torch.zeros(20, dtype=torch.int64)]
        held += [torch.zeros(20, dtype=torch.bool), torch.empty(20, dtype=torch.float64)]
        op(*held, *density, 0.0, 6, n_leapfrog, 0.3, 1.3, NAMED._name.clone(), 0.25 if n_leapfrog else 0.0)
        made.append(held)
    for ours, theirs in zip(*made, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    assert 1 < made[0][3].double().mean() < 6


def test_a_score_has_no_energy():
    x, layout = normal(4, 3), torch.tensor([1, 3, 1, 3, 0, 0, 0])
    energy, counts = torch.zeros(4, dtype=torch.float64), torch.zeros(4, dtype=torch.int64)
    for op in (_ops._REGISTERED["metropolis_chain"], reference.OPS["metropolis_chain"]):
        with pytest.raises((RuntimeError, ValueError), match="no energy"):
            op(
                *(
                    x,
                    x.clone(),
                    energy,
                    counts,
                    counts.bool(),
                    energy.clone(),
                    0,
                    torch.zeros(14),
                    layout,
                    None,
                ),
                *(0.0, 2, 0, 0.1, 1.0, NAMED._name.clone(), 0.0),
            )
