"""The networks of the end-to-end cases, and one function that makes them with equal weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .rivals import Missing


class MLP(nn.Module):
    """A score network for points: three layers, the noise level as one more input."""

    def __init__(self, dim: int, width: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim + 1, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, dim)
        )

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        beyond: Tensor = self.layers(torch.cat([x, sigma.log()[:, None]], 1))
        return (beyond - x) / (1 + sigma[:, None] ** 2)


def make(kind: str, dim: int) -> nn.Module:
    """ "MLP", or "U-Net": the demo's, for 8x8 digits. The same weights at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "MLP":
            return MLP(dim)
        try:
            from pyebm.demo.digits import ScoreNet
        except ImportError as error:
            raise Missing(
                f"the U-Net is the demo's, which needs {error.name}: pip install 'pyebm-kernels[demo]'"
            ) from error
        return ScoreNet(0.7)
