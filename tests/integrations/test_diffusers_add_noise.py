"""For every scheduler that diffusers has, add_noise gives the scheduler's own result, or refuses
the scheduler in words."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, normal
from compare import HALF, assert_as_good
from peers import package

from pyebm import Noise

diffusers = package("diffusers")
from pyebm.integrations.diffusers import add_noise, loss  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # diffusers' warnings, about numpy and deprecations

SHAPE = (5, 4, 8, 8)
NOISE = Noise(1, step=7)
OWN = ["original_samples", "noise", "timesteps"]
OPTIONS = {
    "AmusedScheduler": {"mask_token_id": 0},
    "RFD4ProteinaScheduler": {"schedule_mode": "log", "noise_mode": "tan", "tsr_k": 1.0, "tsr_sigma": 1.0},
    "VQDiffusionScheduler": {"num_vec_classes": 10},
}
SIGMA = (
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "LMSDiscreteScheduler",
    "HeunDiscreteScheduler",
)


def classes():
    """The schedulers that can be made without further packages."""
    found = {}
    for name in dir(diffusers.schedulers):
        named = getattr(diffusers.schedulers, name, None)
        if (
            isinstance(named, type)
            and name.endswith("Scheduler")
            and getattr(named, "_backends", None) is None
        ):
            found[name] = named
    return found


CLASSES = classes()


def ready(name, **options):
    """Returns a scheduler that is ready, and some of its timesteps, among them the first and the
    last."""
    try:
        scheduler = CLASSES[name](**OPTIONS.get(name, {}), **options)
    except ImportError as error:
        pytest.skip(f"{name} needs another package: {error}")
    if name == "ScoreSdeVeScheduler":
        scheduler.set_timesteps(50)
        scheduler.set_sigmas(50)
        return scheduler, torch.tensor([0, 3, 17, 3, 49])
    times = getattr(scheduler, "timesteps", None)
    if not isinstance(times, torch.Tensor) or len(times) < 20:
        if not hasattr(scheduler, "set_timesteps") or name == "ConsistencyDecoderScheduler":
            return scheduler, torch.arange(5)
        scheduler.set_timesteps(20)
        times = torch.as_tensor(scheduler.timesteps)
    times = times[torch.tensor([0, 3, 7, 3, len(times) - 1])]
    return scheduler, times.long() if name == "SASolverScheduler" else times


def has_one_of_this_shape(scheduler):
    own = getattr(type(scheduler), "add_noise", None)
    return own is not None and list(own.__code__.co_varnames[1 : own.__code__.co_argcount]) == OWN


def test_they_are_many():
    assert len(CLASSES) > 30
    assert set(SIGMA) <= set(CLASSES)


@pytest.mark.parametrize("given", ["regenerated", "caller's noise"])
@pytest.mark.parametrize("name", CLASSES)
def test_its_own_or_refused(name, given):
    scheduler, times = ready(name)
    x0 = normal(*SHAPE)[..., 0] if name == "RFD4ProteinaScheduler" else normal(*SHAPE)
    if name == "RFD4ProteinaScheduler":
        times = torch.tensor([0.0, 0.1, 0.5, 0.5, 0.9])
    z = NOISE.randn(x0.shape)
    if not has_one_of_this_shape(scheduler):
        with pytest.raises(TypeError, match=f"scheduler must have an add_noise.*got {name}"):
            add_noise(scheduler, x0, NOISE, times)
        return
    if name == "RePaintScheduler":  # its own add_noise names the class to use instead
        with pytest.raises(NotImplementedError, match="DDPMScheduler"):
            add_noise(scheduler, x0, NOISE, times)
        return
    got, _ = add_noise(scheduler, x0, NOISE if given == "regenerated" else z, times)
    want = scheduler.add_noise(x0, z, times)
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6 * want.abs().max().item())


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", SIGMA)
def test_half_precision(name, dtype):
    """diffusers rounds its sigmas to the latents' dtype first, so ours may be closer to the
    truth."""
    scheduler, times = ready(name)
    x0, z = normal(*SHAPE, dtype=dtype), NOISE.randn(SHAPE, dtype=dtype)
    got, _ = add_noise(scheduler, x0, z, times)
    assert got.dtype == dtype
    assert_as_good(
        got, scheduler.add_noise(x0, z, times), scheduler.add_noise(x0.double(), z.double(), times)
    )


@pytest.mark.parametrize("name", [*SIGMA, "DPMSolverMultistepScheduler", "UniPCMultistepScheduler"])
def test_where_a_pipeline_stands(name):
    """In image-to-image and inpainting, diffusers takes the pipeline's index, not the timestep."""
    scheduler, times = ready(name)
    x0, z = normal(*SHAPE), NOISE.randn(SHAPE)
    at_timestep, _ = add_noise(scheduler, x0, NOISE, times)
    scheduler.set_begin_index(4)
    at_begin, noised = add_noise(scheduler, x0, NOISE, times)
    torch.testing.assert_close(at_begin, scheduler.add_noise(x0, z, times))
    assert not torch.equal(at_begin, at_timestep)
    assert noised.sigma.unique().numel() == 1
    scheduler._step_index = 9
    at_step, _ = add_noise(scheduler, x0, NOISE, times)
    torch.testing.assert_close(at_step, scheduler.add_noise(x0, z, times))
    assert not torch.equal(at_step, at_begin)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("EulerDiscreteScheduler", kind) for kind in ("epsilon", "v_prediction", "sample")),
        *(("EulerAncestralDiscreteScheduler", kind) for kind in ("epsilon", "v_prediction")),
    ],
)
def test_the_target_is_what_a_step_takes_for_x0(name, kind):
    """The loss is 0 for the prediction from which the scheduler's own step makes x0."""
    scheduler, _ = ready(name, prediction_type=kind)
    scheduler.set_timesteps(20)
    x0, z = normal(*SHAPE), NOISE.randn(SHAPE)
    t = scheduler.timesteps[6]
    noisy, noised = add_noise(scheduler, x0, NOISE, t)
    sigma = noised.sigma[0]
    target = {"epsilon": z, "sample": x0, "v_prediction": ((z - sigma * x0) / (1 + sigma**2).sqrt()).float()}[
        kind
    ]
    assert loss(target, noised).item() < 1e-12
    assert loss(target, noised, snr_gamma=5.0).item() < 1e-12
    scheduler.scale_model_input(noisy, t)
    torch.testing.assert_close(
        scheduler.step(target, t, noisy).pred_original_sample, x0, rtol=1e-4, atol=1e-4
    )


