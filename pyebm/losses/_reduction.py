"""Weight and reduction of an objective that is made of PyTorch's operations, as the denoising
losses have them in their kernels."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from .. import _composed, _schemas
from .._checks import coefficient
from .._composed.coefficients import column, require_finite
from .._derivatives import wanted
from .._options import check_choice
from ..targets._fused import Terms, fused_loss


class Reduction:
    """Turns an objective's terms, one per element (or one per sample), into the loss. It is made
    before the terms, so that a wrong weight or reduction is refused first.
    """

    def __init__(self, op: str, x: Tensor, weight: Any, reduction: str) -> None:
        check_choice(op, "reduction", reduction, _schemas.REDUCTIONS)
        self.number, self.rows = coefficient(op, "weight", 1.0 if weight is None else weight, x)
        require_finite(op, weight=self.rows)
        self.name, self.shape = reduction, x.shape
        self._divisor = _composed.divisor(x.shape, _schemas.REDUCTIONS[reduction])
        self.by_element = reduction == "none" or (
            self.rows is not None and self.rows.numel() not in (1, x.shape[0])
        )

    def __call__(self, terms: Tensor) -> Tensor:
        """The loss, in float32, or float64 for float64 terms. Sums are made in float64, so that
        their rounding does not show in float32."""
        weight = self.number if self.rows is None else column(self.number, self.rows, terms)
        weighted = terms.double() * weight
        if self.name != "none":
            weighted = weighted.reshape(terms.shape[0], math.prod(terms.shape[1:])).sum(1)
            if self.name != "sample":
                weighted = weighted.sum() / self._divisor
        return weighted.to(torch.float64 if terms.dtype is torch.float64 else torch.float32)

    @property
    def is_number(self) -> bool:
        return self.name not in ("none", "sample")

    @property
    def weights(self) -> tuple[float, Tensor | None] | None:
        """The weight of each sample's loss in the result, as a number or (B,), for a kernel; None
        if a weight or the result has parts of samples, or if an empty batch would have a mean."""
        if self.by_element or not self._divisor:
            return None
        rows = None if self.rows is None else (self.rows.double() / self._divisor).expand(self.shape[0])
        return self.number / self._divisor, rows


_kept: dict[tuple[Any, ...], Reduction] = {}


def reduction_of(op: str, x: Tensor, weight: Any, reduction: str, by_sample: bool = False) -> Reduction:
    """The reduction of terms by element or, with by_sample, by sample. It is kept where the weight
    is a number or None, since to make it takes as long as a fifth of a small network's kernel."""
    simple = (weight is None or type(weight) is float) and type(reduction) is str and type(x) is Tensor
    if not simple or is_compiling():
        return Reduction(op, x.new_empty(x.shape[:1]) if by_sample else x, weight, reduction)
    key = (op, x.shape[:1] if by_sample else x.shape, weight, reduction)
    found = _kept.get(key)
    if found is None:
        if len(_kept) >= 256:
            _kept.clear()
        made = Reduction(op, x.new_empty(x.shape[:1]) if by_sample else x, weight, reduction)
        found = _kept[key] = made
    return found


def by_kernel(fn: Any, x: Tensor, reduced: Reduction, terms: Terms, c: Any = None) -> Tensor | None:
    """The loss from the kernel; None if the kernel does not take fn or the reduction. terms and c
    are as in :func:`fused_loss`; the weight of the reduction comes on top of that of the terms."""
    weight = reduced.weights
    if weight is None:
        return None
    if wanted(None, reduced.rows):  # the derivatives by the weights are the samples' losses
        losses = fused_loss(fn, x, terms, c=c, by_sample=True)
        return None if losses is None else reduced(losses)
    number, rows = weight
    by = terms.weight
    terms = terms.weighing(number * by, rows if rows is None or by == 1.0 else rows * by)
    return fused_loss(fn, x, terms, c=c, by_sample=not reduced.is_number)
