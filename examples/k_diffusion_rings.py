"""k-diffusion's Denoiser with the fused loss, and its ancestral sampler with our noise, with which
a sample is the same in every batch.

    python examples/k_diffusion_rings.py

Needs pip install 'pyebm-kernels[k-diffusion]' (with all that k-diffusion requires).
"""

from __future__ import annotations

import k_diffusion
import torch

import pyebm
from pyebm.integrations.k_diffusion import Denoiser, noise_sampler


class Inner(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(3, 128),
            torch.nn.SiLU(),
            torch.nn.Linear(128, 128),
            torch.nn.SiLU(),
            torch.nn.Linear(128, 2),
        )

    def forward(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return self.layers(torch.cat([x, sigma.log()[:, None] / 4], dim=1))


def ring(count: int) -> torch.Tensor:
    """Points on the unit circle."""
    angle = 2 * torch.pi * torch.rand(count)
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def main(steps: int = 1500) -> torch.Tensor:
    torch.manual_seed(0)
    model = Denoiser(Inner(), sigma_data=0.7)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    for k in range(steps):
        sigma = (torch.randn(256) * 1.2 - 1.2).exp()
        value = model.loss(ring(256), pyebm.Noise(0, step=k), sigma).mean()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()

    sigmas = k_diffusion.sampling.get_sigmas_karras(30, 0.01, 10.0)
    noise = pyebm.Noise(1)
    start = 10 * noise.at(stream=1).randn((500, 2))

    def sample(first: int, count: int) -> torch.Tensor:
        x = start[first : first + count]
        draws = noise_sampler(x, noise.shard(first_sample=first))
        return k_diffusion.sampling.sample_euler_ancestral(
            model, x, sigmas, noise_sampler=draws, disable=True
        )

    whole = sample(0, 500)
    radius = whole.norm(dim=1)
    print(f"loss {value:.3f}; radius of the samples {radius.mean():.3f} +- {radius.std():.3f}, of the data 1")
    apart = (sample(400, 100) - whole[400:]).abs().max()
    print(
        f"the last hundred alone, and in the whole batch: apart by {apart:.1e} (the network's own rounding)"
    )
    return whole


if __name__ == "__main__":
    main()
