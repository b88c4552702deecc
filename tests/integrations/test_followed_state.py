"""An adapter follows the state of its object, whenever it changes: what the package's own object
would do next, ours does."""

from __future__ import annotations

import pytest
import torch
from cases import normal
from peers import package

from pyebm import Noise

SHAPE = (4, 3, 8, 8)


def replace_the_schedule(scheduler):
    scheduler.alphas_cumprod = scheduler.alphas_cumprod**1.5


def write_to_the_schedule(scheduler):
    scheduler.alphas_cumprod.mul_(0.9)


def replace_the_timesteps(scheduler):
    scheduler.timesteps = torch.tensor([40, 30, 20, 10, 0])
    scheduler.custom_timesteps = True
    scheduler.num_inference_steps = None


def write_to_the_timesteps(scheduler):
    scheduler.timesteps[3] = 5


def change_the_prediction(scheduler):
    scheduler.register_to_config(prediction_type="v_prediction")


def change_the_clipping(scheduler):
    scheduler.register_to_config(clip_sample_range=0.3)


def change_the_variance(scheduler):
    scheduler.register_to_config(variance_type="fixed_large")


def change_the_variance_by_half(scheduler):
    scheduler.register_to_config(variance_type="fixed_small_log")  # the attribute stays what it was


def set_other_timesteps(scheduler):
    scheduler.set_timesteps(num_inference_steps=None, timesteps=[40, 30, 12, 3])


@pytest.mark.parametrize(
    "change",
    [
        replace_the_schedule,
        write_to_the_schedule,
        replace_the_timesteps,
        write_to_the_timesteps,
        change_the_prediction,
        change_the_clipping,
        change_the_variance,
        change_the_variance_by_half,
        set_other_timesteps,
    ],
    ids=lambda change: change.__name__,
)
def test_ddpm(change):
    diffusers = package("diffusers")
    from pyebm.integrations.diffusers import DDPMScheduler

    output, x, runs = normal(*SHAPE), normal(*SHAPE, seed=1), []
    for cls in (DDPMScheduler, diffusers.DDPMScheduler):
        scheduler = cls(num_train_timesteps=50)
        scheduler.set_timesteps(5)
        generator = torch.Generator().manual_seed(3)
        states = [scheduler.step(output, scheduler.timesteps[1], x, generator=generator).prev_sample]
        change(scheduler)
        states += [scheduler.step(output, t, x, generator=generator).prev_sample for t in scheduler.timesteps]
        runs.append(torch.stack(states))
    torch.testing.assert_close(*runs, rtol=1e-4, atol=1e-5)


def test_a_schedule_at_the_address_of_an_old_one():
    """The tables are kept with the tensors that they were made of, not with their addresses."""
    package("diffusers")
    from pyebm.integrations.diffusers import DDPMScheduler

    scheduler = DDPMScheduler(num_train_timesteps=50)
    output, x, noise = normal(*SHAPE), normal(*SHAPE, seed=1), Noise(3)
    for power in torch.linspace(1, 2, 20).tolist():
        scheduler.alphas_cumprod = torch.linspace(0.99, 0.1, 50) ** power
        fresh = DDPMScheduler(num_train_timesteps=50)
        fresh.alphas_cumprod = scheduler.alphas_cumprod.clone()
        want = fresh.step(output, 20, x, generator=noise).prev_sample
        assert torch.equal(scheduler.step(output, 20, x, generator=noise).prev_sample, want)


def test_ve():
    diffusers = package("diffusers")
    from pyebm.integrations.diffusers import ScoreSdeVeScheduler

    score, x, runs = normal(*SHAPE), normal(*SHAPE, seed=1), []
    for cls in (ScoreSdeVeScheduler, diffusers.ScoreSdeVeScheduler):
        scheduler = cls(num_train_timesteps=50, sigma_max=10.0)
        scheduler.set_timesteps(10)
        generator, states = torch.Generator().manual_seed(3), []
        for change in (
            lambda: scheduler.set_sigmas(10),  # noqa: B023
            lambda: scheduler.discrete_sigmas.mul_(0.5),  # noqa: B023
            lambda: scheduler.register_to_config(snr=0.3),  # noqa: B023
            lambda: scheduler.set_timesteps(5),  # noqa: B023
        ):
            change()
            states.append(scheduler.step_correct(score, x, generator=generator).prev_sample)
            states.append(scheduler.step_pred(score, 0.5, x, generator=generator).prev_sample)
        runs.append(torch.stack(states))
    torch.testing.assert_close(*runs, rtol=1e-4, atol=1e-5)


def test_the_training_loss_of_diffusers():
    """add_noise asks the scheduler each time."""
    diffusers = package("diffusers")
    from pyebm.integrations.diffusers import add_noise, loss

    scheduler, x, z, times = (
        diffusers.DDPMScheduler(),
        normal(*SHAPE),
        normal(*SHAPE, seed=1),
        torch.tensor([500]),
    )
    for change in (
        lambda: None,
        lambda: replace_the_schedule(scheduler),
    ):
        change()
        noisy, noised = add_noise(scheduler, x, z, times)
        torch.testing.assert_close(noisy, scheduler.add_noise(x, z, times))
    scheduler.register_to_config(prediction_type="v_prediction")  # after add_noise, as the script does
    target = scheduler.get_velocity(x, z, times)
    torch.testing.assert_close(loss(x, noised), torch.nn.functional.mse_loss(x, target))


def test_k_diffusion():
    theirs = package("k_diffusion").layers.Denoiser
    from pyebm.integrations.k_diffusion import Denoiser

    x, z, sigma = normal(*SHAPE), normal(*SHAPE, seed=1), torch.tensor([0.1, 0.5, 1.0, 2.0])
    models = [cls(lambda x, _: 0.5 * x, sigma_data=0.5) for cls in (Denoiser, theirs)]
    for change in ({}, {"sigma_data": 0.8}, {"weighting": torch.square}, {"inner_model": lambda x, _: -x}):
        for model in models:
            for name, value in change.items():
                setattr(model, name, value)
        torch.testing.assert_close(*[model.loss(x, z, sigma) for model in models], rtol=1e-4, atol=1e-6)


def test_ebmkit_and_torchebm():
    ebm, _ = package("ebm"), package("torchebm")
    from torchebm import losses
    from torchebm.core import GaussianModel

    from pyebm.integrations.ebmkit import LangevinDynamics
    from pyebm.integrations.torchebm import DenoisingScoreMatching

    def energy(x):
        return 0.5 * x.square().sum(1)

    x = normal(8, 2)
    samplers = [LangevinDynamics(noise=torch.randn_like), ebm.samplers.LangevinDynamics()]
    for change in ({}, {"step_size": 0.3}, {"noise_scale": 0.1}, {"grad_clip": 0.2}, {"clamp": (-0.5, 0.5)}):
        states = []
        for sampler in samplers:
            for name, value in change.items():
                setattr(sampler, name, value)
            torch.manual_seed(3)
            states.append(sampler.step(energy, x))
        torch.testing.assert_close(*states)
    model = GaussianModel(torch.zeros(2), torch.eye(2))
    made = [cls(model, noise_scale=0.3) for cls in (DenoisingScoreMatching, losses.DenoisingScoreMatching)]
    for scale in (0.3, 0.1):
        for loss in made:
            loss.noise_scale = scale
        values = [loss(x, generator=torch.Generator().manual_seed(3)) for loss in made]
        torch.testing.assert_close(*values)
