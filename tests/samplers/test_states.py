"""States and trajectories that somebody may have tampered with are refused by name, or are what
they were."""

from __future__ import annotations

import io
import math

import pytest
import torch
from cases import assert_equal

from pyebm import Noise
from pyebm.samplers import HMC, MALA, Langevin, State, Trajectory, UnderdampedLangevin

X = Noise(1).randn((3, 4))


def energy(x):
    return 0.5 * x.square().sum(1)


def left(kind):
    """Returns the state that a run leaves in the middle of its warm-up."""
    if kind == "velocity":
        return UnderdampedLangevin(torch.neg, 0.3)(State(X, 0), 5).state_dict()
    if kind == "step":
        return MALA(energy, 0.3, warmup=20)(State(X, 0), 10).state_dict()
    return HMC(energy, 0.3, 2, warmup=100, adapt_mass=True)(State(X, 0), 95).state_dict()


NAMES = {
    "velocity": ["velocity"],
    "step": ["step_size", "log_step_size_average", "acceptance_gap", "adapted_steps"],
    "mass": ["restarted_at", "step_size_middle", "inverse_mass", "window_mean", "window_square"],
}
TAMPERED = {
    "None": lambda _: None,
    "list": lambda value: value.tolist(),
    "complex": lambda value: value.to(torch.complex64),
    "bool": lambda value: value.bool(),
    "one dimension more": lambda value: value.unsqueeze(0),
    "one more": lambda value: torch.cat([value.reshape(-1), value.reshape(-1)[:1]]),
    "sparse": lambda value: value.reshape(1, -1).to_sparse(),
    "str": lambda _: "1",
    "meta": lambda value: value.to("meta"),
}


def sampler_of(kind):
    if kind == "velocity":
        return UnderdampedLangevin(torch.neg, 0.3)
    return (
        MALA(energy, 0.3, warmup=20) if kind == "step" else HMC(energy, 0.3, 2, warmup=100, adapt_mass=True)
    )


@pytest.mark.parametrize("kind", NAMES)
def test_what_a_run_leaves_is_taken(kind):
    state = left(kind)
    whole = sampler_of(kind)(State.from_state_dict(state), 3)
    assert_equal(State.from_state_dict(whole.state_dict()).x, whole.x)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in NAMES.items() for name in names])
class TestExtra:
    @pytest.mark.parametrize("tamper", TAMPERED.values(), ids=TAMPERED)
    def test_another_value(self, kind, name, tamper):
        state = left(kind)
        assert set(state["extra"]) >= {name}
        state["extra"][name] = tamper(state["extra"][name])
        with pytest.raises((TypeError, ValueError), match=name):
            State.from_state_dict(state)

    def test_missing(self, kind, name):
        state = left(kind)
        del state["extra"][name]
        if state["extra"]:
            with pytest.raises(ValueError, match=name):
                State.from_state_dict(state)

    def test_not_finite(self, kind, name):
        """A chain that diverged has such a velocity and such windows; no other entry may be
        infinite or NaN."""
        state = left(kind)
        value = state["extra"][name]
        if value.is_floating_point():
            for bad in (math.nan, math.inf, -1.0 if name in ("step_size", "inverse_mass") else -math.inf):
                value.fill_(bad)
                if name in ("velocity", "window_mean", "window_square"):
                    with pytest.raises(ValueError, match="not_finite must be the count"):
                        State.from_state_dict(state)
                    State.from_state_dict({**state, "not_finite": value.numel()})
                    continue
                with pytest.raises(ValueError, match=f"{name} must be"):
                    State.from_state_dict(state)
                with pytest.raises(ValueError, match=f"{name} must be"):
                    sampler_of(kind)(State(state["x"], 0, state["extra"]), 1)
        else:
            for bad in (-1, 2**32 + 1):
                value.fill_(bad)
                with pytest.raises(ValueError, match=f"{name} must be"):
                    State.from_state_dict(state)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"x": None}, "x must be a tensor"),
        ({"x": X.int()}, "x must be float16"),
        ({"x": torch.tensor(1.0)}, "x must have a first dimension"),
        ({"extra": None}, "extra must be a dict"),
        ({"extra": {"speed": X}}, "extra must have names among .*got 'speed'"),
        ({"extra": {3: X}}, "extra must have names among .*got 3"),
        ({"noise": None}, "must be a dict"),
        ({"noise": {}}, "version 1"),
        ({"noise": {**Noise(0).state_dict(), "seed": None}}, "seed must be"),
        ({"noise": {**Noise(0).state_dict(), "step": 2**32}}, "step must be in"),
        ({"noise": {**Noise(0).state_dict(), 7: 1}}, "must have the keys"),
        ({"version": 2}, "version 1, got 2"),
        ({"version": True}, "version 1, got True"),
        ({"more": 1}, "must have the keys"),
        ({9: 1}, "must have the keys"),
    ],
)
def test_a_state_dict_that_no_run_leaves(change, match):
    with pytest.raises((TypeError, ValueError), match=match):
        State.from_state_dict({**State(X, 0).state_dict(), **change})


