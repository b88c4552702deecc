"""ebmkit's LangevinDynamics, where a chain depends on its own number alone.

    python examples/ebmkit_chains.py

Needs pip install 'pyebm-kernels[integrations]'.
"""

from __future__ import annotations

import torch

import pyebm
from pyebm.integrations.ebmkit import LangevinDynamics


def energy(x: torch.Tensor) -> torch.Tensor:
    """Two wells in each dimension."""
    return 2 * ((x**2 - 1) ** 2).sum(1)


def main(steps: int = 500) -> torch.Tensor:
    sampler = LangevinDynamics(step_size=0.01, steps=steps, noise=pyebm.Noise(0))
    x = sampler.sample(energy, torch.zeros(1000, 2))
    alone = LangevinDynamics(step_size=0.01, steps=steps, noise=pyebm.Noise(0, first_sample=123)).sample(
        energy, torch.zeros(1, 2)
    )
    assert torch.equal(alone[0], x[123])
    grid = torch.linspace(-3, 3, 10_001, dtype=torch.float64)
    density = (-energy(grid[:, None])).exp()
    truth = (grid.abs() * density).sum() / density.sum()
    print(
        f"mean of |x| {x.abs().mean():.3f}, of the law {truth:.3f}; chain 123 alone is chain 123 of a"
        " thousand, to the last bit"
    )
    return x


if __name__ == "__main__":
    main()