def test_one_timestep_for_all():
    x0 = normal(*SHAPE)
    for name in ("DDPMScheduler", *SIGMA):
        scheduler, times = ready(name)
        whole, _ = add_noise(scheduler, x0, NOISE, times[1].expand(5))
        for one in (times[1], times[1:2]):
            assert_equal(add_noise(scheduler, x0, NOISE, one)[0], whole)


@pytest.mark.parametrize(
    "name", ["EDMEulerScheduler", "CMStochasticIterativeScheduler", "DDPMWuerstchenScheduler"]
)
def test_predictions_are_not_guessed(name):
    """EDM's "epsilon" is the output of a preconditioned network, and other schedulers don't say
    what is predicted."""
    scheduler, times = ready(name)
    _, noised = add_noise(scheduler, normal(*SHAPE), NOISE, times)
    with pytest.raises(ValueError, match=r"prediction_type must be one of 'epsilon', .* got None"):
        loss(normal(*SHAPE), noised)
    assert loss(NOISE.randn(SHAPE), noised, "epsilon").item() == 0.0


class Clipped(diffusers.DDPMScheduler):
    def add_noise(self, original_samples, noise, timesteps):
        return super().add_noise(original_samples, noise, timesteps).clamp(-1, 1)


class Shifted(diffusers.DDPMScheduler):
    def add_noise(self, original_samples, noise, timesteps):
        return super().add_noise(original_samples, noise, timesteps) + 0.1


class Louder(diffusers.DDPMScheduler):
    def add_noise(self, original_samples, noise, timesteps):
        return super().add_noise(original_samples, 1.1 * noise, timesteps)


def test_subclasses():
    x0, times = normal(*SHAPE), torch.tensor([0, 3, 40, 400, 999])
    for bad in (Clipped, Shifted):
        with pytest.raises(
            ValueError, match=f"must add a multiple of the noise to one of the samples; {bad.__name__} does"
        ):
            add_noise(bad(), x0, NOISE, times)
    torch.testing.assert_close(
        add_noise(Louder(), x0, NOISE, times)[0], Louder().add_noise(x0, NOISE.randn(SHAPE), times)
    )


def test_bad_input():
    scheduler, times = ready("EulerDiscreteScheduler")
    with pytest.raises(
        ValueError, match=r"timesteps must be \(5,\), one a sample, or one for all, got \(3,\)"
    ):
        add_noise(scheduler, normal(*SHAPE), NOISE, times[:3])
    with pytest.raises(
        ValueError, match=r"latents must be \(B, ...\) with two dimensions at least, got \(5,\)"
    ):
        add_noise(scheduler, normal(5), NOISE, times)
    with pytest.raises(IndexError):  # diffusers' own error
        add_noise(scheduler, normal(*SHAPE), NOISE, times + 0.5)