@pytest.mark.parametrize("damage", [math.nan, math.inf, -math.inf])
def test_a_number_that_was_spoilt_is_no_divergence(damage):
    state = left("velocity")
    state["x"].view(-1)[1] = damage
    with pytest.raises(ValueError, match=r"not_finite must be the count .* which is 1, got 0"):
        State.from_state_dict(state)
    for count in (None, 1.0, True, "1"):
        with pytest.raises(ValueError, match="not_finite must be the count"):
            State.from_state_dict({**state, "not_finite": count})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_run_that_diverged_goes_on(dtype):
    """Its chains stay as they are, and those beside them go on."""
    sampler = Langevin(lambda x: -(x**3), 0.01)
    x = torch.tensor([[0.1], [100.0]], dtype=dtype)
    half = sampler(State(x, Noise(1)), 20)
    assert not half.x[1].isfinite()
    file = io.BytesIO()
    torch.save(half.state_dict(), file)
    file.seek(0)
    loaded = State.from_state_dict(torch.load(file, weights_only=True))
    a, b = (sampler(state, 3).x for state in (half, loaded))
    assert torch.equal(a[0], b[0])
    assert not b[1].isfinite()


def test_a_state_on_meta_has_no_count():
    state = State(X.to("meta"), 0).state_dict()
    assert state["not_finite"] is None
    assert State.from_state_dict(state).x.is_meta


def test_a_state_under_vmap_has_no_count():
    def through(x):
        state = State(x, 0).state_dict()
        assert state["not_finite"] is None
        return State.from_state_dict(state).x

    assert torch.equal(torch.vmap(through)(X.unsqueeze(0)), X.unsqueeze(0))


def test_more_was_learned_than_done():
    state = left("mass")
    state["extra"]["restarted_at"].fill_(96)
    with pytest.raises(ValueError, match="restarted_at must be at most adapted_steps, 95, got 96"):
        State.from_state_dict(state)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"states": X}, r"states must be \(n_kept, \*x.shape\)"),
        ({"states": X.double().unsqueeze(0)}, "of x's dtype"),
        ({"states": None}, "states must be a tensor"),
        ({"state": X}, "state must be a State"),
        ({"info": [X]}, "info must be a dict"),
        ({"info": {"energy": 1.0}}, "energy.* must be a dense tensor"),
        ({"thin": 0}, "thin must be >= 1"),
        ({"thin": 0.5}, "thin must be an int"),
    ],
)
def test_trajectories(change, match):
    good = {"states": X.unsqueeze(0), "state": State(X, 0), "info": {"energy": X[:, 0]}, "thin": 1}
    assert len(Trajectory(**good)) == 1
    with pytest.raises((TypeError, ValueError), match=match):
        Trajectory(**(good | change))
