"""Train diffusers' UNet2DModel on real digits with the fused loss; sample with its own DDPMPipeline
and our scheduler.

    python examples/diffusers_digits.py    # two minutes; writes out/diffusers_digits.png

Needs pip install 'pyebm-kernels[integrations]'.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import DDPMPipeline, UNet2DModel
from PIL import Image
from sklearn.datasets import load_digits

import pyebm
from pyebm.integrations.diffusers import DDPMScheduler, add_noise, loss


def main(
    steps: int = 900, pictures: int = 64, inference_steps: int = 100, out: Path = Path("out")
) -> list[float]:
    torch.manual_seed(0)
    digits = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 8 - 1
    unet = UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(32, 64),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    scheduler = DDPMScheduler(num_train_timesteps=200, beta_end=0.08)
    optimiser = torch.optim.AdamW(unet.parameters(), lr=2e-3)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    losses = []
    for k in range(steps):
        x0 = digits[torch.randint(0, len(digits), (128,))]
        times = torch.randint(0, 200, (128,))
        noise = pyebm.Noise(0, step=k)  # a name, from which the loss regenerates the noise
        noisy, noised = add_noise(scheduler, x0, noise, times)
        value = loss(unet(noisy, times).sample, noised, snr_gamma=5.0)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        rates.step()
        losses.append(value.item())
        if k % 100 == 0:
            print(f"step {k:5d}  loss {losses[-1]:.3f}", flush=True)

    pipeline = DDPMPipeline(unet, scheduler)  # diffusers' own
    pipeline.scheduler.noise = pyebm.Noise(1)
    images = pipeline(batch_size=pictures, num_inference_steps=inference_steps, output_type="np").images[
        ..., 0
    ]
    side = int(pictures**0.5)
    sheet = images[: side * side].reshape(side, side, 8, 8).transpose(0, 2, 1, 3).reshape(8 * side, 8 * side)
    out.mkdir(exist_ok=True)
    Image.fromarray((255 * sheet).astype("uint8")).resize((32 * side, 32 * side), 0).save(
        out / "diffusers_digits.png"
    )
    print(f"{pictures} digits in {out / 'diffusers_digits.png'}")
    return losses


if __name__ == "__main__":
    main()
