"""MALA and HMC step by step against their definitions in plain float64; the test's decisions;
the adaptation's formulas."""

from __future__ import annotations

import math

import pytest
import torch
from cases import assert_equal, levels, normal
from torch import Tensor

import pyebm
from pyebm import Noise
from pyebm.samplers import HMC, MALA, State

pytestmark = pytest.mark.usefixtures("poison", "one_thread")


def energy(x: Tensor) -> Tensor:
    return (0.25 * x**4 - 0.3 * x).flatten(1).sum(1)


def score(x: Tensor) -> Tensor:
    return 0.3 - x**3


def column(rows: float | Tensor) -> float | Tensor:
    return rows[:, None] if isinstance(rows, Tensor) and rows.dim() else rows


def log_q(to: Tensor, at: Tensor, eta: float | Tensor, t: float, mask: Tensor) -> Tensor:
    """The proposal's log density, up to terms that depend on neither ``to`` nor ``at``."""
    moved = (to - at - column(eta) * score(at)) * mask
    return -moved.square().sum(1) / (4 * eta * t)


def mala(x: Tensor, eta: float | Tensor, t: float, mask: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
    z = noise.randn(x.shape).double()
    y = torch.where(
        mask,
        x + column(eta) * score(x) + column((2 * torch.as_tensor(eta, dtype=torch.float64) * t).sqrt()) * z,
        x,
    )
    log_alpha = (energy(x) - energy(y)) / t + log_q(x, y, eta, t, mask) - log_q(y, x, eta, t, mask)
    u = noise.at(stream=noise.stream + 1).rand((len(x), 1)).double().flatten()
    accept = u.log() < log_alpha
    return torch.where(accept[:, None], y, x), accept


def hmc(
    x: Tensor, eps: float | Tensor, t: float, mask: Tensor, noise: Noise, steps: int
) -> tuple[Tensor, Tensor]:
    p, q, eps_ = noise.randn(x.shape).double() * math.sqrt(t) * mask, x, column(eps)
    before = energy(x) + 0.5 * p.square().sum(1)
    for _ in range(steps):
        p = p + 0.5 * eps_ * score(q) * mask
        q = q + eps_ * p
        p = p + 0.5 * eps_ * score(q) * mask
    u = noise.at(stream=noise.stream + 1).rand((len(x), 1)).double().flatten()
    accept = u.log() < (before - energy(q) - 0.5 * p.square().sum(1)) / t
    return torch.where(accept[:, None], q, x), accept


ALL = torch.ones(1, 3, dtype=torch.bool)
SOME = torch.tensor([[True, False, True]])


@pytest.mark.parametrize("mask", [None, SOME], ids=["all", "mask"])
@pytest.mark.parametrize("step", [0.35, levels(200, dtype=torch.float64)], ids=["number", "rows"])
@pytest.mark.parametrize("closed", [True, False], ids=["score", "autograd"])
@pytest.mark.parametrize("t", [1.0, 0.6])
@pytest.mark.parametrize("kind", ["mala", "hmc"])
def test_step_by_step(kind, t, closed, step, mask):
    x, dense = normal(200, 3, dtype=torch.float64), ALL if mask is None else mask
    options = {"score_fn": score if closed else None, "temperature": t, "mask": mask}
    sampler = MALA(energy, step, **options) if kind == "mala" else HMC(energy, step, 4, **options)
    decided = []
    run = sampler(
        x,
        8,
        noise=Noise(3, stream=2),
        thin=1,
        callback=lambda *args: decided.append(args[2]["accepted"].clone()),
    )
    for k in range(8):
        noise = Noise(3, step=k, stream=2)
        want, accept = mala(x, step, t, dense, noise) if kind == "mala" else hmc(x, step, t, dense, noise, 4)
        torch.testing.assert_close(run.states[k], want, rtol=1e-9, atol=1e-9)
        assert_equal(decided[k], accept)
        torch.testing.assert_close(run.info["energy"][k], energy(want), rtol=1e-9, atol=1e-9)
        x = run.states[k]  # start from the run's own state, so that rounding does not add up
    assert 50 < sum(int((~accept).sum()) for accept in decided) < 1500


def test_accept_prob_and_info():
    x, seen = normal(200, 3, dtype=torch.float64), []
    run = MALA(energy, 0.4)(
        x,
        30,
        noise=Noise(1),
        thin=1,
        callback=lambda _, x, info: seen.append((x.clone(), info["accepted"].clone())),
    )
    moved = torch.stack([x, *run.states]).diff(dim=0).abs().flatten(2).sum(2) > 0
    assert_equal(torch.stack([accepted for _, accepted in seen]), moved)
    assert_equal(run.info["acceptance"], moved.double().mean(0))
    assert_equal(run.info["energy"][-1], energy(run.x))
    # Each acceptance is a Bernoulli draw with probability accept_prob.
    probability = run.info["accept_prob"]
    spread = math.sqrt(float((probability * (1 - probability)).sum()))
    assert abs(float(moved.double().sum() - probability.sum())) < 4.5 * spread
    assert run.info["step_size"].tolist() == [0.4] * 30


def test_mala_is_hmc_of_one_leapfrog_step():
    """With eta = eps^2 / 2 and the same normals and uniforms, both make the same decisions and,
    up to rounding, the same states."""
    x, eps = normal(500, 3, dtype=torch.float64), 0.8
    one, other = (
        sampler(x, 20, noise=Noise(2)) for sampler in (MALA(energy, eps**2 / 2), HMC(energy, eps, 1))
    )
    torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-7)


