"""The training steps of the energies as one writes them in eager PyTorch, to time them beside the
library's."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

Energy = Callable[[Tensor], Tensor]


def _score(energy: Energy, x: Tensor, create_graph: bool = False) -> tuple[Tensor, Tensor]:
    at = x.detach().requires_grad_()
    (grad,) = torch.autograd.grad(energy(at).sum(), at, create_graph=create_graph)
    return at, -grad


def _moved(energy: Energy, x: Tensor, step_size: float, n_steps: int) -> Tensor:
    for _ in range(n_steps):
        x = x + step_size * _score(energy, x)[1] + (2 * step_size) ** 0.5 * torch.randn_like(x)
    return x


def _loss(
    objective: str, energy: Energy, x: Tensor, sigma: float, buffer: Tensor, step_size: float, n_steps: int
) -> Tensor:
    z = torch.randn_like(x)
    noisy = x + sigma * z
    if objective == "DSM":
        score = _score(energy, noisy, create_graph=True)[1]
        return 0.5 * (sigma * score + z).square().sum(1).mean()
    if objective == "sliced":
        at, score = _score(energy, noisy, create_graph=True)
        v = torch.randn_like(x).sign()
        (bent,) = torch.autograd.grad((v * score).sum(), at, create_graph=True)
        return sigma**2 * (v * bent + 0.5 * score.square()).sum(1).mean()
    if objective.startswith("CD"):
        model = _moved(energy, noisy, step_size, n_steps)
    else:
        chosen = torch.randint(len(buffer), (len(x),))
        model = buffer[chosen] = _moved(energy, buffer[chosen], step_size, n_steps)
    data_energy, model_energy = energy(noisy), energy(model)
    penalty = 0.001 * (data_energy.square().mean() + model_energy.square().mean())
    return data_energy.mean() - model_energy.mean() + penalty


def seconds(
    objective: str,
    net: torch.nn.Module,
    quadratic: float,
    data: Tensor,
    batch: int,
    step_size: float,
    n_steps: int,
    of: int = 10,
) -> float:
    """The seconds of one training step, measured over ``of`` steps."""

    def energy(x: Tensor) -> Tensor:
        energies: Tensor = net(x).squeeze(1) + quadratic * x.square().sum(1)
        return energies

    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, fused=True)
    with torch.random.fork_rng(devices=[]):
        buffer = torch.randn(2048, 2)
        for k in range(of + 2):
            if k == 2:
                began = time.perf_counter()
            loss = _loss(
                objective, energy, data[torch.randint(len(data), (batch,))], 0.5, buffer, step_size, n_steps
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return (time.perf_counter() - began) / of
