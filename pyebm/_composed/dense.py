"""The scores and energies of the dense targets, computed in float64 and rounded once, so they are
exact for the packed parameters. The kernels need not agree with them to the last bit;
docs/accuracy.md has the bound that the kernels keep.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .._kinds import row_stride


def padded(matrix: Tensor) -> Tensor:
    """The rows of a matrix, padded and one after the other, as the kernels take them; a view if
    there is nothing to pad."""
    more = row_stride(matrix.shape[1]) - matrix.shape[1]
    return (torch.nn.functional.pad(matrix, (0, more)) if more else matrix).flatten()


def _matrices(flat: Tensor, dim: int, count: int) -> tuple[Tensor, ...]:
    """The unpadded matrices at the end of the parameters."""
    return tuple(flat.reshape(count, -1, row_stride(dim))[:, :, :dim].unbind())


def squares(x: Tensor, mean: Tensor, precision: Tensor) -> Tensor:
    """``sum_d precision_md (x_bd - mean_md)^2``, (B, M), for precision (M, 1) or (M, D) or (1, D):
    by matrix products, in float64.

    Cancellation in them costs an error of (|x| / scale)^2 2^-53; x and the means are taken from a
    common center of the means to keep it small.
    """
    center = mean.mean(0)
    x, mean = x - center, mean - center
    if precision.shape[1] == 1:
        apart = x.square().sum(1, keepdim=True) - 2 * torch.mm(x, mean.T) + mean.square().sum(1)
        return apart.clamp(min=0).mul(precision[:, 0])
    weighted = precision * mean
    apart = (
        torch.mm(x.square(), precision.expand_as(mean).T)
        - 2 * torch.mm(x, weighted.T)
        + (weighted * mean).sum(1)
    )
    return apart.clamp(min=0)


def _mixture(x: Tensor, params: Tensor) -> tuple[Tensor, ...]:
    """A mixture with one variance for all dimensions of a component, in a space stretched by
    ``inverse`` of each dimension (csrc/cpu/simd/mixture_kernels.h Mixture). Returns x times
    ``inverse``, the logs of q, and the variances, ``inverse`` and the means.
    """
    dim, flat = x.shape[1], params.double()
    count = (flat.numel() - dim) // (3 + row_stride(dim))
    log2_weight, scale, variance, inverse = flat[: 3 * count + dim].split((count, count, count, dim))
    (mean,) = _matrices(flat[3 * count + dim :], dim, 1)
    y = x.double() * inverse
    return y, math.log(2) * (log2_weight - squares(y, mean, scale[:, None])), variance, inverse, mean


def mixture(x: Tensor, params: Tensor) -> Tensor:
    y, logs, variance, inverse, mean = _mixture(x, params)
    q = torch.softmax(logs, 1)
    pull: Tensor = (torch.mm(q, mean) - y) * inverse
    return (pull / torch.mv(q, variance)[:, None]).to(x.dtype)


def mixture_energy(x: Tensor, params: Tensor, _by: object) -> Tensor:
    _, logs, variance, _, _ = _mixture(x, params)
    return -torch.logsumexp(logs + variance.log(), 1)


def _mixture_diagonal(x: Tensor, params: Tensor) -> tuple[Tensor, ...]:
    """A mixture with a variance for every dimension of every component. Returns the logs of q, the
    means and the precisions."""
    dim, flat = x.shape[1], params.double()
    count = flat.numel() // (1 + 2 * row_stride(dim))
    mean, precision = _matrices(flat[count:], dim, 2)
    return math.log(2) * flat[:count] - 0.5 * squares(x.double(), mean, precision), mean, precision


def mixture_diagonal(x: Tensor, params: Tensor) -> Tensor:
    logs, mean, precision = _mixture_diagonal(x, params)
    q = torch.softmax(logs, 1)
    return (q @ (precision * mean) - x * (q @ precision)).to(x.dtype)


def mixture_diagonal_energy(x: Tensor, params: Tensor, _by: object) -> Tensor:
    return -torch.logsumexp(_mixture_diagonal(x, params)[0], 1)


def gaussian_full(x: Tensor, params: Tensor) -> Tensor:
    """``precision (mean - x)``."""
    dim, flat = x.shape[1], params.double()
    (precision,) = _matrices(flat[dim:], dim, 1)
    return ((flat[:dim] - x.double()) @ precision.T).to(x.dtype)
