"""ncsnv2's training and sampling loops with our functions in place of its own: new digits, and
digits whose left halves are given.

    python examples/ncsnv2_digits.py
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits

import pyebm
from pyebm.integrations.ncsnv2 import (
    anneal_dsm_score_estimation,
    anneal_Langevin_dynamics,
    anneal_Langevin_dynamics_inpainting,
)

SIGMAS = torch.logspace(0.7, -1.3, 20)


class Score(torch.nn.Module):
    """An MLP whose output is divided by the level, as ncsnv2's networks are."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(65, 256),
            torch.nn.SiLU(),
            torch.nn.Linear(256, 256),
            torch.nn.SiLU(),
            torch.nn.Linear(256, 64),
        )

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        sigma = SIGMAS[labels][:, None]
        flat = x.flatten(1) / (1 + sigma**2).sqrt()
        return (self.layers(torch.cat([flat, sigma.log()], dim=1)) / sigma).view(x.shape)


def main(steps: int = 2000, n_steps_each: int = 20) -> list[torch.Tensor]:
    torch.manual_seed(0)
    digits = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 8 - 1
    score = Score()
    optimiser = torch.optim.Adam(score.parameters(), lr=1e-3)
    for k in range(steps):
        x = digits[torch.randint(0, len(digits), (128,))]
        value = anneal_dsm_score_estimation(score, x, SIGMAS, noise=pyebm.Noise(0, step=k))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
    print(f"loss {value:.1f}, of 32 for a network that answers nothing")

    start = 5 * pyebm.Noise(1).randn((64, 1, 8, 8))
    samples = anneal_Langevin_dynamics(
        start, score, SIGMAS, n_steps_each, 1e-3, final_only=True, noise=pyebm.Noise(2)
    )[0]
    print(
        f"samples: mean {samples.mean():.2f} and deviation {samples.std():.2f}; data: {digits.mean():.2f} and"
        f" {digits.std():.2f}"
    )
    start = start[:8].view(4, 2, 1, 8, 8).clone()
    completed = anneal_Langevin_dynamics_inpainting(
        start, digits[:4], score, SIGMAS, 8, n_steps_each, 1e-3, noise=pyebm.Noise(3), verbose=False
    )[-1]
    for row in range(8):
        print(
            " ".join(
                "".join(" .:+#@@"[int(3 * v.clamp(-1, 1) + 3)] for v in image[0, row]) for image in completed
            )
        )
    return [samples, completed]


if __name__ == "__main__":
    main()
