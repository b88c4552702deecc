"""Networks that the tests of learned targets share; some of them are known densities."""

from __future__ import annotations

import torch
from cases import normal
from torch import Tensor, nn

from pyebm.targets import InputSkip, Residual

ACTIVATIONS = {
    "silu": nn.SiLU(),
    "tanh": nn.Tanh(),
    "softplus": nn.Softplus(beta=2.5),
    "sigmoid": nn.Sigmoid(),
    "gelu": nn.GELU(),
    "gelu_tanh": nn.GELU(approximate="tanh"),
    "elu": nn.ELU(0.7),
    "relu": nn.ReLU(),
    "leaky_relu": nn.LeakyReLU(0.2),
    "identity": nn.Identity(),
}
SMOOTH = ("silu", "tanh", "softplus", "sigmoid", "gelu", "gelu_tanh")


def seeded(net: nn.Module, dtype: torch.dtype = torch.float32, seed: int = 0) -> nn.Module:
    """Gives the network the same numbers in every dtype, of a size that keeps activations in
    their curved part."""
    with torch.no_grad():
        for at, parameter in enumerate(net.parameters()):
            scale = 1.0 if parameter.dim() < 2 else parameter.shape[1] ** -0.5
            parameter.copy_(scale * normal(*parameter.shape, dtype=torch.float64, seed=100 * seed + at))
    return net.to(dtype)


def mlp(
    inputs: int, outputs: int, activation: str = "silu", width: int = 12, dtype: torch.dtype = torch.float32
) -> nn.Module:
    act = ACTIVATIONS[activation]
    return seeded(
        nn.Sequential(nn.Linear(inputs, width), act, nn.Linear(width, width), act, nn.Linear(width, outputs)),
        dtype,
    )


def wired(inputs: int, outputs: int, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A network with everything that may be wired: nesting, a residual, input skips, a layer
    without bias, a layer without activation, modules that do nothing."""
    first = InputSkip(
        *(
            nn.Dropout(0.1),
            nn.Linear(inputs, 7),
            nn.GELU(),
            nn.Dropout(0.5),
            nn.Linear(7 + inputs, 5, bias=False),
            nn.Tanh(),
        ),
    )
    inner = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 6), nn.Identity(), nn.Softplus())
    return seeded(
        nn.Sequential(
            nn.Flatten(), first, Residual(nn.Linear(5, 5), nn.SiLU()), inner, nn.Linear(6, outputs)
        ),
        dtype,
    ).eval()


def logistic(dim: int) -> nn.Module:
    """``sum_i softplus(x_i) + softplus(-x_i)``: the energy of a standard logistic distribution,
    exactly."""
    first, last = nn.Linear(dim, 2 * dim, bias=False), nn.Linear(2 * dim, 1, bias=False)
    with torch.no_grad():
        first.weight.copy_(torch.cat((torch.eye(dim), -torch.eye(dim))))
        last.weight.fill_(1.0)
    return nn.Sequential(first, nn.Softplus(), last)


def shifted(dim: int) -> nn.Module:
    """The score ``c - x`` of a normal around its condition c, (dim,): a network of [x; c]."""
    net = nn.Linear(2 * dim, dim, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.cat((-torch.eye(dim), torch.eye(dim)), 1))
    return net


def energy_of(net: nn.Module, quadratic: float = 0.0):
    """The energy that MLPEnergy documents, in eager PyTorch."""

    def energy(x: Tensor) -> Tensor:
        return net(x).reshape(len(x)) + quadratic * x.square().flatten(1).sum(1)

    return energy
