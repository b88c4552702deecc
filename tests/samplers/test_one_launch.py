"""A sampler around a target runs all steps of a call in one launch, with the bits of the same
sampler step by step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import assert_equal, normal
from learned_cases import mlp, wired
from target_cases import KINDS, make

import pyebm
from pyebm import Noise, _ops, reference
from pyebm.samplers import (
    HMC,
    VE,
    VP,
    AnnealedLangevin,
    Langevin,
    PredictorCorrector,
    State,
    UnderdampedLangevin,
    annealed,
    langevin,
    predictor_corrector,
    underdamped,
)
from pyebm.targets import MLPEnergy, MLPScore

NAMED = Noise(3, first_sample=7, step=2, stream=1)
X = normal(37, 3)
MASK = normal(37, 3, seed=1) > 0
DATA = normal(37, 3, seed=6)
ENERGY = MLPEnergy(mlp(3, 1), 0.5)
LEVEL, BENT = MLPScore(mlp(4, 3), condition=1), MLPScore(wired(4, 3), condition=1)
IDS = torch.arange(37).flip(0)

UNDERDAMPED = {
    "plain": lambda t: UnderdampedLangevin(t, 0.2),
    "limits": lambda t: UnderdampedLangevin(t, 0.2, 2.0, clamp=(-1.5, None), score_clip=0.5, temperature=0.7),
    "mask": lambda t: UnderdampedLangevin(t, 0.2, mask=MASK, clamp=(None, 1.0)),
    "one row": lambda t: UnderdampedLangevin(t, 0.2, mask=MASK[0]),
    "schedules": lambda t: UnderdampedLangevin(
        t, [0.1 + 0.01 * k for k in range(20)], temperature=lambda k: 1 / (1 + k)
    ),
}
OVERDAMPED = {
    "mask": lambda t: Langevin(t, 0.05, mask=MASK),
    "limits": lambda t: Langevin(t, 0.05, mask=MASK[0], clamp=(-1.0, None), score_clip=0.4),
    "clip": lambda t: Langevin(t, torch.linspace(0.01, 0.1, 37), score_clip=0.4),
    "schedule": lambda t: Langevin(t, [0.01 * (k + 1) for k in range(20)], mask=MASK),
}
LEVELS = {
    "mask": lambda t: AnnealedLangevin(t, [1.0, 0.5, 0.2], 0.05, 4, mask=MASK, score_clip=0.7),
    "known": lambda t: AnnealedLangevin(t, [1.0, 0.5, 0.2], 0.05, 4, mask=MASK, known=DATA),
    "known, all levels": lambda t: AnnealedLangevin(t, [0.9, 0.3], 0.05, 6, mask=MASK[0], known=DATA),
    "known, sample": lambda t: PredictorCorrector(
        t, VP(), 25, per="sample", corrector_steps=2, mask=MASK, known=DATA
    ),
    "known, batch": lambda t: PredictorCorrector(t, VE(0.1, 2.0), 12, mask=MASK[0], known=DATA),
    "known, no corrector": lambda t: PredictorCorrector(
        t, VP(), 25, corrector_steps=0, mask=MASK, known=DATA
    ),
    "sample": lambda t: PredictorCorrector(t, VE(0.1, 2.0), 12, per="sample"),
    "batch": lambda t: PredictorCorrector(t, VE(0.1, 2.0), 12),
    "two": lambda t: PredictorCorrector(t, VP(), 25, corrector_steps=2, predictor="ancestral", clamp=(-2, 2)),
    "two, sample": lambda t: PredictorCorrector(t, VP(), 25, corrector_steps=2, per="sample", mask=MASK),
    "no predictor": lambda t: PredictorCorrector(t, VE(0.1, 2.0), 12, predictor=None),
    "no corrector": lambda t: PredictorCorrector(
        t, VE(0.1, 2.0), 12, corrector_steps=0, predictor="euler_maruyama", mask=MASK
    ),
}
BODIES = {
    UnderdampedLangevin: underdamped,
    Langevin: langevin,
    AnnealedLangevin: annealed,
    PredictorCorrector: predictor_corrector,
}


def equals_the_steps(
    monkeypatch: pytest.MonkeyPatch, sampler: Any, x0: torch.Tensor, n_steps: int, noise: Noise = NAMED
) -> torch.Tensor:
    """Returns the end of the kernel's run, after asserting that the kernel leaves everything
    that the steps leave."""
    steps, runs = BODIES[type(sampler)]._Steps, []
    for fused in (True, False):
        with monkeypatch.context() as patch:
            if fused:  # without this the test could compare the steps with themselves
                patch.setattr(steps, "step", None)
            else:
                patch.setattr(type(sampler), "_body", lambda self, run: steps(run, self))
            whole = sampler(State(x0, noise), n_steps, thin=2)
            first = sampler(State(x0, noise), 3)
            runs.append(
                (
                    whole.states,
                    whole.x,
                    *whole.info.values(),
                    *whole.state.extra.values(),
                    sampler(first, n_steps - 3).x,
                )
            )
    for ours, theirs in zip(*runs, strict=True):
        assert_equal(ours, theirs, equal_nan=True)
    assert_equal(runs[0][1], runs[0][-1], equal_nan=True)
    return runs[0][1]


@pytest.mark.usefixtures("simd", "threads")
@pytest.mark.parametrize("target", [ENERGY, make("double_well", 3)], ids=["network", "closed form"])
@pytest.mark.parametrize("of", UNDERDAMPED)
def test_underdamped(of, target, monkeypatch):
    equals_the_steps(monkeypatch, UNDERDAMPED[of](target), X, 7)


@pytest.mark.parametrize("kind", KINDS)
def test_underdamped_on_every_target(kind, monkeypatch):
    equals_the_steps(
        monkeypatch, UnderdampedLangevin(make(kind, 6), 0.02, clamp=(-3, 3)), 0.5 * normal(37, 6), 6
    )


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(1, 1), (300, 2), (5, 3, 7), (3, 1100), (0, 3), (4, 0)], ids=str)
def test_underdamped_shapes_and_dtypes(shape, dtype, monkeypatch):
    x0 = (0.5 * normal(*shape)).to(dtype)
    ids = torch.arange(shape[0]).flip(0)
    for noise in (NAMED, Noise(ids + 5, sample_ids=ids)):
        equals_the_steps(
            monkeypatch, UnderdampedLangevin(make("double_well", 6), 0.05, mask=x0 < 0.3), x0, 5, noise
        )
    if len(shape) > 1 and shape[-1] in (3, 7):
        dim = x0[:1].numel() if shape[0] else 3
        net = MLPEnergy(wired(dim, 1, torch.float64 if dtype == torch.float64 else torch.float32), 0.3)
        equals_the_steps(
            monkeypatch, UnderdampedLangevin(net, 0.1), x0.transpose(0, -1).contiguous().transpose(0, -1), 5
        )


@pytest.mark.usefixtures("simd", "threads")
@pytest.mark.parametrize(
    "target",
    [ENERGY, make("double_well", 3), pyebm.targets.GaussianMixture(normal(9, 3, seed=4), 0.7)],
    ids=["network", "closed form", "mixture"],
)
@pytest.mark.parametrize("of", OVERDAMPED)
def test_langevin_with_a_mask_or_a_clip(of, target, monkeypatch):
    equals_the_steps(monkeypatch, OVERDAMPED[of](target), X, 7)


@pytest.mark.usefixtures("simd", "threads")
@pytest.mark.parametrize("of", LEVELS)
def test_levels(of, monkeypatch):
    for target in (LEVEL, MLPEnergy(mlp(4, 1), 0.5, condition=1)) if of == "two" else (BENT,):
        equals_the_steps(monkeypatch, LEVELS[of](target), X, 10)
        equals_the_steps(monkeypatch, LEVELS[of](target), X, 10, Noise(IDS + 5, sample_ids=IDS, step=2))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("per", ["sample", "batch"])
@pytest.mark.parametrize("shape", [(1, 1), (5, 3, 7), (3, 1100), (0, 3)], ids=str)
def test_predictor_corrector_shapes_and_dtypes(shape, per, dtype, monkeypatch):
    dim, work = (
        max(normal(1, *shape[1:]).numel(), 1),
        torch.float64 if dtype == torch.float64 else torch.float32,
    )
    target = MLPScore(mlp(dim + 1, dim, dtype=work), condition=1)
    equals_the_steps(
        monkeypatch, PredictorCorrector(target, VE(0.1, 2.0), 8, per=per), normal(*shape).to(dtype), 6
    )


def test_predictor_corrector_by_sample_depends_on_nothing_else():
    sampler = LEVELS["sample"](LEVEL)
    whole = sampler(X, noise=NAMED)
    assert_equal(sampler(X[30:31], noise=Noise(3, first_sample=37, step=2, stream=1)), whole[30:31])


@pytest.mark.parametrize("per", ["sample", "batch"])
def test_a_score_of_zero_has_no_step_size(per, monkeypatch):
    net = mlp(4, 3)
    with torch.no_grad():
        net[-1].weight.zero_()
        net[-1].bias.zero_()
    sampler, messages = PredictorCorrector(MLPScore(net, condition=1), VE(), 5, per=per), []
    for fused in (True, False):
        if not fused:
            monkeypatch.setattr(
                PredictorCorrector, "_body", lambda self, run: predictor_corrector._Steps(run, self)
            )
        with pytest.raises(ValueError, match="step_size must be > 0 and finite") as error:
            sampler(X, noise=NAMED.at(step=0))
        messages.append(str(error.value))
    assert messages[0] == messages[1]


@torch.no_grad()
def test_the_references():
    """The references differ from the kernels only in the order of sums, here in float64."""
    x, w = normal(20, 4, dtype=torch.float64), normal(20, 4, seed=2, dtype=torch.float64)
    density = MLPEnergy(mlp(4, 1, dtype=torch.float64), 0.5)._numbers_for("test", x).density
    table, name = torch.tensor([[0.1, 0.2, 0.9, 0.1, 0.3]] * 6, dtype=torch.float64), NAMED._name
    levels = MLPScore(mlp(5, 4, dtype=torch.float64), condition=1)._at_levels(
        "test", x, torch.linspace(0, 1, 6).double()
    )
    for given in (density, make("rosenbrock", 4)._numbers_for("test", x).density):
        made = []
        for ops in (_ops._REGISTERED, reference.OPS):
            held = [0.3 * x, w.clone(), torch.empty(3, 20, 4, dtype=torch.float64)]
            ops["underdamped_chain"](
                *held[:2], *given, 0.1 * table, 6, name.clone(), held[2], 2, x > -1, -2.0, 2.0, 1.0
            )
            made.append(held)
        torch.testing.assert_close(made[0], made[1], rtol=1e-9, atol=1e-9)
    for together in (False, True):
        made = []
        for ops in (_ops._REGISTERED, reference.OPS):
            held = [x.clone(), torch.empty(3, 20, 4, dtype=torch.float64)]
            numbers = (levels.which, levels.params, levels.biases, table[:, :4].contiguous())
            ops["predictor_corrector"](
                held[0], *numbers, 6, 2, True, together, name.clone(), held[1], 2, x > -1, -3.0, 3.0
            )
            made.append(held)
        torch.testing.assert_close(made[0], made[1], rtol=1e-9, atol=1e-9)


def test_the_chain_with_a_mask(monkeypatch):
    """The public call is one launch on the CPU; on other devices, and where derivatives are
    wanted, it is a loop of steps."""
    target, options = (
        make("double_well", 3),
        {"mask": MASK, "score_clip": 0.4, "thin": 2, "return_diverged": True},
    )
    got = pyebm.langevin_chain(X, target, 6, 0.05, NAMED, **options)
    x = X
    for k in range(6):
        x = pyebm.langevin_step(x, target.score(x), 0.05, NAMED.at(step=2 + k), mask=MASK, score_clip=0.4)
    assert_equal(got[0], x)
    assert_equal(pyebm.langevin_chain(X, target, 6, 0.05, NAMED, backend="reference", **options)[0], x)
    start = X.clone().requires_grad_()
    followed = pyebm.langevin_chain(start, target, 6, 0.05, NAMED, **options)
    assert_equal(followed[0].detach(), x)
    assert_equal(followed[1].detach(), got[1])
    followed[0].sum().backward()
    assert_equal(start.grad[~MASK], torch.ones(int((~MASK).sum())))
    monkeypatch.setattr(pyebm._chain_loop, "langevin_step", None)
    pyebm.langevin_chain(X, target, 6, 0.05, NAMED, **options)
    pyebm.langevin_chain(X, ENERGY, 6, 0.05, NAMED, **options)


@pytest.mark.parametrize(
    "sampler",
    [UNDERDAMPED["limits"](ENERGY), LEVELS["two"](LEVEL), HMC(ENERGY, 0.3, 2)],
    ids=["w", "pc", "hmc"],
)
def test_compiled(sampler):
    function = lambda x: sampler(x, 3, noise=NAMED)  # noqa: E731
    assert_equal(torch.compile(function, fullgraph=True, backend="aot_eager")(X), function(X))
