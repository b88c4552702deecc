"""The schedulers that draw, besides DDPM's and VE's, against diffusers' own with the same
generator: every step of a run, from their state."""

from __future__ import annotations

import copy
import importlib
import math
import pickle

import pytest
import torch
from cases import assert_equal, normal
from compare import assert_as_good
from peers import package

from pyebm import Noise

diffusers = package("diffusers")

from pyebm.integrations import diffusers as ours  # noqa: E402

SHAPE = (4, 3, 8, 8)
NOISE = Noise(1, step=7)
UNCLIPPED = {"clip_sample": False}
V, SAMPLE = {"prediction_type": "v_prediction"}, {"prediction_type": "sample"}
ZERO = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}

SDE = "DPMSolverSDEScheduler"
CASES = [
    ("DDIMScheduler", {}, {"eta": 0.0}),
    ("DDIMScheduler", {}, {"eta": 0.6}),
    ("DDIMScheduler", UNCLIPPED, {"eta": 1.0}),
    ("DDIMScheduler", {}, {"eta": 0.6, "use_clipped_model_output": True}),
    ("DDIMScheduler", V | UNCLIPPED | ZERO, {"eta": 0.6}),
    ("DDIMScheduler", V, {"eta": 0.6}),
    ("DDIMScheduler", SAMPLE | {"set_alpha_to_one": False}, {"eta": 0.6}),
    ("DDIMScheduler", {"thresholding": True}, {"eta": 0.6}),
    ("DDIMScheduler", ZERO, {"eta": 0.6}),
    ("LCMScheduler", {}, {}),
    ("LCMScheduler", V | {"clip_sample": True}, {}),
    ("LCMScheduler", SAMPLE | {"thresholding": True}, {}),
    ("TCDScheduler", {}, {}),
    ("TCDScheduler", V, {"eta": 0.9}),
    ("TCDScheduler", SAMPLE, {"eta": 0.0}),
    ("EulerDiscreteScheduler", {}, {}),
    ("EulerDiscreteScheduler", V | {"use_karras_sigmas": True}, {"s_churn": 3.0, "s_noise": 1.01}),
    ("EulerDiscreteScheduler", SAMPLE, {"s_churn": 3.0, "s_tmin": 0.5, "s_tmax": 5.0}),
    ("EulerAncestralDiscreteScheduler", {}, {}),
    ("EulerAncestralDiscreteScheduler", V, {}),
    ("FlowMatchEulerDiscreteScheduler", {}, {}),
    ("FlowMatchEulerDiscreteScheduler", {"stochastic_sampling": True, "shift": 3.0}, {}),
    (SDE, {}, {}),
]


def ready_pair(name, options, steps=6):
    pair = [getattr(module, name)(**options) for module in (ours, diffusers)]
    for scheduler in pair:
        scheduler.set_timesteps(steps)
    return pair


def run(scheduler, call, x, **options):
    """The states of a run in which the network multiplies."""
    states = []
    for i, t in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(0.3 * scaled + 0.1 * i, t, x, **call, **options).prev_sample
        states.append(x)
    return states


def of_sigmas(name, scheduler, x, output, z, s_churn=0.0, s_tmin=0.0, s_tmax=math.inf, s_noise=1.0):
    """{field: value} of a step over sigmas in float64, which diffusers' code casts to float32."""
    x, output, z = x.double(), output.double(), z.double()
    sigma, after = (float(one) for one in scheduler.sigmas[scheduler.step_index :][:2])
    if name.startswith("Flow"):
        if not scheduler.config.stochastic_sampling:
            return {"prev_sample": x + (after - sigma) * output}
        return {"prev_sample": (1 - after) * (x - sigma * output) + after * z}
    churn = min(s_churn / (len(scheduler.sigmas) - 1), math.sqrt(2) - 1) if s_tmin <= sigma <= s_tmax else 0
    hat = sigma * (1 + churn)
    x = x + s_noise * math.sqrt(hat**2 - sigma**2) * z
    x0 = {
        "epsilon": x - hat * output,
        "v_prediction": x / (sigma**2 + 1) - output * sigma / math.sqrt(sigma**2 + 1),
        "sample": output,
    }[scheduler.config.prediction_type]
    up = math.sqrt(after**2 * (sigma**2 - after**2) / sigma**2) if "Ancestral" in name else 0.0
    down = math.sqrt(max(after**2 - up**2, 0.0))
    return {"prev_sample": x + (x - x0) / hat * (down - hat) + up * z, "pred_original_sample": x0}


def of_alphas(scheduler, x, output, t, z, call):
    """{field: value} of a step over alphas_cumprod by diffusers' code, in float64."""
    for table in ("alphas_cumprod", "final_alpha_cumprod"):
        setattr(scheduler, table, getattr(scheduler, table).double())
    with pytest.MonkeyPatch.context() as patch:
        module = importlib.import_module(type(scheduler).__module__)
        patch.setattr(module, "randn_tensor", lambda *_, **__: z.double())
        return dict(scheduler.step(output.double(), t, x.double(), **call))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("name", "options", "call"), [case for case in CASES if case[0] != SDE])
