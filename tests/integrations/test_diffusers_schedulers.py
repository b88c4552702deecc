"""The schedulers' steps against diffusers' own, with the same normals; then with generators,
with a Noise, and in stock pipelines."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from cases import assert_equal, normal
from compare import DTYPES, assert_as_good
from peers import package

from pyebm import Noise

diffusers = package("diffusers")
from diffusers.schedulers import scheduling_ddpm, scheduling_sde_ve  # noqa: E402

from pyebm.integrations.diffusers import DDPMScheduler, ScoreSdeVeScheduler  # noqa: E402

SHAPE = (4, 3, 8, 8)
NOISE = Noise(1, step=7)


@pytest.fixture
def given(monkeypatch):
    """diffusers' schedulers draw the tensor that a test puts here under "z"."""
    drawn = {}
    for module in (scheduling_ddpm, scheduling_sde_ve):
        monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: drawn["z"])
    return drawn


# --- DDPM ---

OPTIONS = {
    "epsilon": {},
    "latents": {"clip_sample": False, "beta_schedule": "scaled_linear"},
    "v": {"prediction_type": "v_prediction", "timestep_spacing": "trailing", "rescale_betas_zero_snr": True},
    "sample": {"prediction_type": "sample", "variance_type": "fixed_large"},
    "sample, not clipped": {"prediction_type": "sample", "clip_sample": False},
    "log": {
        "variance_type": "fixed_small_log",
        "beta_schedule": "squaredcos_cap_v2",
        "clip_sample_range": 0.7,
    },
    "thresholding": {"thresholding": True, "sample_max_value": 1.5, "timestep_spacing": "linspace"},
}


def pair(ours, theirs, options, steps):
    """Returns our scheduler, diffusers' own, and diffusers' own in float64."""
    schedulers = [cls(**options) for cls in (ours, theirs, theirs)]
    for scheduler in schedulers:
        if steps:
            scheduler.set_timesteps(steps)
    for name in ("alphas_cumprod", "betas", "alphas", "one"):
        if hasattr(schedulers[2], name):
            setattr(schedulers[2], name, getattr(schedulers[2], name).double())
    return schedulers


