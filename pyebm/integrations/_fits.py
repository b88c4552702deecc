"""Checks of what a caller of an adapter gives, and the shapes and dtypes that PyTorch's operators
would make of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .._checks import Coefficient, check_dense, check_tensor, checked_number
from .._name import readable
from .._options import FLOATS


def broadcast(op: str, name: str, value: Tensor, x: Tensor, x_name: str = "the samples") -> torch.Size:
    """The shape of value and x together. Both have the same number of dimensions: with fewer, a
    value would be one for a channel, or for a column."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: {name} must be a tensor, got {type(value).__name__}")
    if value.shape == x.shape:
        return x.shape
    try:
        if value.dim() == x.dim():
            shape: torch.Size = torch.broadcast_shapes(value.shape, x.shape)
            return shape
    except RuntimeError:
        pass
    raise ValueError(
        f"{op}: {name} must have the shape of {x_name}, {tuple(x.shape)}, or broadcast with it, got"
        f" {tuple(value.shape)}"
    )


def output_like(op: str, name: str, output: Tensor, x: Tensor) -> Tensor:
    """A network's output, broadcast to x's shape, as it is where a loss subtracts x from it.
    Without it the noise would be regenerated for the output's shape, which is other noise."""
    shape = broadcast(op, name, output, x)
    if shape != x.shape:
        raise ValueError(
            f"{op}: {name} must have the shape of the samples, {tuple(x.shape)}, or broadcast to it, got"
            f" {tuple(output.shape)}"
        )
    return output if output.shape == shape else output.expand(shape)


def widened(x: Tensor, *others: Tensor) -> Tensor:
    """x in the dtype that it has together with the others, as after PyTorch's operators between
    tensors of one dimension or more."""
    dtype = x.dtype
    for other in others:
        dtype = torch.promote_types(dtype, other.dtype)
    return x.to(dtype)


def checked_scale(op: str, name: str, value: Coefficient, open_low: bool = False) -> Coefficient:
    """Checks that a number or a tensor is finite and not negative (with open_low: above 0). A
    tensor on a GPU is not checked, since the check would wait for it."""
    if not isinstance(value, Tensor):
        return checked_number(op, name, value, 0.0, open_low)
    check_tensor(op, name, value)
    if value.is_cpu and readable(value):
        fine = (value > 0 if open_low else value >= 0) & (value < math.inf)
        if not bool(fine.all()):
            worst = value[~fine].flatten()[0].item()
            raise ValueError(f"{op}: {name} must be {'>' if open_low else '>='} 0 and finite, got {worst:g}")
    return value


def fitted(op: str, noise: Tensor, x: Tensor, name: str = "noise") -> Tensor:
    """The caller's own normals, checked, and broadcast to x's shape."""
    if not isinstance(noise, Tensor):
        raise TypeError(f"{op}: {name} must be a Noise or a tensor, got {type(noise).__name__}")
    check_dense(op, name, noise)
    if noise.shape == x.shape and noise.dtype in FLOATS and noise.device == x.device:
        return noise
    if noise.dtype not in FLOATS:
        raise TypeError(f"{op}: {name} must be float16, bfloat16, float32 or float64, got {noise.dtype}")
    if noise.device == x.device and noise.dim() == x.dim():
        try:
            return noise.expand(x.shape)
        except RuntimeError:
            pass
    wanted = f"must have the samples' shape {tuple(x.shape)} or broadcast to it, on {x.device}"
    raise ValueError(f"{op}: {name} {wanted}, got {tuple(noise.shape)}, on {noise.device}")


def norms(x: Tensor) -> Tensor:
    """Each sample's norm, (B,), summed in float32 at least."""
    root: Tensor = torch.linalg.vector_norm(
        x.flatten(1) if x.dim() > 1 else x[:, None], dim=1, dtype=torch.promote_types(x.dtype, torch.float32)
    )
    return root
