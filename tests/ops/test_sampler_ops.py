"""The samplers' ops on every backend that has kernels of them: the reference's bits, whose sums
have the CPU's order."""

from __future__ import annotations

import math

import pytest
import torch
from cases import DTYPES, assert_equal, levels, name_of, normal
from sampler_op_cases import named, proposals, transposed
from target_cases import KINDS, make, start

from pyebm import _ops, reference, targets

pytestmark = pytest.mark.usefixtures("poison")
# Samples of one lane each; of all lanes, cut; of several spans, the last of them cut; in rows
# that are not aligned; several dimensions; nothing.
SHAPES = [(0, 3), (4, 0), (300, 1), (70, 2), (9, 37), (5, 3, 7, 3), (3, 1024), (2, 1027), (2, 2500)]


@pytest.fixture
def ops(backend):
    if backend == "cpu":
        pytest.skip("the CPU's kernels have tests of their own")
    return _ops.kernels(backend, torch.empty(0))


def same(results, expected):
    for ours, theirs in zip(results, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("rows", [False, True], ids=["number", "rows"])
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("shape", SHAPES, ids=name_of)
def test_leapfrog(ops, shape, dtype, rows):
    eps = levels(shape[0], dtype=torch.float64) if rows else None
    base, from_p, score = (normal(*shape, dtype=dtype, seed=k) for k in range(3))
    made = []
    for op in (ops["leapfrog"], reference.OPS["leapfrog"]):
        x, p = torch.empty_like(base), torch.empty_like(base)
        op(x, from_p, 0.37, None, base, None, eps)
        first = x.clone()
        op(x, p, 0.37, transposed(score), None, from_p, eps)
        second = x.clone()
        op(x, p, 0.37, score, None, None, eps)
        made.append((first, second, x, p))
    same(*made)


@pytest.mark.parametrize("of", ["mala", "hmc"])
@pytest.mark.parametrize("rows", [False, True], ids=["number", "rows"])
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("shape", SHAPES, ids=name_of)
def test_metropolis(ops, shape, dtype, rows, of):
    batch = shape[0]
    name, seeds, ids = named(batch, rows)
    step, scale = (levels(batch, seed=k, dtype=torch.float64) for k in (1, 2)) if rows else (None, None)
    made = []
    for op in (ops["metropolis"], reference.OPS["metropolis"]):
        held, given, momenta = proposals(shape, dtype)
        given[2][1:4] = torch.tensor([math.nan, math.inf, -math.inf])[: max(batch - 1, 0)]
        pair = momenta if of == "hmc" else (None, None)
        op(*held, *given, 0.3, 2.7, 1.3, name, *pair, step, scale, seeds, ids)
        made.append(held)
    same(*made)
    if batch == 300:
        assert 0.1 < made[0][4].double().mean() < 0.9


@pytest.mark.parametrize("together", [False, True], ids=["sample", "batch"])
@pytest.mark.parametrize("batch", [0, 1, 5, 300, 1025, 9000])
def test_dual_averaging(ops, batch, together):
    made = []
    for op in (ops["dual_averaging"], reference.OPS["dual_averaging"]):
        step_size, log_average, gap, log_alpha, middle = (
            normal(batch, 1, dtype=torch.float64, seed=k).flatten() for k in range(5)
        )
        log_alpha[:1] = math.nan if batch > 1 else -0.5
        held, seen = (step_size, log_average, gap, torch.zeros((), dtype=torch.float64)), []
        for _ in range(4):  # the last step is beyond the warm-up
            op(*held, log_alpha, middle, 3, 0.6, together)
            seen += [each.clone() for each in held]
        made.append(seen)
    same(*made)
    assert made[0][-1] == 4


@pytest.mark.parametrize("options", [False, True], ids=["plain", "options"])
@pytest.mark.parametrize("together", [False, True], ids=["sample", "batch"])
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("shape", [each for each in SHAPES if 0 not in each[1:]], ids=name_of)
def test_corrector_step(ops, shape, dtype, together, options):
    x, score = normal(*shape, dtype=dtype), transposed(normal(*shape, dtype=dtype, seed=1))
    name, *rest = named(shape[0], options)
    tail = (normal(*shape, seed=4) > 0, -0.5, None, *rest) if options else ()
    made = []
    for op in (ops["corrector_step"], reference.OPS["corrector_step"]):
        made.append(x.clone())
        op(made[-1], score, 0.3, name, together, *tail)
    assert_equal(*made)


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("shape", [(0, 5), (37, 3), (5, 40), (4, 3, 11), (2, 1024), (2, 2500)], ids=name_of)
@pytest.mark.parametrize("kind", KINDS)
def test_target_energy(ops, kind, shape, dtype):
    elements = math.prod(shape[1:])
    target, x = make(kind, elements), transposed(start(shape, dtype))
    made = []
    for op in (ops["target_energy"], reference.target_energy):
        for energy in (torch.empty(shape[:1]), torch.empty(shape[:1], dtype=torch.float64)):
            score = torch.empty_like(x)
            op(energy, score, x, target._index, target._checked("test", x), target._constant(elements))
            made.append((energy, score))
    same((*made[0], *made[1]), (*made[2], *made[3]))


def test_a_dense_target_has_no_energy(ops):
    x, target = normal(4, 2), targets.GaussianMixture(normal(3, 2), 0.5)
    with pytest.raises(ValueError, match="target_energy: the target mixture has no kernel of its energy"):
        ops["target_energy"](torch.empty(4), x.clone(), x, target._index, target._checked("test", x), 0.0)
