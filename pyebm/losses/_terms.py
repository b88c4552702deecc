"""The objectives of score matching from PyTorch's operations, for any score function. A kernel's
result must equal theirs.

Each objective gives one term per element. The sum of a sample's terms is the sample's loss.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .._composed import work_of
from ._scores import Pull


def exact(score: Tensor, pull: Pull) -> Tensor:
    """``1/2 s_i^2 + ds_i/dx_i``, by one vector-Jacobian product for each element of a sample."""
    batch, elements = score.shape[0], math.prod(score.shape[1:])
    diagonal = []
    for i in range(elements):
        v = torch.zeros(batch, elements, dtype=score.dtype, device=score.device)
        v[:, i] = 1.0
        diagonal.append(pull(v.reshape(score.shape)).reshape(batch, elements)[:, i])
    made = torch.stack(diagonal, 1).reshape(score.shape) if diagonal else torch.zeros_like(score)
    return 0.5 * work_of(score).square() + work_of(made)


def sliced(score: Tensor, pull: Pull, projections: Tensor) -> Tensor:
    """``1/2 s_i^2 + v_i (v' ds/dx)_i``; the second term is a mean over the projections v,
    (P, B, ...)."""
    products = [work_of(v) * work_of(pull(v.to(score.dtype))) for v in projections]
    return 0.5 * work_of(score).square() + torch.stack(products).mean(0)


def sliced_by_sample(score: Tensor, pull: Pull, projections: Tensor) -> Tensor:
    """``1/2 (v' s)^2 + v' ds/dx v``, (B,), a mean over the projections. Without the reduction of
    variance a sample's loss is not a sum over its elements."""
    batch, elements = score.shape[0], math.prod(score.shape[1:])
    terms = []
    for v in projections:
        bent = work_of(v) * work_of(pull(v.to(score.dtype)))
        along = work_of(v) * work_of(score)
        terms.append(
            bent.reshape(batch, elements).sum(1) + 0.5 * along.reshape(batch, elements).sum(1).square()
        )
    return torch.stack(terms).mean(0)
