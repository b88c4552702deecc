"""The ops behind MALA's and HMC's test and warm-up: the CPU's kernels against their definitions in torch's operations."""

from __future__ import annotations

import math

import pytest
import torch
from cases import assert_equal, normal

from pyebm import Noise, _ops, reference

pytestmark = pytest.mark.usefixtures("poison")
BATCHES = [0, 1, 5, 300, 5000]


def state(batch, dtype):
    """x, score, energy, accepted, accept, log_alpha; proposal, its score and energy, before, after."""
    each = [normal(batch, 3, dtype=dtype, seed=k) for k in range(4)]
    numbers = [normal(batch, 1, dtype=torch.float64, seed=k).flatten() for k in range(4, 9)]
    energy, proposed, before, after, log_alpha = numbers
    sums = torch.float64 if dtype == torch.float64 else torch.float32
    proposed = proposed.to(sums)
    if batch > 4:
        proposed[1], proposed[2], proposed[3] = math.nan, math.inf, -math.inf
    accepted, accept = torch.arange(batch), torch.zeros(batch, dtype=torch.bool)
    return [*each[:2], energy, accepted, accept, log_alpha], [*each[2:], proposed, before.to(sums), after.to(sums)]


@pytest.mark.parametrize("rows", [False, True], ids=["number", "rows"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("batch", BATCHES)
def test_metropolis(batch, dtype, rows):
    name, seeds, ids = Noise(3, first_sample=7, step=2, stream=1)._named(batch, torch.empty(batch))
    scale_rows = 0.5 + torch.rand(batch, dtype=torch.float64) if rows else None
    made = []
    for op in (_ops._REGISTERED["metropolis"], reference.metropolis):
        held, given = state(batch, dtype)
        op(*held, *given, 0.7, 1.3, name, scale_rows, seeds, ids)
        made.append(held)
    for ours, theirs in zip(*made, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
    if batch > 100:
        assert 0.2 < made[0][4].double().mean() < 0.8
        assert not made[0][4][1:3].any()  # neither NaN nor infinity
        assert made[0][4][3]


@pytest.mark.parametrize("together", [False, True], ids=["sample", "batch"])
@pytest.mark.parametrize("batch", BATCHES[1:])
def test_dual_averaging(batch, together):
    made = []
    for op in (_ops._REGISTERED["dual_averaging"], reference.dual_averaging):
        numbers = [normal(batch, 1, dtype=torch.float64, seed=k).flatten() for k in range(5)]
        step_size, log_average, gap, log_alpha, middle = numbers
        log_alpha[0] = math.nan if batch > 1 else -0.5
        held, seen = (step_size, log_average, gap, torch.zeros((), dtype=torch.float64)), []
        for _ in range(6):  # one beyond the warm-up
            op(*held, log_alpha, middle, 5, 0.6, together)
            seen += [each.clone() for each in held]
        made.append(seen)
    for ours, theirs in zip(*made, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)
    assert_equal(made[0][-4], made[0][-8])  # beyond it, nothing moves
    assert made[0][-1] == 6


@pytest.mark.parametrize(
    ("index", "bad", "message"),
    [
        (1, lambda t: t.mT.contiguous().mT, "score must be contiguous and like x"),
        (2, lambda t: t.float(), "energy must be contiguous, one number for each of 5 samples"),
        (8, lambda t: t.half(), "proposal_energy must be float32 or float64"),
        (9, lambda t: t[:4], "before, after and proposal_energy must be"),
    ],
)
def test_refusals(index, bad, message):
    held, given = state(5, torch.float32)
    arguments = held + given
    arguments[index] = bad(arguments[index])
    with pytest.raises(ValueError, match=message):
        _ops._REGISTERED["metropolis"](*arguments, 0.7, 1.3, Noise(3)._name)
