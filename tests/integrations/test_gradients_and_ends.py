"""Gradients, the ends of schedules and of number lines, and draws: what the packages do, the
adapters do."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, column, normal
from compare import assert_as_good
from peers import package

from pyebm import Noise
from pyebm.integrations import edm, ncsnv2

SHAPE = (4, 3, 8, 8)
NOISE = Noise(1, step=7)
SIGMAS = torch.tensor([1.0, 0.5, 0.1])
HALF = torch.float16
both_noises = pytest.mark.parametrize("noise", [NOISE, torch.randn_like], ids=["ours", "theirs"])


# --- gradients: of images, of levels and weights that learn


def edm_published(net, y, z, sigma):
    return (sigma**2 + 0.25) / (sigma * 0.5) ** 2 * (net(y + sigma * z, sigma, None) - y) ** 2


def test_images_that_require_grad_in_edm():
    y = normal(*SHAPE).requires_grad_()

    def net(x, *_, **__):
        return 0.3 * x

    sigma = (NOISE.at(stream=1).randn((4, 1, 1, 1)) * 1.2 - 1.2).exp()
    want = torch.autograd.grad(edm_published(net, y, NOISE.randn(SHAPE), sigma).sum(), y)[0]
    for reduction in ("none", "sum"):
        got = torch.autograd.grad(edm.EDMLoss(noise=NOISE, reduction=reduction)(net, y).sum(), y)[0]
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_input_that_requires_grad_and_what_learns_in_k_diffusion():
    """A callable weighting sees sigma in its own dtype, and learns."""
    theirs = package("k_diffusion").layers.Denoiser
    from pyebm.integrations.k_diffusion import Denoiser

    scale, seen, results = torch.nn.Parameter(torch.tensor(0.7)), [], []

    def weighting(sigma):
        seen.append(sigma.dtype)
        return scale * sigma

    for cls, noise in ((Denoiser, NOISE), (theirs, NOISE.randn(SHAPE))):
        x, sigma = normal(*SHAPE).requires_grad_(), torch.tensor([0.3, 0.6, 1.0, 2.0], requires_grad=True)
        model = cls(lambda x, _: 0.3 * x, sigma_data=0.5)
        model.weighting = weighting
        loss = model.loss(x, noise, sigma)
        results.append((loss, *torch.autograd.grad(loss.sum(), (x, sigma, scale))))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
    assert seen == [torch.float32] * 2


def test_latents_that_require_grad_in_diffusers():
    diffusers = package("diffusers")
    from pyebm.integrations import diffusers as ours

    scheduler = diffusers.DDPMScheduler(prediction_type="v_prediction")
    times = torch.tensor([1, 10, 500, 999])
    for noise in (NOISE, NOISE.randn(SHAPE).requires_grad_()):
        x = normal(*SHAPE).requires_grad_()
        z = NOISE.randn(SHAPE) if noise is NOISE else noise
        noisy, noised = ours.add_noise(scheduler, x, noise, times)
        got = torch.autograd.grad(ours.loss(0.5 * noisy, noised), x)[0]
        want = torch.nn.functional.mse_loss(
            0.5 * scheduler.add_noise(x, z, times), scheduler.get_velocity(x, z, times)
        )
        torch.testing.assert_close(got, torch.autograd.grad(want, x)[0], rtol=1e-3, atol=1e-7)


@both_noises
def test_sigmas_that_learn_in_ncsnv2(noise):
    labels = torch.tensor([0, 1, 2, 2])
    grads = []
    for published in (False, True):
        sigmas, x = SIGMAS.clone().requires_grad_(), normal(*SHAPE).requires_grad_()
        torch.manual_seed(3)
        if published:
            z = noise.randn(SHAPE) if noise is NOISE else torch.randn_like(x)
            s = column(sigmas[labels], x)
            errors = (-(x + s * z) / s + z / s).square().flatten(1).sum(1)
            loss = (0.5 * errors * sigmas[labels] ** 2).mean()
        else:

            def net(x, labels, sigmas=sigmas):
                return -x / column(sigmas[labels], x)

            loss = ncsnv2.anneal_dsm_score_estimation(net, x, sigmas, labels, noise=noise)
        grads.append((loss, *torch.autograd.grad(loss, (x, sigmas))))
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-4)


# --- the ends of schedules and of number lines


@pytest.mark.parametrize("dtype", [torch.float32, HALF])
def test_zero_terminal_snr_with_epsilon(dtype):
    """The first step divides by a root of 0, and clips what that gives. Theirs is NaN where both
    are equal, and everywhere with thresholding, since it interpolates between infinities."""
    diffusers = package("diffusers")
    from pyebm.integrations import diffusers as ours

    output, x = normal(*SHAPE, dtype=dtype), normal(*SHAPE, dtype=dtype, seed=1)
    output[0, 0] = x[0, 0]
    options, results = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}, []
    for module in (ours, diffusers):
        scheduler = module.DDPMScheduler(**options)
        scheduler.set_timesteps(10)
        assert scheduler.timesteps[0] == 999
        generator = torch.Generator().manual_seed(3)
        results.append(scheduler.step(output, 999, x, generator=generator, return_dict=False))
    (state, x0), theirs = results
    known = theirs[1].isfinite()
    assert x0[known].abs().max() == 1
    assert (x0[0, 0] == 0).all()
    assert state.isfinite().all()
    assert_equal(x0[known], theirs[1][known])
    torch.testing.assert_close(
        state[known], theirs[0][known], rtol=1e-3, atol=1e-3 if dtype == HALF else 1e-5
    )
    scheduler = ours.DDPMScheduler(thresholding=True, sample_max_value=1.5, **options)
    assert scheduler.step(output.float(), 999, x.float())[1].abs().max() <= 1


def test_a_negative_step_of_torchebm():
    """It is theirs: back in time without noise, and with noise the root of a negative number."""
    package("torchebm")
    from torchebm import integrators

    from pyebm.integrations.torchebm import EulerMaruyamaIntegrator

    x = normal(8, 3)
    for step_size in (-0.01, torch.tensor(-0.01)):
        for options in ({}, {"noise_scale": 0.5, "noise": normal(8, 3, seed=1)}):
            results = [
                cls().step({"x": x}, step_size, drift=lambda x, _: -x, **options)["x"]
                for cls in (EulerMaruyamaIntegrator, integrators.EulerMaruyamaIntegrator)
            ]
            torch.testing.assert_close(*results, rtol=0, atol=0, equal_nan=True)


def test_drifts_of_torchebm():
    package("torchebm")
    from torchebm import integrators

    from pyebm.integrations.torchebm import EulerMaruyamaIntegrator

    x, z = normal(8, 3), normal(1, 3, seed=1)
    for drift in (lambda x, _: -x[:, :1], lambda x, _: -x.double()):
        got, want = (
            cls().step({"x": x}, 0.01, drift=drift, noise=z, noise_scale=0.7)["x"]
            for cls in (EulerMaruyamaIntegrator, integrators.EulerMaruyamaIntegrator)
        )
        torch.testing.assert_close(got, want)


# --- draws


def test_the_corrector_of_diffusers_draws_float32():
    diffusers = package("diffusers")
    from pyebm.integrations import diffusers as ours

    score, x = normal(*SHAPE, dtype=HALF), normal(*SHAPE, dtype=HALF, seed=1)
    results = []
    for module in (ours, diffusers):
        scheduler = module.ScoreSdeVeScheduler(num_train_timesteps=50)
        scheduler.set_timesteps(5)
        generator = torch.Generator().manual_seed(3)
        results.append(scheduler.step_correct(score, x, generator=generator).prev_sample.to(HALF))
    torch.testing.assert_close(*results, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, HALF])
def test_offsets_and_perturbations_have_the_scripts_draws(dtype):
    """The training scripts draw the offset in float32, the perturbation in the noise's dtype."""
    diffusers = package("diffusers")
    from pyebm.integrations import diffusers as ours

    scheduler, times = diffusers.DDPMScheduler(), torch.tensor([1, 10, 500, 999])
    x, z = normal(*SHAPE, dtype=dtype), normal(*SHAPE, dtype=dtype, seed=1)
    torch.manual_seed(3)
    got, noised = ours.add_noise(scheduler, x, z, times, noise_offset=0.1, input_perturbation=0.2)
    torch.manual_seed(3)
    noise = (z + 0.1 * torch.randn(4, 3, 1, 1)).to(dtype)
    seen = noise + 0.2 * torch.randn_like(noise)
    assert_as_good(noised.noise, noise, noise.double())
    wide = scheduler.add_noise(x.double(), seen.double(), times)
    torch.testing.assert_close(
        got.double(), wide, rtol=4e-3 if dtype == HALF else 1e-5, atol=4e-3 if dtype == HALF else 1e-5
    )
