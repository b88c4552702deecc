"""The denoising losses."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from torch import Tensor

from .._arguments import Between, Dtype, Is, Number, Shape, Where, Written
from .types import LIKE, REDUCTIONS, SAMPLES, Finite, PerSample, Rows


class LossTerms(NamedTuple):
    """The arguments of the denoising losses after the prediction: the coefficients and the noise of
    the residual (kappa pred + lam z) + mu x0, the weight and the reduction."""

    kappa: Annotated[
        float,
        Number(),
        Where("over_kappa2", Number(0.0, low_open=True)),
        Where("kappa_positive", Number(0.0)),
    ]
    lam: Finite
    mu: Finite
    weight: Finite
    factor: Finite
    over_kappa2: bool
    reduction: Annotated[int, Between(0, len(REDUCTIONS))]
    name: Annotated[Tensor | None, Is(Shape.NAME, Dtype.LONG, contiguous=True)]
    kappa_rows: Rows = None
    lam_rows: Rows = None
    mu_rows: Rows = None
    weight_rows: Rows = None
    z: Annotated[Tensor | None, LIKE] = None
    x0: Annotated[Tensor | None, LIKE] = None
    seeds: PerSample = None
    ids: PerSample = None
    kappa_positive: bool | None = None


class DenoisingLoss(NamedTuple):
    """The loss. grad, where given, gets the gradient for grad_output = 1 in the same pass."""

    loss: Annotated[Tensor, Is(Shape.LOSS, Dtype.REAL), Written]
    grad: Annotated[Tensor | None, LIKE, Written]
    pred: Annotated[Tensor, SAMPLES]
    terms: LossTerms


class DenoisingGrad(NamedTuple):
    grad: Annotated[Tensor, LIKE, Written]
    grad_output: Annotated[Tensor, Is(Shape.ABOVE, Dtype.REAL)]
    pred: Annotated[Tensor, SAMPLES]
    terms: LossTerms


class Scale(NamedTuple):
    grad: Annotated[Tensor, SAMPLES, Written]
    grad_output: Annotated[Tensor, Is(Shape.ABOVE_ROWS, Dtype.REAL)]
