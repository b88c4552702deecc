"""Flow matching's noisy latents, loss and timestep densities against diffusers' own functions."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, normal
from compare import DTYPES, assert_as_good, gradient
from peers import package

from pyebm import Noise

diffusers = package("diffusers")
from diffusers import training_utils  # noqa: E402

from pyebm.integrations.diffusers import add_flow_noise, density_timesteps, flow_loss  # noqa: E402

SHAPE = (4, 3, 8, 8)
NOISE = Noise(1, step=7)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("precondition", [False, True])
@pytest.mark.parametrize("scheme", ["none", "sigma_sqrt", "cosmap"])
def test_loss_and_gradient(dtype, scheme, precondition):
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    t = scheduler.timesteps[[5, 300, 700, 990]]
    x0, z = normal(*SHAPE, dtype=dtype), NOISE.randn(SHAPE, dtype=dtype)
    sigma = scheduler.sigmas[[5, 300, 700, 990]]
    weight = normal(3, 8, 8, seed=5, grad=True)
    noisy, noised = add_flow_noise(scheduler, x0, NOISE, t)
    results = [gradient(flow_loss(weight * noisy, noised, scheme, precondition_outputs=precondition), weight)]
    for work, normals in ((torch.float32, z), (torch.float64, NOISE.randn(SHAPE, dtype=torch.float64))):
        w = weight.detach().to(work).requires_grad_()
        s = sigma.to(work)[:, None, None, None]
        clean = x0.to(work)
        mixed = (1 - s) * clean + s * normals.to(work)
        if work == torch.float32:
            assert_as_good(
                noisy,
                scheduler.scale_noise(x0, t, z),
                (1 - s.double()) * x0.double() + s.double() * NOISE.randn(SHAPE).double(),
            )
        pred = w * noisy.to(work)
        target = clean if precondition else normals.to(work) - clean
        if precondition:
            pred = pred * -s + mixed
        weights = training_utils.compute_loss_weighting_for_sd3(scheme, s)
        results.append(gradient((weights * (pred - target) ** 2).reshape(4, -1).mean(1).mean(), w))
    for triple in zip(*results, strict=True):
        assert_as_good(*triple)


@pytest.mark.parametrize("scheme", ["none", "logit_normal", "mode"])
def test_densities(scheme):
    """The law of diffusers' function, and a sample's own timestep in every batch."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    options = {"logit_mean": 0.5, "logit_std": 0.8, "mode_scale": 1.1}
    drawn = density_timesteps(scheduler, NOISE, 20_000, scheme, **options)
    torch.manual_seed(0)
    u = training_utils.compute_density_for_timestep_sampling(scheme, 20_000, **options)
    theirs = scheduler.timesteps[(u * 1000).long()]
    levels = torch.linspace(0.05, 0.95, 19)
    apart = (drawn.quantile(levels) - theirs.quantile(levels)).abs().max()
    assert apart < 25  # of 1000: 5 standard deviations of the flattest density's quantiles
    assert_equal(density_timesteps(scheduler, NOISE.shard(first_sample=7), 5, scheme, **options), drawn[7:12])


def test_what_they_refuse():
    scheduler, x0 = diffusers.FlowMatchEulerDiscreteScheduler(), normal(*SHAPE)
    with pytest.raises(ValueError, match=r"timesteps must be of scheduler\.timesteps"):
        add_flow_noise(scheduler, x0, NOISE, torch.tensor([0.123]))
    with pytest.raises(TypeError, match="scheduler must have timesteps and sigmas"):
        add_flow_noise(diffusers.DDPMScheduler(), x0, NOISE, torch.tensor([1.0]))
    with pytest.raises(TypeError, match="noised must be what add_flow_noise returned"):
        flow_loss(x0, None)
    with pytest.raises(TypeError, match="noise must be a Noise"):
        density_timesteps(scheduler, 3, 4)
    with pytest.raises(ValueError, match="weighting_scheme must be"):
        density_timesteps(scheduler, NOISE, 4, "cosine")
