"""The dense targets' packed parameters, taken apart (docs/dense-kernels.md)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from pyebm._schemas import TARGETS

from . import launch
from .layout import shape_of

KINDS = ("mixture", "mixture_diagonal", "gaussian_full")


class Parameters(NamedTuple):
    """The packed parameters of a dense target, by name (docs/dense-kernels.md). A field is None
    where the kind does not have it."""

    kind: str
    stride: int
    components: int
    vector: Tensor | None  # [elements]: a mixture's inverse, or gaussian_full's mean
    offset: Tensor | None  # [components], like scale and variance
    scale: Tensor | None
    variance: Tensor | None
    mean: Tensor  # [components * stride]; gaussian_full's is the inverse covariance
    precision: Tensor | None  # [components * stride]


def unpacked(kind: str, elements: int, params: Tensor) -> Parameters | None:
    """Views of the parameters, or None where their number does not fit the kind and samples of so
    many elements."""
    stride, count = elements if elements % 512 else elements + 16, params.numel()
    if kind == "gaussian_full":
        if elements < 1 or count != elements + elements * stride:
            return None
        return Parameters(
            kind, stride, elements, params[:elements], None, None, None, params[elements:], None
        )
    shared, vectors, matrices = (elements, 3, 1) if kind == "mixture" else (0, 1, 2)
    m, rest = divmod(count - shared, vectors + matrices * stride)
    if elements < 1 or m < 1 or rest:
        return None
    if kind == "mixture":
        offset, scale, variance, inverse, mean = params.split((m, m, m, elements, m * stride))
        return Parameters(kind, stride, m, inverse, offset, scale, variance, mean, None)
    offset, mean, precision = params.split((m, m * stride, m * stride))
    return Parameters(kind, stride, m, None, offset, None, None, mean, precision)


def has(target: int) -> bool:
    return 0 <= target < len(TARGETS) and TARGETS[target] in KINDS


def checked(op: str, x: Tensor, target: int, params: Tensor) -> Parameters:
    _, elements = shape_of(x)
    kind, dtype = TARGETS[target], launch.compute_dtype(x.dtype)
    found = unpacked(kind, elements, params) if params.dtype == dtype and params.is_contiguous() else None
    if found is None:
        raise ValueError(
            f"{op}: params must be the contiguous {dtype} numbers of {kind} for samples of {elements}"
            f" elements, got {params.numel()} of {params.dtype}"
        )
    return found
