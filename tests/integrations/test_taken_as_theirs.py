"""Arguments that the packages take: the adapters take them too, in the dtypes of the packages, and
with the same numbers from the same draws."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, normal
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


def test_one_time_for_all_samples_and_small_labels():
    x, t = normal(*SHAPE), torch.tensor([0.37])
    for made, options in (
        (score_sde.predictors, ("euler_maruyama",)),
        (score_sde.predictors, ("reverse_diffusion",)),
        (score_sde.predictors, ("ancestral_sampling",)),
        (score_sde.correctors, ("langevin", 0.1, 2)),
        (score_sde.correctors, ("ald", 0.1, 2)),
    ):
        name, *rest = options
        for sde in (VE(), VP()):
            got, want = (made(NOISE)[name](sde, score, *rest).update_fn(x, time) for time in (t, TIME))
            assert_equal(got, want)
    labels = torch.tensor([0, 1, 2, 2])
    values = [
        ncsnv2.anneal_dsm_score_estimation(Seen(), x, SIGMAS, one, noise=NOISE)
        for one in (labels, labels.int())
    ]
    assert_equal(*values)


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
