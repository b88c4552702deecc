"""The score and the energy of a network of dense layers, forward and back by hand, with PyTorch's
matrix products and activations. The kernels must agree with them within a bound, not to the bit,
since a sample's last digits may depend on its batch here."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .._schemas import ACTIVATIONS
from .coefficients import work_of


def _silu_slope(z: Tensor, _: float) -> Tensor:
    s = torch.sigmoid(z)
    return s * (1 + z * (1 - s))


def _gelu_slope(z: Tensor, _: float) -> Tensor:
    return 0.5 * torch.erfc(-z / math.sqrt(2)) + z * torch.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


def _gelu_tanh_slope(z: Tensor, _: float) -> Tensor:
    c = 2 * math.sqrt(2 / math.pi)
    s = torch.sigmoid(c * (z + 0.044715 * z**3))
    return s + z * s * (1 - s) * c * (1 + 3 * 0.044715 * z * z)


# Each activation and its derivative, as functions of z and the activation's parameter.
_Function = Callable[[Tensor, float], Tensor]
_FUNCTIONS: dict[str, tuple[_Function, _Function]] = {
    "identity": (lambda z, _: z, lambda z, _: torch.ones_like(z)),
    "silu": (lambda z, _: F.silu(z), _silu_slope),
    "tanh": (lambda z, _: z.tanh(), lambda z, _: 1 - z.tanh() ** 2),
    "softplus": (
        lambda z, p: F.softplus(z, p),
        lambda z, p: torch.where(p * z > 20, 1.0, torch.sigmoid(p * z)),
    ),
    "sigmoid": (lambda z, _: z.sigmoid(), lambda z, _: z.sigmoid() * (1 - z.sigmoid())),
    "gelu": (lambda z, _: F.gelu(z), _gelu_slope),
    "gelu_tanh": (lambda z, _: F.gelu(z, approximate="tanh"), _gelu_tanh_slope),
    "elu": (lambda z, p: F.elu(z, p), lambda z, p: torch.where(z > 0, 1.0, p * z.clamp(max=0).exp())),
    "relu": (lambda z, _: z.relu(), lambda z, _: (z > 0).to(z.dtype)),
    "leaky_relu": (lambda z, p: F.leaky_relu(z, p), lambda z, p: torch.where(z > 0, torch.ones_like(z), p)),
}


class _Layer(NamedTuple):
    weight: Tensor
    bias: Tensor
    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    residual: bool
    skip: bool


class _Network(NamedTuple):
    is_energy: bool
    layers: list[_Layer]
    quadratic: Tensor


def check_network(
    layout: list[int], elements: int, params: Tensor, biases: Tensor | None, rows: tuple[int, ...]
) -> None:
    """The kernel's checks, except for limits that only the kernel has."""
    if len(layout) < 3 or len(layout) != 3 + 4 * layout[2]:
        raise ValueError("network: layout must have 3 numbers and 4 for each of its layers")
    kind, dim, _, *rest = layout
    if dim != elements:
        raise ValueError(f"network: layout takes samples of {dim} elements, got {elements}")
    width, count, outs = dim, 1, rest[0::4]
    for out, activation, residual, skip in zip(outs, rest[1::4], rest[2::4], rest[3::4], strict=True):
        if out < 1 or not 0 <= activation < len(ACTIVATIONS) or residual not in (0, 1) or skip not in (0, 1):
            raise ValueError(
                f"network: layout has a layer {(out, activation, residual, skip)}, which is none"
            )
        count += out * (width + dim * skip) + out + 1
        width = out
    if kind not in (0, 1) or outs[-1] != (dim if kind else 1):
        raise ValueError(
            "network: layout's last layer must have 1 output for an energy, as many as x has elements for a"
            " score"
        )
    if params.numel() != count:
        raise ValueError(
            f"network: params must have the {count} numbers that the layout asks for, got {params.numel()}"
        )
    if biases is not None and (biases.shape[1] != sum(outs) or biases.shape[0] not in rows):
        raise ValueError(
            f"network: biases must have a row of {sum(outs)} for all or each, got {tuple(biases.shape)}"
        )


def unpacked(x: Tensor, layout: Tensor, params: Tensor, biases: Tensor | None) -> _Network:
    numbers, batch = layout.tolist(), x.shape[0]
    elements = x.numel() // batch if batch else numbers[1] if len(numbers) > 1 else 0
    check_network(numbers, elements, params, biases, (1, batch))
    kind, dim, _, *rest = numbers
    layers, width, at, of_biases = [], dim, 0, 0
    for k in range(0, len(rest), 4):
        out, activation, residual, skip = rest[k : k + 4]
        inputs = width + dim * skip
        weight, bias = params[at : at + out * inputs].view(out, inputs), params[at + out * inputs :][:out]
        at += out * inputs + out + 1
        if biases is not None:
            bias = biases[:, of_biases : of_biases + out]
        of_biases += out
        functions = _with(ACTIVATIONS[activation], params[at - 1].item())
        layers.append(_Layer(weight, bias, *functions, bool(residual), bool(skip)))
        width = out
    return _Network(kind == 0, layers, params[at])


def _with(activation: str, parameter: float) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    value, slope = _FUNCTIONS[activation]
    return lambda z: value(z, parameter), lambda z: slope(z, parameter)


def network_score_of(
    x: Tensor, layout: Tensor, params: Tensor, biases: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """The score at x, (B, ...), in x's dtype, and the energies, (B,), in params' dtype; None in
    their place if the network's output is the score."""
    net = unpacked(x, layout, params.to(x.device), biases)
    start = work_of(x).reshape(x.shape[0], math.prod(x.shape[1:]))
    h, sums = start, []
    for layer in net.layers:
        z = (torch.cat((h, start), 1) if layer.skip else h) @ layer.weight.T + layer.bias
        sums.append(z)
        h = layer.value(z) + h if layer.residual else layer.value(z)
    if not net.is_energy:
        return (h - 2 * net.quadratic * start).reshape(x.shape).to(x.dtype), None
    energy = h[:, 0] + net.quadratic * (start * start).sum(1)
    g, to_x = torch.ones_like(h), 2 * net.quadratic * start
    for layer, z in zip(reversed(net.layers), reversed(sums), strict=True):
        back = (layer.slope(z) * g) @ layer.weight
        if layer.skip:
            back, more = back.split([back.shape[1] - start.shape[1], start.shape[1]], 1)
            to_x = to_x + more
        g = g + back if layer.residual else back
    return -(to_x + g).reshape(x.shape).to(x.dtype), energy
