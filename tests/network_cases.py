"""Networks for the tests of the network ops: packed as the ops take them, and as plain PyTorch
that autograd differentiates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pyebm._schemas import ACTIVATIONS

PARAMETER = {"softplus": 2.0, "elu": 0.75, "leaky_relu": 0.125}  # only these activations have one
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda z: z,
    "silu": F.silu,
    "tanh": torch.tanh,
    "softplus": lambda z: F.softplus(z, PARAMETER["softplus"]),
    "sigmoid": torch.sigmoid,
    "gelu": F.gelu,
    "gelu_tanh": lambda z: F.gelu(z, approximate="tanh"),
    "elu": lambda z: F.elu(z, PARAMETER["elu"]),
    "relu": F.relu,
    "leaky_relu": lambda z: F.leaky_relu(z, PARAMETER["leaky_relu"]),
}
assert tuple(FUNCTIONS) == ACTIVATIONS


@dataclass
class Layer:
    weight: Tensor  # float64, like all numbers here
    bias: Tensor
    activation: str
    residual: bool = False
    skip: bool = False


@dataclass
class Network:
    kind: str  # "energy" or "score"
    dim: int
    layers: list[Layer]
    quadratic: float = 0.0

    def packed(self, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        layout = [int(self.kind == "score"), self.dim, len(self.layers)]
        numbers = []
        for layer in self.layers:
            layout += [len(layer.bias), ACTIVATIONS.index(layer.activation), layer.residual, layer.skip]
            numbers += [
                layer.weight.flatten(),
                layer.bias,
                torch.tensor([PARAMETER.get(layer.activation, 0.0)]),
            ]
        numbers.append(torch.tensor([self.quadratic]))
        return torch.tensor(layout), torch.cat([n.to(dtype) for n in numbers])

    def biases(self) -> Tensor:
        return torch.cat([layer.bias for layer in self.layers])

    def __call__(self, x: Tensor) -> Tensor:
        h = x
        for layer in self.layers:
            made = FUNCTIONS[layer.activation](
                F.linear(torch.cat((h, x), 1) if layer.skip else h, layer.weight, layer.bias)
            )
            h = h + made if layer.residual else made
        return (
            h[:, 0] + self.quadratic * (x * x).sum(1) if self.kind == "energy" else h - 2 * self.quadratic * x
        )

    def truth(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The score, which is autograd's, and the energy, both in float64."""
        x = x.double().requires_grad_()
        out = self(x)
        if self.kind == "score":
            return out.detach(), None
        return -torch.autograd.grad(out.sum(), x)[0].detach(), out.detach()


def network(
    kind: str = "energy",
    dim: int = 2,
    widths: tuple[int, ...] = (20, 20),
    activations: tuple[str, ...] | str = "silu",
    residual: tuple[int, ...] = (),
    skip: tuple[int, ...] = (),
    last: str = "identity",
    quadratic: float = 0.1,
) -> Network:
    """Draws random numbers that float32 holds exactly, so that packing rounds nothing."""
    draw = torch.Generator().manual_seed(len(widths) + dim)
    layers: list[Layer] = []
    names = (activations,) * len(widths) if isinstance(activations, str) else activations
    before = dim
    for k, (out, name) in enumerate(
        zip((*widths, 1 if kind == "energy" else dim), (*names, last), strict=True)
    ):
        inputs = before + dim * (k in skip)
        weight = 1.5 * torch.randn(out, inputs, generator=draw) / inputs**0.5
        bias = 0.3 * torch.randn(out, generator=draw)
        layers.append(Layer(weight.double(), bias.double(), name, k in residual, k in skip))
        before = out
    return Network(kind, dim, layers, float(torch.tensor(quadratic)))


def far_out(count: int, dtype: torch.dtype) -> Tensor:
    """Samples of one element, near 0, far out on both sides, and not finite."""
    far = torch.logspace(-3, 4, count)
    ends = torch.tensor([torch.nan, torch.inf, 0.0, -0.0])
    return torch.cat((far, -far, ends))[:, None].to(dtype)
