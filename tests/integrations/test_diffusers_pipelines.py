"""A tiny UNet2DModel, trained on real digits with the fused loss, in the stock pipelines with our
schedulers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from peers import package

from pyebm import Noise

diffusers = package("diffusers")
datasets = package("sklearn.datasets")

from pyebm.integrations.diffusers import DDPMScheduler, ScoreSdeVeScheduler, add_noise, loss  # noqa: E402

STEPS = 100


def network(channels):
    torch.manual_seed(0)
    return diffusers.UNet2DModel(
        sample_size=8,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )


@pytest.fixture(scope="module")
def trained():
    """Trains for a few seconds; returns (network, losses)."""
    digits = torch.tensor(datasets.load_digits().images, dtype=torch.float32)[:, None] / 8 - 1
    unet = network(1)
    scheduler = DDPMScheduler(num_train_timesteps=100, beta_end=0.15)
    optimiser = torch.optim.Adam(unet.parameters(), lr=3e-3)
    losses = []
    for k in range(STEPS):
        x0 = digits[torch.randint(0, len(digits), (32,))]
        times = torch.randint(0, 100, (32,))
        noisy, noised = add_noise(scheduler, x0, Noise(0, step=k), times)
        value = loss(unet(noisy, times).sample, noised, snr_gamma=5.0)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        losses.append(value.item())
    return unet, losses


def test_it_learns(trained):
    _, losses = trained
    assert np.mean(losses[-20:]) < 0.45 * losses[0]


def test_the_stock_ddpm_pipeline(trained):
    """With a generator, our scheduler makes the same pictures as diffusers'; with a Noise,
    pictures of the same kind."""
    unet, _ = trained
    pictures = {}
    for name, cls in (("ours", DDPMScheduler), ("theirs", diffusers.DDPMScheduler)):
        pipeline = diffusers.DDPMPipeline(unet, cls(num_train_timesteps=100, beta_end=0.15))
        pipeline.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(1)
        pictures[name] = pipeline(
            batch_size=16, generator=generator, num_inference_steps=25, output_type="np"
        ).images
    np.testing.assert_allclose(pictures["ours"], pictures["theirs"], atol=1e-3)
    pipeline.scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    pipeline.scheduler.noise = Noise(0)
    named = pipeline(batch_size=16, num_inference_steps=25, output_type="np").images
    assert pipeline.scheduler._draws.count == 25
    assert abs(named.mean() - pictures["theirs"].mean()) < 0.1
    assert abs(named.std() - pictures["theirs"].std()) < 0.1


def test_the_stock_ve_pipeline():
    """The network is untrained: this test only compares what the two schedulers make from one
    generator."""
    unet = network(3)
    pictures = []
    for cls in (ScoreSdeVeScheduler, diffusers.ScoreSdeVeScheduler):
        scheduler = cls(num_train_timesteps=10, sigma_max=2.0)
        pipeline = diffusers.ScoreSdeVePipeline(unet, scheduler)
        pipeline.set_progress_bar_config(disable=True)
        images = pipeline(
            batch_size=4, generator=torch.Generator().manual_seed(1), num_inference_steps=10, output_type="np"
        ).images
        pictures.append(images)
    np.testing.assert_allclose(*pictures, atol=1e-3)
