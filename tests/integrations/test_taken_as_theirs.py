"""Arguments that the packages take: the adapters take them too, in the dtypes of the packages, and
with the same numbers from the same draws."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, column, normal
from compare import assert_as_good
from peers import package
from sdes import VE, VP

from pyebm import Noise
from pyebm.integrations import edm, ncsnv2, score_sde

SHAPE = (4, 3, 8, 8)
NOISE = Noise(1, step=7)
TIME = torch.full((4,), 0.37)
SIGMAS = torch.tensor([1.0, 0.5, 0.1])
HALF = torch.float16
both_noises = pytest.mark.parametrize("noise", [NOISE, torch.randn_like], ids=["ours", "theirs"])


class Seen(torch.nn.Module):
    """A network that keeps the dtype it was given; ``shape`` is that of its output."""

    def __init__(self, channels=3, dtype=None):
        super().__init__()
        self.channels, self.dtype, self.seen = channels, dtype, None

    def forward(self, x, *_, **__):
        self.seen = x.dtype
        return (-0.5 * x[:, : self.channels]).to(self.dtype or x.dtype)


def score(x, _t):
    return -x


# --- dtypes: what theirs promotes before the network, ours does


def losses(noise):
    return {
        "edm": lambda net, x: edm.EDMLoss(noise=noise)(net, x).mean(),
        "ncsnv2": lambda net, x: ncsnv2.anneal_dsm_score_estimation(net, x, SIGMAS, noise=noise),
        "sde": lambda net, x: score_sde.get_sde_loss_fn(VE(), True, noise=noise)(net, x),
        "sub-vp": lambda net, x: score_sde.get_sde_loss_fn(VP(), True, noise=noise)(net, x),
        "smld": lambda net, x: score_sde.get_smld_loss_fn(VE(), True, noise=noise)(net, x),
        "ddpm": lambda net, x: score_sde.get_ddpm_loss_fn(VP(), True, noise=noise)(net, x),
    }


@both_noises
@pytest.mark.parametrize("name", losses(None))
def test_a_half_batch_reaches_the_network_in_float32(name, noise):
    net = Seen()
    value = losses(noise)[name](net, normal(*SHAPE, dtype=HALF))
    assert net.seen == torch.float32
    assert value.isfinite()


def test_a_half_batch_in_k_diffusion():
    package("k_diffusion")
    from pyebm.integrations.k_diffusion import Denoiser

    for sigma, want in ((torch.ones(4), torch.float32), (torch.ones(4, dtype=HALF), HALF)):
        net = Seen()
        Denoiser(net, sigma_data=0.5).loss(normal(*SHAPE, dtype=HALF), NOISE, sigma)
        assert net.seen == want


@both_noises
@pytest.mark.parametrize("name", ["langevin", "ald"])
def test_a_half_state_becomes_float32_after_the_first_step(name, noise):
    """So the second of two steps draws float32 normals, as theirs."""
    drawn = []

    def watched(like):
        drawn.append(like.dtype)
        return torch.randn_like(like)

    given = watched if noise is torch.randn_like else noise
    corrector = score_sde.correctors(given)[name](VE(), score, 0.1, 2)
    assert corrector.update_fn(normal(*SHAPE, dtype=HALF), TIME)[0].dtype == torch.float32
    assert drawn in ([], [HALF, torch.float32])


@both_noises
@pytest.mark.parametrize("name", ["euler_maruyama", "reverse_diffusion", "ancestral_sampling"])
def test_dtypes_of_the_predictors(name, noise):
    """Float64 levels, or a score wider than x, make a wider state."""
    wide = VE()
    wide.discrete_sigmas = wide.discrete_sigmas.double()
    predictor = score_sde.predictors(noise)[name]
    assert predictor(VE(), score).update_fn(normal(*SHAPE, dtype=HALF), TIME)[0].dtype == torch.float32
    states = predictor(VE(), lambda x, _: -x.double()).update_fn(normal(*SHAPE), TIME)
    assert [state.dtype for state in states] == [torch.float64] * 2
    got = predictor(wide, score).update_fn(normal(*SHAPE), TIME)[0].dtype
    assert got == (
        torch.float64 if name == "ancestral_sampling" else torch.float32
    )  # the one that reads them


def test_a_wider_score_in_a_chain():
    for given in (NOISE, torch.randn_like):
        states = ncsnv2.anneal_Langevin_dynamics(
            normal(*SHAPE), lambda x, _: -x.double(), SIGMAS, 2, noise=given
        )
        assert states[0].dtype == torch.float64


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


# --- broadcasting


@both_noises
@pytest.mark.parametrize("name", losses(None))
def test_an_output_that_broadcasts(name, noise):
    """One channel for all three. (The Noise must not be regenerated for one channel.)"""
    x, values = normal(*SHAPE), []
    for net in (Seen(1), lambda x, *_, **__: (-0.5 * x[:, :1]).expand(x.shape).contiguous()):
        module = net if isinstance(net, Seen) else Expanded()
        torch.manual_seed(3)
        values.append(losses(noise)[name](module, x))
    assert_equal(*values)


class Expanded(Seen):
    def forward(self, x, *_, **__):
        return (-0.5 * x[:, :1]).expand(x.shape).contiguous()


def test_broadcast_noise_and_outputs_of_steps():
    x, z = normal(*SHAPE), normal(1, 3, 8, 8, seed=1)
    for name, options in (("langevin", (0.1, 1)), ("reverse_diffusion", ())):
        made = (score_sde.predictors if not options else score_sde.correctors)(NOISE)[name]
        got = made(VE(), lambda x, _: -x[:, :1], *options).update_fn(x, TIME)[0]
        made = (score_sde.predictors if not options else score_sde.correctors)(NOISE)[name]
        want = made(VE(), lambda x, _: -x[:, :1].expand(x.shape), *options).update_fn(x, TIME)[0]
        if name != "langevin":  # there the norm of one channel counts, in theirs too
            assert_equal(got, want)
    loss = ncsnv2.anneal_dsm_score_estimation
    labels = torch.tensor([0, 1, 2, 2])
    assert_equal(
        loss(Seen(), x, SIGMAS, labels, noise=z), loss(Seen(), x, SIGMAS, labels, noise=z.expand(SHAPE))
    )


def test_broadcasting_in_k_diffusion_and_diffusers():
    theirs = package("k_diffusion").layers.Denoiser
    diffusers = package("diffusers")
    from pyebm.integrations import diffusers as ours
    from pyebm.integrations.k_diffusion import Denoiser

    x, z = normal(*SHAPE), normal(1, 3, 8, 8, seed=1)
    for sigma in (torch.tensor([0.3, 0.6, 1.0, 2.0]), torch.tensor([0.5]), torch.tensor(0.5)):
        values = [cls(lambda x, _: x[:, :1], sigma_data=0.5).loss(x, z, sigma) for cls in (Denoiser, theirs)]
        torch.testing.assert_close(*values, rtol=1e-5, atol=1e-6)
    scheduler, times = diffusers.DDPMScheduler(), torch.tensor([1, 10, 500, 999])
    noisy, noised = ours.add_noise(scheduler, x, z, times)
    torch.testing.assert_close(noisy, scheduler.add_noise(x, z, times), rtol=1e-5, atol=1e-6)
    want = torch.nn.functional.mse_loss(x, z.expand(SHAPE))
    torch.testing.assert_close(ours.loss(x, noised), want)
    assert_equal(
        ours.add_noise(scheduler, x, z, 10)[0], ours.add_noise(scheduler, x, z, torch.tensor([10]))[0]
    )


@pytest.mark.parametrize(
    ("output", "sample"), [((1, 3, 8, 8), SHAPE), (SHAPE, (1, 3, 8, 8)), ((4, 1, 8, 8), SHAPE)]
)
def test_broadcasting_in_the_schedulers(output, sample):
    diffusers = package("diffusers")
    from pyebm.integrations import diffusers as ours

    given, x = normal(*output), normal(*sample, seed=1)
    for name in ("DDPMScheduler", "ScoreSdeVeScheduler"):
        results = []
        for module in (ours, diffusers):
            scheduler = getattr(module, name)(num_train_timesteps=50)
            scheduler.set_timesteps(5)
            generator, made = torch.Generator().manual_seed(3), []
            if name == "DDPMScheduler":
                made.append(scheduler.step(given, scheduler.timesteps[2], x, generator=generator).prev_sample)
            else:
                scheduler.set_sigmas(5, 0.01, 5.0)
                made.append(scheduler.step_correct(given, x, generator=generator).prev_sample)
                made.append(scheduler.step_pred(given, 0.5, x, generator=generator).prev_sample)
            results.append(made)
        torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
        named = getattr(ours, name)(num_train_timesteps=50)
        named.noise = NOISE
        named.set_timesteps(5)
        if name == "DDPMScheduler":
            z = NOISE.randn(output)  # drawn like the output, as theirs
            again = getattr(ours, name)(num_train_timesteps=50)
            again.set_timesteps(5)
            t = named.timesteps[2]
            assert_equal(
                named.step(given, t, x).prev_sample,
                again.step(
                    given, t, x, generator=z.expand(torch.broadcast_shapes(output, sample))
                ).prev_sample,
            )


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