def test_every_step(name, options, call, dtype):
    mine, theirs = ready_pair(name, options)
    x, largest = 2 * normal(*SHAPE, dtype=dtype), 1.0
    for i, t in enumerate(theirs.timesteps):
        output, z = normal(*SHAPE, dtype=dtype, seed=i), None
        for scheduler in (mine, theirs):
            scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else None
            scheduler._init_step_index(t) if getattr(scheduler, "step_index", 0) is None else None
        wide = torch.float32 if name.startswith("Flow") else dtype  # what they draw in
        z = torch.randn(SHAPE, generator=torch.Generator().manual_seed(i), dtype=wide)
        if name.startswith(("Euler", "Flow")):
            truth = of_sigmas(name, theirs, x, output, z, **call)
            largest = float(theirs.sigmas[i]) + 1
        else:
            truth = of_alphas(copy.deepcopy(theirs), x, output, t, z, call)
            largest = max(float(theirs.alphas_cumprod[int(t)]), 1e-4) ** -0.5
        got, plain = (
            scheduler.step(output, t, x, **call, generator=torch.Generator().manual_seed(i))
            for scheduler in (mine, theirs)
        )
        assert set(truth) == set(got)
        for field, exact in truth.items():
            assert got[field].dtype == plain[field].dtype
            if bool(exact.isfinite().all()):
                # The results are differences of two numbers as large as ``scale``, and have their
                # rounding.
                scale = largest * 2 * float(x.abs().max())
                assert_as_good(got[field], plain[field], exact, scale=scale)
            else:
                torch.testing.assert_close(got[field], plain[field], equal_nan=True)
        x = plain.prev_sample
        if not bool(x.isfinite().all()):
            break


@pytest.mark.parametrize(("name", "options", "call"), [case for case in CASES if case[0] != SDE])
def test_named_noise(name, options, call):
    """A sample does not depend on its batch, the count goes on from run to run, and
    torch.manual_seed governs a scheduler without noise."""
    x = 2 * normal(*SHAPE)
    mine, again = ready_pair(name, options)[0], ready_pair(name, options)[0]
    mine.noise, again.noise = NOISE, NOISE.shard(first_sample=2)
    first = run(mine, call, x)
    assert_equal(run(again, call, x[2:])[-1], first[-1][2:])
    mine.set_timesteps(6)
    draws = mine._draws.count
    assert torch.equal(run(mine, call, x)[-1], first[-1]) == (draws == 0)
    seeded = []
    for _ in range(2):
        torch.manual_seed(3)
        fresh = ready_pair(name, options)[0]
        seeded.append(run(fresh, call, x)[-1])
    assert_equal(*seeded)
    loaded = pickle.loads(pickle.dumps(mine))
    assert type(loaded) is type(mine)
    assert loaded.noise == NOISE


def test_a_step_given_its_normals():
    x, z = normal(*SHAPE), normal(*SHAPE, seed=3)
    for given in ({"variance_noise": z}, {"generator": z}):
        mine, theirs = ready_pair("DDIMScheduler", UNCLIPPED)
        t = mine.timesteps[0]
        expected = theirs.step(0.3 * x, t, x, eta=0.5, variance_noise=z).prev_sample
        torch.testing.assert_close(mine.step(0.3 * x, t, x, eta=0.5, **given).prev_sample, expected)
    mine = ready_pair("DDIMScheduler", UNCLIPPED)[0]
    named = mine.step(0.3 * x, t, x, eta=0.5, variance_noise=NOISE).prev_sample
    assert_equal(named, mine.step(0.3 * x, t, x, eta=0.5, generator=NOISE).prev_sample)


def test_the_path_of_the_sde():
    """Given one path, its run is theirs; runs count up the streams, and a seed names them all."""
    x = 10 * normal(*SHAPE)
    mine, theirs = ready_pair(SDE, {})
    mine.noise = Noise(1)
    first = run(mine, {}, x)[-1]
    theirs.noise_sampler = ours.sigma_schedulers.BrownianTreeNoiseSampler(x, seed=Noise(1))
    assert_equal(run(theirs, {}, x)[-1], first)
    mine.set_timesteps(6)
    assert not torch.equal(run(mine, {}, x)[-1], first)
    mine.noise = Noise(1, first_sample=2)
    mine.set_timesteps(6)
    half = copy.deepcopy(mine)
    assert_equal(run(mine, {}, x[2:])[-1], first[2:])
    assert pickle.loads(pickle.dumps(mine)).noise_sampler is None
    assert_equal(run(half, {}, x[2:])[-1], first[2:])
    seeded = [ready_pair(SDE, {"noise_sampler_seed": 5})[0] for _ in range(2)]
    assert_equal(*(run(one, {}, x)[-1] for one in seeded))


def test_what_they_refuse():
    x = normal(*SHAPE)
    for name, call, message in (
        ("DDIMScheduler", {"eta": -1.0}, "eta must be >= 0"),
        ("DDIMScheduler", {"variance_noise": "z", "eta": 1.0}, "variance_noise must be"),
        ("TCDScheduler", {"eta": 1.5}, r"eta must be in \[0, 1\]"),
        ("EulerDiscreteScheduler", {"s_churn": float("nan")}, "s_churn must be finite"),
        ("EulerAncestralDiscreteScheduler", {"generator": "z"}, "generator must be"),
    ):
        scheduler = ready_pair(name, {})[0]
        with pytest.raises((TypeError, ValueError), match=message):
            scheduler.step(x, scheduler.timesteps[0], x, **call)
    with pytest.raises(ValueError, match=r"timestep must be one of scheduler\.timesteps"):
        ready_pair("EulerDiscreteScheduler", {})[0].step(x, 3, x)
