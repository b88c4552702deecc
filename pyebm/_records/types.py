"""The numbering of activations and reductions, and the types of arguments that records share."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from .._arguments import Between, Dtype, Is, Limit, Number, Shape
from .._kinds import TARGETS

# The activations that a network's layers may have: ``layout`` holds indices in this list.
# csrc/cpu/simd/network.h has the same list.
ACTIVATIONS = (
    "identity",
    "silu",
    "tanh",
    "softplus",
    "sigmoid",
    "gelu",
    "gelu_tanh",
    "elu",
    "relu",
    "leaky_relu",
)

REDUCTIONS = {"none": 0, "sample": 1, "sum": 2, "mean": 3, "batchmean": 4}

SAMPLES = Is(Shape.SAMPLES, Dtype.FLOATS)
LIKE = Is(Shape.LIKE, Dtype.SAME)
ROW = Is(Shape.LIKE, Dtype.SAME, contiguous=True)
DOUBLES = Is(Shape.BATCH, Dtype.DOUBLE, contiguous=True)

Name = Annotated[Tensor, Is(Shape.NAME, Dtype.LONG, contiguous=True)]
PerSample = Annotated[Tensor | None, Is(Shape.BATCH, Dtype.LONG, contiguous=True)]
Rows = Annotated[Tensor | None, Is(Shape.ROWS, Dtype.REAL)]
Schedule = Annotated[Tensor | None, Is(Shape.SCHEDULE, Dtype.REAL)]
Target = Annotated[int, Between(0, len(TARGETS), "kTargets")]
Params = Annotated[Tensor, Is(Shape.FLAT, Dtype.WORK, contiguous=True)]
Finite = Annotated[float, Number()]
Positive = Annotated[float, Number(0.0, low_open=True)]
NotNegative = Annotated[float, Number(0.0)]
Low = Annotated[float | None, Limit()]
High = Annotated[float | None, Limit(at_least="low")]
Clip = Annotated[float | None, Limit(positive=True)]
Layout = Annotated[Tensor, Is(Shape.FLAT, Dtype.LONG, contiguous=True, on_host=True)]
Biases = Annotated[Tensor | None, Is(Shape.TABLE, Dtype.WORK, contiguous=True)]
Marginals = Annotated[Tensor | None, Is(Shape.TABLE, Dtype.DOUBLE, contiguous=True)]
