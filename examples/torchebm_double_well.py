"""torchebm's LangevinDynamics with our integrator, and its DenoisingScoreMatching with our loss.

    python examples/torchebm_double_well.py

Needs pip install 'pyebm-kernels[integrations]'.
"""

from __future__ import annotations

import torch
from torchebm.core import BaseModel, DoubleWellModel
from torchebm.samplers import LangevinDynamics

import pyebm
from pyebm.integrations.torchebm import DenoisingScoreMatching, EulerMaruyamaIntegrator


class Energy(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(2, 64),
            torch.nn.SiLU(),
            torch.nn.Linear(64, 64),
            torch.nn.SiLU(),
            torch.nn.Linear(64, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x).squeeze(-1)


def chain(model: BaseModel, seed: int, steps: int, first: int = 0, count: int = 1000) -> torch.Tensor:
    noise = pyebm.Noise(seed, first_sample=first)
    sampler = LangevinDynamics(model, step_size=0.01, integrator=EulerMaruyamaIntegrator(noise=noise))
    return sampler.sample(torch.zeros(count, 2), n_steps=steps)


def main(steps: int = 1000, chain_steps: int = 1000) -> torch.Tensor:
    torch.manual_seed(0)
    truth = DoubleWellModel(barrier_height=2.0)
    data = chain(truth, 0, chain_steps)
    assert torch.equal(
        chain(truth, 0, chain_steps, first=900, count=100), data[900:]
    )  # a chain doesn't depend on its batch
    print(f"double well: mean |x_0| {data[:, 0].abs().mean():.3f}")

    model = Energy()
    loss = DenoisingScoreMatching(model, noise_scale=0.2, noise=pyebm.Noise(1))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(steps):
        value = loss(data[torch.randint(0, len(data), (256,))])
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
    learned = chain(model, 2, chain_steps)
    print(f"learned energy: loss {value:.2f}, mean |x_0| {learned[:, 0].abs().mean():.3f}")
    return learned


if __name__ == "__main__":
    main()
