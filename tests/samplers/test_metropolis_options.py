"""MALA and HMC with each of their options run in one launch, and have the bits of the same steps by
several ops each."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, normal
from learned_cases import mlp
from metropolis_cases import NAMED, SAMPLERS, equals_the_ops
from target_cases import make

from pyebm import Noise, _ops, reference
from pyebm.samplers import HMC, MALA, State
from pyebm.samplers._metropolis import Metropolis
from pyebm.targets import MLPEnergy

X = 0.5 * normal(37, 3)
MASK = normal(37, 3, seed=1) > 0
MASS = normal(37, 3, seed=5).abs() + 0.5
SIZES = [0.02 * (k % 7 + 1) for k in range(40)]
TARGETS = {
    "closed form": make("double_well", 3),
    "coupled": make("gaussian", 3),
    "network": MLPEnergy(mlp(3, 1), 0.5),
    "given": MLPEnergy(mlp(4, 1), 0.5, condition=1).given(torch.linspace(-2, 2, 37)),
}
OPTIONS = {
    "mask": {"mask": MASK},
    "mass": {"mass": MASS},
    "one mass": {"mass": 1.7, "mask": MASK[0]},
    "mass and mask": {"mass": MASS[0], "mask": MASK, "temperature": 1.3},
    "schedules": {"step_size": SIZES, "temperature": lambda k: 1.0 + 0.1 * k},
    "everything": {
        "step_size": lambda k: 0.3 / (1 + k),
        "temperature": [1.0 + 0.2 * (k % 3) for k in range(40)],
        "mass": MASS,
        "mask": MASK,
    },
    "sizes of each": {"step_size": torch.linspace(0.05, 0.4, 37), "mass": MASS, "mask": MASK},
    "temperature": {"temperature": torch.tensor(1.3)},
}


@pytest.mark.usefixtures("simd", "threads")
@pytest.mark.parametrize("of", SAMPLERS)
@pytest.mark.parametrize("name", OPTIONS)
def test_options(name, of, monkeypatch):
    options = dict(OPTIONS[name])
    size = options.pop("step_size", 0.35)
    target = list(TARGETS.values())[(list(OPTIONS).index(name) + list(SAMPLERS).index(of)) % len(TARGETS)]
    ours = equals_the_ops(monkeypatch, SAMPLERS[of](target, size, **options), X, 10, NAMED)
    assert ours.info["acceptance"].any()
    if "mask" in options:
        assert_equal(ours.x.where(MASK if options["mask"].dim() > 1 else MASK[0], X), ours.x)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1), (3, 700), (2, 1100), (3, 2, 1024), (300, 5)], ids=str)
@pytest.mark.parametrize("of", SAMPLERS)
def test_shapes_and_dtypes(of, shape, dtype, monkeypatch):
    """Large samples, too, whose squares are summed by the chunk."""
    x0 = (0.5 * normal(*shape)).to(dtype)
    options = {} if dtype == torch.bfloat16 else {"mass": normal(*shape[1:], seed=3).abs() + 0.5}
    sampler = SAMPLERS[of](make("double_well", 6), 0.02 * torch.ones(shape[0]), mask=x0 < 0.3, **options)
    equals_the_ops(monkeypatch, sampler, x0, 4, Noise(torch.arange(shape[0]) + 5), thin=2)


@pytest.mark.parametrize("of", SAMPLERS)
def test_large_networks_and_strides(of, monkeypatch):
    net = MLPEnergy(mlp(1030, 1), 0.5)
    equals_the_ops(monkeypatch, SAMPLERS[of](net, 0.01), 0.3 * normal(20, 1030), 3, NAMED)
    x0 = normal(3, 2, 20).permute(2, 0, 1)  # not contiguous
    equals_the_ops(monkeypatch, SAMPLERS[of](make("double_well", 6), 0.05, warmup=3), x0, 5, NAMED)


WARM_UPS = {
    "sample": {"warmup": 20},
    "mass": {"warmup": 20, "mass": MASS, "mask": MASK},
    "batch": {"warmup": 20, "per": "batch"},
    "adapt_mass": {"warmup": 20, "adapt_mass": True},
    "adapt_mass, batch": {"warmup": 25, "adapt_mass": True, "per": "batch"},
}


@pytest.mark.parametrize("of", SAMPLERS)
@pytest.mark.parametrize("name", WARM_UPS)
def test_warm_ups(name, of, monkeypatch):
    """Also where they are cut, and where the last launch goes beyond them."""
    sampler, runs = SAMPLERS[of](TARGETS["coupled"], 0.1, **WARM_UPS[name]), []
    for fused in (True, False):
        with monkeypatch.context() as patch:
            if not fused:
                patch.setattr(Metropolis, "_fits_a_chain", lambda _: False)
            elif "per" not in WARM_UPS[name] and "adapt_mass" not in WARM_UPS[name]:
                patch.setattr(Metropolis, "decide", None)
            whole = sampler(State(X, NAMED), 40, thin=3)
            rest = sampler(sampler(State(X, NAMED), 7), 33)
            runs.append((whole.states, *whole.info.values(), *whole.state.extra.values(), rest.x))
    for ours, theirs in zip(*runs, strict=True):
        assert_equal(ours, theirs)
    assert_equal(runs[0][-1], whole.x)


def test_reports_of_every_cut(monkeypatch):
    """Trajectories have the same states and reports however the launches are cut."""
    sampler = MALA(TARGETS["coupled"], 0.2, warmup=9)
    whole = sampler(State(X, NAMED), 24, thin=4)
    monkeypatch.setattr("pyebm.samplers._chained.first_stretch", lambda *_: 7)
    cut = sampler(State(X, NAMED), 24, thin=4)
    seen = {}
    sampler(
        State(X, NAMED), 24, callback=lambda k, x, info: seen.update({k: (x.clone(), info["energy"].clone())})
    )
    assert_equal(whole.states, cut.states)
    for name in whole.info:
        assert_equal(whole.info[name], cut.info[name])
    for i in range(6):
        assert_equal(whole.states[i], seen[4 * i + 4][0])
        assert_equal(whole.info["energy"][i], seen[4 * i + 4][1])


def _held(target, x):
    score, energy = torch.empty_like(x), torch.empty(len(x), dtype=torch.float64)
    reference.OPS["target_energy"](energy, score, x, target._index, target._checked("test", x), 0.0)
    counts = torch.zeros(len(x), dtype=torch.int64), torch.zeros(len(x), dtype=torch.bool)
    return [x.clone(), score, energy, *counts, energy.clone()]


@pytest.mark.parametrize("n_leapfrog", [0, 1, 3])
def test_the_reference(n_leapfrog):
    """In float64: only the order in which squares are added differs."""
    target, x = make("rosenbrock", 4), 0.3 * normal(20, 4, dtype=torch.float64)
    root, mask = normal(20, 4, dtype=torch.float64, seed=2).abs() + 0.5, normal(20, 4, seed=3) > 0
    made = []
    for op in (_ops._REGISTERED["metropolis_chain"], reference.OPS["metropolis_chain"]):
        held = _held(target, x)
        held[1] = (held[1] * root).masked_fill(~mask, 0.0)
        kept = torch.empty(3, 20, 4, dtype=torch.float64), torch.empty(12, 20, dtype=torch.float64)
        averaging = torch.full((4, 20), 0.1, dtype=torch.float64)
        steps = (6, n_leapfrog, 1.0, 1.0, NAMED._name.clone(), 0.25 if n_leapfrog else 0.0)
        temperatures = torch.linspace(1, 2, 6, dtype=torch.float64)
        density = (target._index, target._checked("test", x), None, None, 0.0)
        op(
            *held,
            *density,
            *steps,
            0.7,
            5,
            2,
            averaging,
            None,
            None,
            temperatures,
            *kept[::-1],
            2,
            mask,
            root,
        )
        made.append([*held, *kept, averaging])
    for ours, theirs in zip(*made, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("which", ["kernel", "reference"])
def test_wrong_tables(which):
    ops = _ops._REGISTERED if which == "kernel" else reference.OPS
    target, x = make("double_well", 4), normal(5, 4)
    good = {"averaging": torch.ones(4, 5).double(), "averaged": 0, "warmup": 3, "acceptance": 0.5}
    nan = {**good, "averaging": torch.full((4, 5), float("nan")).double()}
    reports = {"states": torch.empty(2, 5, 4), "thin": 3, "reports": torch.empty(4, 5).double()}
    for wrong, match in (
        ({**good, "averaging": torch.ones(3, 5).double()}, r"averaging must have the shape \(4, 5\)"),
        (nan, "step_size must be > 0 and finite, got nan for sample 0"),
        (reports, r"reports must have the shape \(8, 5\)"),
        ({"temperature_rows": torch.ones(5).double()}, "one value for each of 6 steps, got 5"),
        ({"temperature_rows": -torch.ones(6).double()}, "temperature must be > 0"),
    ):
        density = (target._index, target._checked("test", x), None, None, 0.0)
        with pytest.raises(ValueError, match=match):
            ops["metropolis_chain"](
                *_held(target, x), *density, 6, 2, 0.1, 1.0, NAMED._name.clone(), 0.0, **wrong
            )


def test_half_precision_has_no_mass():
    with pytest.raises(TypeError, match="mass needs x0 in float32 or float64"):
        HMC(make("double_well", 3), 0.1, 2, mass=2.0)(X.half(), 3)