def test_jitter():
    """Each chain and step draws its own eps, from stream + 2. Jitter cures a trajectory of half
    a period, which mirrors x for ever."""
    x = normal(200, 3, dtype=torch.float64)
    got = HMC(energy, 0.4, 4, jitter=0.5)(x, 1, noise=Noise(3, step=5, stream=2))
    eps = 0.4 * (0.5 + Noise(3, step=5, stream=4).rand((200, 1)).double().flatten())
    torch.testing.assert_close(
        got, hmc(x, eps, 1.0, ALL, Noise(3, step=5, stream=2), 4)[0], rtol=1e-9, atol=1e-9
    )
    far, half_period = torch.full((500, 1), 3.0, dtype=torch.float64), math.pi / 5 / 2
    size = 2 * math.sin(half_period)  # 5 leapfrog steps of this size turn a standard normal's phase by pi
    stuck, free = (
        HMC(lambda x: 0.5 * x.square().sum(1), size, 5, jitter=j)(far, 20, noise=Noise(1)).abs().mean()
        for j in (0.0, 0.3)
    )
    assert stuck > 2.9
    assert free < 1.5


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_proposal_without_a_finite_energy_is_refused(bad):
    """A wall at 1: no chain with a finite energy ends beyond it, and the other chains go on."""

    def walled(x: Tensor) -> Tensor:
        return torch.where(x.amax(1) > 1, bad, 0.5 * x.square().sum(1))

    for sampler in (MALA(walled, 0.8, score_fn=torch.neg), HMC(walled, 0.8, 3, score_fn=torch.neg)):
        run = sampler(normal(300, 2).clamp(max=0.9), 40, noise=Noise(4), thin=1)
        assert run.states.amax() <= 1
        assert run.info["energy"].isfinite().all()
        assert 0.2 < run.info["acceptance"].mean() < 0.95


def test_a_score_that_explodes_does_not_take_others_along():
    x = normal(5, 2)
    x[2] = 1e30  # its fourth power overflows
    run = MALA(energy, 0.1)(x, 10, noise=Noise(5), thin=1)
    alone = MALA(energy, 0.1)(x[:2], 10, noise=Noise(5))
    assert_equal(run.x[:2], alone)


class TestAdaptation:
    def test_dual_averaging(self):
        """Hoffman & Gelman (2014), algorithm 5, for each chain, from the acceptance that the
        sampler reports."""
        warmup, start, target = 25, 0.3, 0.65
        run = HMC(energy, start, 3, warmup=warmup, target_acceptance=target)(
            normal(6, 3, dtype=torch.float64), 40, noise=Noise(6), thin=1
        )
        gap = average = torch.zeros(6, dtype=torch.float64)
        for m in range(1, warmup + 1):
            gap = (1 - 1 / (m + 10)) * gap + (target - run.info["accept_prob"][m - 1]) / (m + 10)
            log_step = math.log(10 * start) - math.sqrt(m) / 0.05 * gap
            average = m**-0.75 * log_step + (1 - m**-0.75) * average
            want = log_step.exp() if m < warmup else average.exp()
            torch.testing.assert_close(run.info["step_size"][m - 1], want, rtol=1e-9, atol=0)
        assert (run.info["step_size"][warmup - 1 :] == run.info["step_size"][-1]).all()

    def test_a_resumed_run_does_not_adapt_again(self):
        sampler = MALA(energy, 0.3, warmup=10)
        end = sampler(State(normal(6, 3), Noise(7)), 10)
        assert int(end.extra["adapted_steps"]) == 10
        further = sampler(end, 20)
        assert_equal(further.extra, end.extra)
        assert int(sampler(State(normal(6, 3), Noise(7)), 4).extra["adapted_steps"]) == 4

    @pytest.mark.filterwarnings("ignore:MALA. the energy at the start is NaN")
    def test_a_chain_that_never_moves_does_not_stop_the_others(self):
        """The stuck chains' step size falls, but remains a number that a kernel takes."""
        stuck = MALA(lambda x: x.sum(1) * math.nan, 1.0, score_fn=torch.neg, warmup=5000)
        end = stuck(State(torch.ones(2, 2), Noise(0)), 4700)  # it would be e^-780 without a bound
        assert (end.x == 1).all()
        assert (end.extra["step_size"] > 0).all()

    def test_per_batch_is_one_step_size(self):
        end = MALA(energy, levels(6), warmup=10, per="batch")(State(normal(6, 3), Noise(7)), 10)
        ratio = end.extra["step_size"] / levels(6).double()
        torch.testing.assert_close(
            ratio, ratio[:1].expand(6), rtol=1e-12, atol=0
        )  # the step sizes keep their proportions


def test_targets_bring_their_score():
    """A target's score needs no autograd; the chain is the one around its energy."""
    target = pyebm.targets.DoubleWell().double()
    x = normal(100, 2, dtype=torch.float64)
    for make in (lambda e: MALA(e, 0.05), lambda e: HMC(e, 0.2, 3)):
        got, want = make(target)(x, 20, noise=Noise(8)), make(target.energy)(x, 20, noise=Noise(8))
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def test_float32_decides_as_float64_does():
    x = normal(2000, 3)
    run32, run64 = (
        MALA(energy, 0.3)(x.to(dtype), 1, noise=Noise(9), thin=1) for dtype in (torch.float32, torch.float64)
    )
    assert (run32.info["acceptance"] != run64.info["acceptance"]).sum() <= 1
    torch.testing.assert_close(run32.info["accept_prob"], run64.info["accept_prob"], rtol=1e-4, atol=1e-5)
