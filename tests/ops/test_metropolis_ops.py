"""The ops of HMC's leapfrog, of Metropolis' test and of its warm-up: the CPU's kernels against
their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from cases import assert_equal, levels, normal

from pyebm import Noise, _composed, _ops, reference
from pyebm._composed.metropolis import _accepts

pytestmark = pytest.mark.usefixtures("poison")
BATCHES = [0, 1, 5, 300, 5000]
# Each width that the kernel sums in its own way; samples of several chunks; many samples; nothing.
SHAPES = [
    (0, 3),
    (1, 3),
    (4, 0),
    (300, 1),
    (300, 2),
    (5000, 3),
    (300, 4),
    (300, 5),
    (40, 16),
    (40, 37),
    (12, 700),
    (6, 2, 1300),
]
KERNELS = _ops._REGISTERED


def state(shape, dtype):
    """Returns [x, score, energy, accepted, accept, log_alpha], [proposal, its score, its
    energy], and two momenta."""
    batch = shape[0]
    each = [normal(*shape, dtype=dtype, seed=k) for k in range(6)]
    each[2] = (each[0].double() + 0.5 * each[2].double()).to(dtype)  # near, so that large samples move too
    for close, to in ((3, 1), (5, 4)):
        each[close] = (each[to].double() + 0.02 * each[close].double()).to(dtype)
    energy, proposed, log_alpha = (
        normal(batch, 1, dtype=torch.float64, seed=k).flatten() for k in range(6, 9)
    )
    proposed = proposed.to(torch.float64 if dtype == torch.float64 else torch.float32)
    if batch > 4:
        proposed[1], proposed[2], proposed[3] = math.nan, math.inf, -math.inf
    accepted, accept = torch.arange(batch), torch.zeros(batch, dtype=torch.bool)
    return [*each[:2], energy, accepted, accept, log_alpha], [*each[2:4], proposed], each[4:]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("rows", [False, True], ids=["number", "rows"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("of", ["mala", "hmc"])
def test_metropolis(of, shape, dtype, rows):
    """The reference around the loss kernel's sums gives the same bits: decisions, states and
    log_alpha."""
    batch = shape[0]
    name, seeds, ids = Noise(3, first_sample=7, step=2, stream=1)._named(batch, torch.empty(batch))
    step_rows, scale_rows = (
        (levels(batch, seed=k, dtype=torch.float64) for k in (1, 2)) if rows else (None, None)
    )
    made = []
    for op in (
        KERNELS["metropolis"],
        _composed.around(KERNELS)["metropolis"],
    ):
        held, given, momenta = state(shape, dtype)
        pair = momenta if of == "hmc" else (None, None)
        op(*held, *given, 0.3, 2.7, 1.3, name, *pair, step_rows, scale_rows, seeds, ids)
        made.append(held)
    for ours, theirs in zip(*made, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
    held, accept = made[0], made[0][4]
    if batch > 4:
        assert not accept[1:4].any()  # a proposal with NaN or an infinite energy is refused
        assert held[5][3] == -math.inf
    if batch > 100:
        assert 0.2 < accept.double().mean() < 0.8
    assert_equal(held[3], torch.arange(batch) + accept)


@pytest.mark.parametrize("of", ["mala", "hmc"])
def test_the_squares_by_hand(of):
    """Compares the kernel in float64 with the definition; also the reference, which sums in
    float64 too."""
    held, given, (first, last) = state((200, 7), torch.float64)
    eta, temperature = levels(200, dtype=torch.float64), 1.3
    x, s, energy = (each.clone() for each in held[:3])
    y, s_y, energy_y = given
    if of == "mala":
        before, after = (
            (y - x - eta[:, None] * s).square().sum(1),
            (x - y - eta[:, None] * s_y).square().sum(1),
        )
    else:
        before, after = (
            (first - eta[:, None] * s).square().sum(1),
            (last + eta[:, None] * s_y).square().sum(1),
        )
    want = (energy - energy_y) / temperature + (before - after) / 2.7
    want[3] = -math.inf  # this proposal's energy is -infinity
    for op in (KERNELS["metropolis"], reference.OPS["metropolis"]):
        held, given, momenta = state((200, 7), torch.float64)
        op(
            *held,
            *given,
            math.nan,
            2.7,
            temperature,
            Noise(3)._name,
            *(momenta if of == "hmc" else (None, None)),
            eta,
        )
        torch.testing.assert_close(held[5], want, rtol=1e-12, atol=1e-12, equal_nan=True)


def test_decisions_are_those_of_the_logarithm():
    """The decision is right also at the logarithm's bounds 1 - 1/u and u - 1, which decide most
    samples without it. Where alpha is log u itself, either is right, and it is the reference's."""
    u = Noise(5).rand((4000, 1), dtype=torch.float64).flatten()
    log_u = torch.tensor(
        [math.log(each) for each in u.tolist()], dtype=torch.float64
    )  # torch's own logarithm may differ in the last bit
    bounds = 1 - 1 / u, u - 1
    for alpha in (
        *(each + off for each in (*bounds, log_u) for off in (-1e-9, 1e-9)),
        *bounds,
        log_u,
        torch.full_like(u, -math.inf),
        torch.full_like(u, math.inf),
        torch.full_like(u, math.nan),
    ):
        held, given, _ = state((4000, 1), torch.float64)
        held[2].copy_(alpha)
        given[2].zero_()
        KERNELS["metropolis"](*held, *given, 0.3, math.inf, 1.0, Noise(5)._name)
        torch.testing.assert_close(held[5], alpha, rtol=0, atol=0, equal_nan=True)
        assert_equal(held[4], log_u < alpha if alpha is not log_u else _accepts(alpha, u))


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("rows", [False, True], ids=["number", "rows"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(0, 3), (4, 0), (300, 2), (5, 700), (3, 2, 1300)], ids=str)
def test_leapfrog(shape, dtype, rows):
    eps = levels(shape[0], dtype=torch.float64) if rows else None
    base, from_p, score = (normal(*shape, dtype=dtype, seed=k) for k in range(3))
    spread = score.mT.contiguous().mT if len(shape) > 2 else score  # another layout
    made = []
    for op in (KERNELS["leapfrog"], reference.OPS["leapfrog"]):
        x, p = torch.empty_like(base), torch.empty_like(base)
        op(x, from_p, 0.37, None, base, None, eps)
        first = x.clone()
        op(x, p, 0.37, spread, None, from_p, eps)
        second = x.clone()
        op(x, p, 0.37, score, None, None, eps)
        made.append((first, second, x, p))
    for ours, theirs in zip(*made, strict=True):
        assert_equal(ours, theirs)
    if dtype == torch.float64:
        by = 0.37 if eps is None else eps.reshape(-1, *[1] * (len(shape) - 1))
        torch.testing.assert_close(second, first + by * (from_p + by * score))