@pytest.mark.parametrize("steps", [None, 20])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_ddpm_step(dtype, options, steps, given):
    ours, theirs, exact = pair(DDPMScheduler, diffusers.DDPMScheduler, options, steps)
    output, x, z = (normal(*SHAPE, dtype=dtype, seed=k) for k in range(3))
    kind = theirs.config.prediction_type
    times = theirs.timesteps if steps else torch.tensor([999, 400, 1, 0])
    for t in (times[1], times[len(times) // 2], times[-1]):
        got = ours.step(output, t, x, generator=z)
        given["z"] = z
        plain = theirs.step(output, t, x)
        given["z"] = z.double()
        truth = exact.step(output.double(), t, x.double())
        # Before it is clipped, x0 is a difference of two numbers as large as this, and has their
        # rounding.
        scale = (x.double().abs().max() / exact.alphas_cumprod[t].sqrt()).item() if kind == "epsilon" else 0.0
        for name in ("prev_sample", "pred_original_sample"):
            assert got[name].dtype == dtype
            assert_as_good(got[name], plain[name], truth[name], scale)


@pytest.mark.parametrize(
    "generator",
    [lambda: torch.Generator().manual_seed(3), lambda: [torch.Generator().manual_seed(k) for k in range(4)]],
)
def test_ddpm_generators(generator):
    """Both draw the same numbers in the same order, and neither draws at the last step."""
    ours, theirs, _ = pair(DDPMScheduler, diffusers.DDPMScheduler, {}, 5)
    output, x = normal(*SHAPE), normal(*SHAPE, seed=1)
    mine, other = generator(), generator()
    for t in theirs.timesteps:
        got = ours.step(output, t, x, generator=mine, return_dict=False)
        torch.testing.assert_close(
            got, theirs.step(output, t, x, generator=other, return_dict=False), rtol=1e-4, atol=1e-5
        )
    if isinstance(mine, torch.Generator):
        assert_equal(mine.get_state(), other.get_state())


def test_learned_variance_stays_theirs():
    ours, theirs, _ = pair(DDPMScheduler, diffusers.DDPMScheduler, {"variance_type": "learned_range"}, 5)
    output, x, t = normal(4, 6, 8, 8), normal(*SHAPE), theirs.timesteps[1]
    got = ours.step(output, t, x, generator=torch.Generator().manual_seed(3)).prev_sample
    assert_equal(got, theirs.step(output, t, x, generator=torch.Generator().manual_seed(3)).prev_sample)
    with pytest.raises(TypeError, match=r"must be a torch\.Generator where the variance is 'learned_range'"):
        ours.step(output, t, x, generator=NOISE)
    ours.noise = NOISE
    with pytest.raises(TypeError, match=r"must be a torch\.Generator where the variance is 'learned_range'"):
        ours.step(output, t, x)


def test_ddpm_timestep_outside_the_schedule():
    scheduler = DDPMScheduler()
    scheduler.set_timesteps(10)
    with pytest.raises(ValueError, match=r"timestep must be one of scheduler.timesteps, got 5"):
        scheduler.step(normal(*SHAPE), 5, normal(*SHAPE))


def test_wider_output():
    """float16 latents and a float32 prediction give float32, as in diffusers."""
    scheduler = DDPMScheduler()
    scheduler.set_timesteps(10)
    x, output, t = normal(*SHAPE, dtype=torch.float16), normal(*SHAPE, seed=1), scheduler.timesteps[2]
    got = scheduler.step(output, t, x, generator=NOISE).prev_sample
    assert_equal(got, scheduler.step(output, t, x.float(), generator=NOISE).prev_sample)


# --- what both do with their noise ---


def run(scheduler, output, x, **options):
    """Returns the states of a whole run, with the same network output throughout."""
    states = []
    for t in scheduler.timesteps:
        if isinstance(scheduler, ScoreSdeVeScheduler):
            states.append(x := scheduler.step_correct(output, x, **options).prev_sample)
            states.append(x := scheduler.step_pred(output, t, x, **options).prev_sample)
        else:
            states.append(x := scheduler.step(output, t, x, **options).prev_sample)
    return states


def ready(cls, noise=None, steps=4):
    scheduler = cls(num_train_timesteps=50)
    scheduler.set_timesteps(steps)
    if cls is ScoreSdeVeScheduler:
        scheduler.set_sigmas(steps, 0.01, 5.0)
    if noise is not None:
        scheduler.noise = noise
    return scheduler


both = pytest.mark.parametrize("cls", [DDPMScheduler, ScoreSdeVeScheduler])


@both
def test_a_named_run(cls, dtype):
    """Step k of the scheduler is step k of the Noise, whether regenerated or given as a tensor."""
    output, x = normal(*SHAPE, dtype=dtype), normal(*SHAPE, dtype=dtype, seed=1)
    scheduler = ready(cls, NOISE)
    got = run(scheduler, output, x)
    count = itertools.count(NOISE.step)
    tensors = ready(cls, lambda like: NOISE.at(step=next(count)).randn(like.shape))
    exact = cls is DDPMScheduler  # the corrector sums the norm of a regenerated noise in another order
    for a, b in zip(got, run(tensors, output, x), strict=True):
        torch.testing.assert_close(a, b, rtol=0 if exact else 0.01, atol=0 if exact else 0.01)
    assert next(count) == NOISE.step + len(got)


@both
def test_a_second_run_goes_on_in_the_noise(cls):
    output, x = normal(*SHAPE), normal(*SHAPE, seed=1)
    scheduler = ready(cls, NOISE)
    first = run(scheduler, output, x)[-1]
    assert not torch.equal(run(scheduler, output, x)[-1], first)
    scheduler.noise = NOISE
    assert_equal(run(scheduler, output, x)[-1], first)
    assert scheduler.noise is NOISE


def test_a_sample_does_not_depend_on_its_batch():
    output, x = normal(*SHAPE), normal(*SHAPE, seed=1)
    whole = run(ready(DDPMScheduler, NOISE), output, x)[-1]
    assert_equal(run(ready(DDPMScheduler, NOISE.shard(first_sample=2)), output[2:], x[2:])[-1], whole[2:])


@both
def test_torch_governs_an_unnamed_run(cls):
    output, x = normal(*SHAPE), normal(*SHAPE, seed=1)
    runs = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        runs.append(run(ready(cls), output, x)[-1])
    assert_equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@both
def test_configurations_go_both_ways(cls, tmp_path):
    theirs = getattr(diffusers, cls.__name__)
    scheduler = cls.from_config(theirs(num_train_timesteps=77).config)
    scheduler.save_pretrained(tmp_path)
    assert type(theirs.from_pretrained(tmp_path)) is theirs
    assert theirs.from_pretrained(tmp_path).config.num_train_timesteps == 77
    scheduler.noise = NOISE
    assert copy.deepcopy(scheduler).noise is not None


# --- VE ---


@pytest.mark.parametrize("dtype", DTYPES)
def test_ve_steps(dtype, given):
    """diffusers returns float32 for half-precision samples, ours their dtype, so its error is
    measured after rounding to that dtype."""
    ours, theirs, exact = pair(ScoreSdeVeScheduler, diffusers.ScoreSdeVeScheduler, {"sigma_max": 20.0}, None)
    for scheduler in (ours, theirs, exact):
        scheduler.set_timesteps(10)
        scheduler.set_sigmas(10)
    exact.discrete_sigmas = exact.discrete_sigmas.double()
    score, x, z = (normal(*SHAPE, dtype=dtype, seed=k) for k in range(3))
    for t in (theirs.timesteps[0], theirs.timesteps[5], theirs.timesteps[-1]):
        got = ours.step_pred(score, t, x, generator=z)
        given["z"] = z
        plain = theirs.step_pred(score, t, x)
        given["z"] = z.double()
        truth = exact.step_pred(score.double(), t.double(), x.double())
        for name in ("prev_sample", "prev_sample_mean"):
            assert got[name].dtype == dtype
            assert_as_good(got[name], plain[name].to(dtype), truth[name])
    got = ours.step_correct(score, x, generator=z).prev_sample
    given["z"] = z
    plain = theirs.step_correct(score, x).prev_sample.to(dtype)
    given["z"] = z.double()
    truth = exact.step_correct(score.double(), x.double()).prev_sample
    assert got.dtype == dtype
    assert_as_good(got, plain, truth)


def test_ve_generators():
    ours, theirs = ready(ScoreSdeVeScheduler), diffusers.ScoreSdeVeScheduler(num_train_timesteps=50)
    theirs.set_timesteps(4)
    theirs.set_sigmas(4, 0.01, 5.0)
    score, x = normal(*SHAPE), normal(*SHAPE, seed=1)
    mine, other = (torch.Generator().manual_seed(3) for _ in range(2))
    for t in theirs.timesteps:
        got = ours.step_correct(score, x, generator=mine).prev_sample
        torch.testing.assert_close(got, theirs.step_correct(score, x, generator=other).prev_sample)
        got = ours.step_pred(score, t, x, generator=mine, return_dict=False)
        torch.testing.assert_close(got, theirs.step_pred(score, t, x, generator=other, return_dict=False))


def test_ve_needs_timesteps():
    scheduler = ScoreSdeVeScheduler()
    scheduler.timesteps = None
    with pytest.raises(ValueError, match="set_timesteps"):
        scheduler.step_correct(normal(*SHAPE), normal(*SHAPE))
