"""The Fisher divergence to a known density: explicit score matching."""

from __future__ import annotations

import functools

from torch import Tensor, nn

from .._checks import Coefficient, check_samples, coefficient
from .._dtensor import by_samples
from ..targets._fused import Terms
from ._reduction import by_kernel, reduction_of
from ._scores import Fn, checked_score, score_function
from .denoising import denoising


@functools.partial(by_samples, samples="x")
def fisher_divergence(
    score_fn: Fn, target: Fn, x: Tensor, *, weight: Coefficient | None = None, reduction: str = "batchmean"
) -> Tensor:
    """The Fisher divergence ``1/2 w_b sum_i (s(x) - grad log p(x))_i^2``, an expectation over the
    law of the samples x: explicit score matching (Hyvarinen 2005, eq. 2), for a known p.

    Args:
        score_fn: the score s, a function (B, ...) -> (B, ...), or one of :mod:`pyebm.targets`; for
            an energy ``functools.partial(pyebm.energy_score, energy, create_graph=True)``.
        target: p: one of :mod:`pyebm.targets`, or the function grad log p.
        x: (B, ...), float16, bfloat16, float32 or float64; any strides.
        weight: w, a finite number, or a tensor as :func:`dsm_loss` takes it; None is 1.
        reduction: as in :func:`dsm_loss`. "batchmean" and "sample" sum over all of a sample's
            elements, of any shape.

    Returns:
        The loss, float64 for a float64 score and float32 otherwise; differentiable in x and in the
        parameters of both.

    Raises:
        TypeError: a score_fn or target that is no function, or gives no tensor; x is not dense real
            floating point.
        ValueError: a score of another shape than x; weight or reduction that don't fit.

    Example:
        >>> import torch, pyebm
        >>> x, normal = torch.randn(64, 2), pyebm.targets.Gaussian(torch.zeros(2))
        >>> pyebm.fisher_divergence(torch.neg, normal, x).item()
        0.0
    """
    op = "fisher_divergence"
    check_samples(op, "x", x)
    number, rows = coefficient(op, "weight", 1.0 if weight is None else weight, x)
    wanted = checked_score(op, "target", score_function(op, "target", target)(x), x)
    if wanted.dtype is x.dtype:
        fused = by_kernel(score_fn, x, reduction_of(op, x, weight, reduction), Terms(z=wanted.neg()))
        if fused is not None:
            return fused
    score = checked_score(op, "score_fn", score_function(op, "score_fn", score_fn)(x), x)
    numbers = (1.0, -1.0, 0.0, number, 0.5, False)
    return denoising(op, "score", score, wanted, None, numbers, (None, None, None, rows), reduction, None)


class FisherDivergenceLoss(nn.Module):
    """:func:`fisher_divergence` as a module. A call raises what that function raises.

    Example:
        >>> import torch, pyebm
        >>> loss = pyebm.losses.FisherDivergenceLoss(reduction="sample")
        >>> loss(torch.neg, pyebm.targets.Harmonic(), torch.randn(4, 2))
        tensor([0., 0., 0., 0.])
    """

    weight: Coefficient | None
    reduction: str

    def __init__(self, *, weight: Coefficient | None = None, reduction: str = "batchmean") -> None:
        super().__init__()
        self.weight, self.reduction = weight, reduction

    def forward(self, score_fn: Fn, target: Fn, x: Tensor) -> Tensor:
        return fisher_divergence(score_fn, target, x, weight=self.weight, reduction=self.reduction)

    def extra_repr(self) -> str:
        return f"weight={self.weight!r}, reduction={self.reduction!r}"