@pytest.mark.parametrize("together", [False, True], ids=["sample", "batch"])
@pytest.mark.parametrize("batch", BATCHES[1:])
def test_dual_averaging(batch, together):
    made = []
    for op in (_ops._REGISTERED["dual_averaging"], reference.OPS["dual_averaging"]):
        numbers = [normal(batch, 1, dtype=torch.float64, seed=k).flatten() for k in range(5)]
        step_size, log_average, gap, log_alpha, middle = numbers
        log_alpha[0] = math.nan if batch > 1 else -0.5
        held, seen = (step_size, log_average, gap, torch.zeros((), dtype=torch.float64)), []
        for _ in range(6):  # the last step is beyond the warm-up
            op(*held, log_alpha, middle, 5, 0.6, together)
            seen += [each.clone() for each in held]
        made.append(seen)
    for ours, theirs in zip(*made, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)
    assert_equal(made[0][-4], made[0][-8])  # nothing moves beyond the warm-up
    assert made[0][-1] == 6


@pytest.mark.parametrize(
    ("index", "bad", "message"),
    [
        (1, lambda t: t.mT.contiguous().mT, "score must be contiguous, got strides"),
        (2, lambda t: t.float(), "energy must be float64, got float32"),
        (8, lambda t: t.half(), "proposal_energy must be float32 or float64"),
        (8, lambda t: t[:4], "proposal_energy must have one value for each of 5 samples"),
        (14, lambda t: t[:4], "last must have x's shape"),
        (14, lambda _: None, "first and last must both be given"),
    ],
)
def test_refusals(index, bad, message):
    held, given, momenta = state((5, 3), torch.float32)
    arguments = [*held, *given, 0.3, 2.7, 1.3, Noise(3)._name, *momenta]
    arguments[index] = bad(arguments[index])
    with pytest.raises(ValueError, match=message):
        KERNELS["metropolis"](*arguments)


def test_leapfrog_refuses_other_shapes():
    x = normal(5, 3)
    with pytest.raises(ValueError, match="leapfrog: score must have x's shape"):
        KERNELS["leapfrog"](x, x.clone(), 0.1, normal(5, 2))
