"""The random directions of sliced score matching, as a Noise names them."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling

from .. import _small_calls
from .._composed import work_of
from .._streams import PROJECTIONS, beside
from ..noise import Noise

_signs = _small_calls.step_of("signs")
KINDS = ("rademacher", "gaussian", "sphere")


def projections(kind: str, noise: Noise, x: Tensor, count: int) -> Tensor:
    """The projections v, (count, B, ...) in the dtype that x is computed in, each with E[v v'] = 1.

    Projection p of a sample is made of the sample's elements p D, ..., (p + 1) D - 1 on the stream
    of the projections, so the first ones are the same however many there are.

    - "gaussian": the normals z;
    - "sphere": ``sqrt(D) z / |z|``, uniform on a sphere;
    - "rademacher": 1 where the uniform is at most 1/2, else -1.
    """
    return each_projection(projections_by_sample(kind, noise, x, count), x, count)


def each_projection(v: Tensor, x: Tensor, count: int) -> Tensor:
    """The projections (B, count D) as (count, B, ...)."""
    return v.reshape(x.shape[0], count, *x.shape[1:]).movedim(1, 0)


def projections_by_sample(kind: str, noise: Noise, x: Tensor, count: int) -> Tensor:
    """The same projections as (B, count D), contiguous."""
    batch, elements = x.shape[0], math.prod(x.shape[1:])
    shape, named, dtype = (batch, count * elements), beside(noise, PROJECTIONS), work_of(x).dtype
    if kind == "rademacher":
        if not is_dynamo_compiling():
            signs: Tensor | None = _signs(named, shape, dtype=dtype, device=x.device)
            if signs is not None:
                return signs
        u = named.rand(shape, dtype=dtype, device=x.device)
        return torch.where(u <= 0.5, 1.0, -1.0).to(dtype)
    v = named.randn(shape, dtype=dtype, device=x.device)
    if kind == "sphere":
        each = v.double().reshape(batch, count, elements)
        norm = each.square().sum(2, keepdim=True).sqrt()
        v = (each * (math.sqrt(elements) / norm)).to(dtype).flatten(1)
    return v
