"""The dense targets' packed parameters, taken apart (docs/dense-kernels.md)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from pyebm._kinds import KINDS, TARGETS, fits, row_stride

from . import launch
from .layout import shape_of


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


def unpacked(kind: str, elements: int, params: Tensor) -> Parameters:
    """Views of the parameters."""
    stride, count = row_stride(elements), params.numel()
    if kind == "gaussian_full":
        mean, inverse = params[:elements], params[elements:]
        return Parameters(kind, stride, elements, mean, None, None, None, inverse, None)
    if kind == "mixture":
        m = (count - elements) // (3 + stride)
        offset, scale, variance, inverse, mean = params.split((m, m, m, elements, m * stride))
        return Parameters(kind, stride, m, inverse, offset, scale, variance, mean, None)
    m = count // (1 + 2 * stride)
    offset, mean, precision = params.split((m, m * stride, m * stride))
    return Parameters(kind, stride, m, None, offset, None, None, mean, precision)


def has(target: int) -> bool:
    return 0 <= target < len(TARGETS) and KINDS[TARGETS[target]].dense


def checked(op: str, x: Tensor, target: int, params: Tensor) -> Parameters:
    """The parameters by name, of a target that fits x."""
    require(op, x, TARGETS[target], params)
    return unpacked(TARGETS[target], shape_of(x)[1], params)


def require(op: str, x: Tensor, kind: str, params: Tensor) -> None:
    """Raises ValueError where these are no parameters of such a target for samples like x."""
    elements, dtype = shape_of(x)[1], launch.compute_dtype(x.dtype)
    if params.dtype != dtype or not params.is_contiguous() or not fits(kind, elements, params.numel()):
        raise ValueError(
            f"{op}: params must be the contiguous {dtype} numbers of {kind} for samples of {elements}"
            f" elements, got {params.numel()} of {params.dtype}"
        )
