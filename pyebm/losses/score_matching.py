"""Score matching: the forms of the Fisher divergence that need the data alone."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor, nn

from .._checks import Coefficient, check_samples
from .._composed import work_of
from .._dtensor import by_samples
from .._options import check_choice, checked_count, checked_flag
from ..noise import Noise, named
from ..targets._fused import Terms
from . import _terms
from ._projections import KINDS, each_projection, projections_by_sample
from ._reduction import Reduction, by_kernel, reduction_of
from ._scores import Fn, score_function, with_jacobian

METHODS = ("exact", "hutchinson")
_MOST_DIRECTIONS = 64  # as many as a kernel holds at once, in the cache or close to it
_of_x = functools.partial(by_samples, samples="x")


@_of_x
def score_matching(
    fn: Fn,
    x: Tensor,
    method: str = "exact",
    *,
    noise: Noise | None = None,
    n_projections: int = 1,
    weight: Coefficient | None = None,
    reduction: str = "batchmean",
) -> Tensor:
    """Score matching, ``w_b sum_i (1/2 s_i^2 + ds_i/dx_i)``: Hyvarinen (2005), eq. 4.

    Its mean over the data is the Fisher divergence to the data's density, up to a constant. The
    sums run over all elements of a sample, such as an image's channels and pixels, and are not
    divided by their number.

    Equivalent, for one sample, to::

        0.5 * s(x).square().sum() + torch.func.jacrev(s)(x).trace()

    Args:
        fn: as score_fn of :func:`fisher_divergence`. It must have second derivatives: an energy
            whose activations are ReLU has none, and learns nothing from this.
        x: data (B, ...), float16, bfloat16, float32 or float64; any strides.
        method: "exact" takes the trace by D backward passes, one for each element of a sample, so
            it suits a small D. "hutchinson" estimates it as the mean of ``v' (ds/dx) v`` over
            vectors v of +-1, without a bias.
        noise: names those vectors (for "hutchinson" only); they are the same as in
            :func:`sliced_score_matching`.
        n_projections: how many vectors v each sample has.
        weight, reduction: as in :func:`fisher_divergence`.

    Returns:
        The loss, which is negative where the score is good; float64 for a float64 score and float32
        otherwise. Differentiable in x and in the parameters, in both modes. Under ``torch.no_grad``
        a constant.

    Raises:
        TypeError: an fn that is no function; x is not dense real floating point; a noise that is no
            Noise.
        ValueError: a score of another shape than x, or that does not depend on x through autograd;
            method, noise, n_projections, weight or reduction that don't fit.

    Example:
        >>> import torch, pyebm
        >>> nn = torch.nn
        >>> net = nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 2))
        >>> loss = pyebm.score_matching(net, torch.randn(64, 2))
        >>> loss.backward()
    """
    op = "score_matching"
    check_samples(op, "x", x)
    check_choice(op, "method", method, METHODS)
    reduced = reduction_of(op, x, weight, reduction)
    n_projections = checked_count(op, "n_projections", n_projections, 1)
    score_fn = score_function(op, "fn", fn)
    if method == "exact":
        if noise is not None:
            raise ValueError(f"{op}: noise must be None for method='exact', which draws nothing")
        elements = math.prod(x.shape[1:])
        if 0 < elements <= _MOST_DIRECTIONS:
            basis = torch.eye(elements, dtype=work_of(x).dtype, device=x.device).reshape(1, -1)
            fused = by_kernel(fn, x, reduced, Terms(trace=1.0, v=basis))
            if fused is not None:
                return fused
        return with_jacobian(op, score_fn, x, lambda score, pull: reduced(_terms.exact(score, pull)))
    if noise is None:
        raise ValueError(f"{op}: noise must be given for method='hutchinson', whose projections it names")
    return _sliced(op, fn, x, noise, n_projections, "rademacher", True, reduced)


@_of_x
def sliced_score_matching(
    fn: Fn,
    x: Tensor,
    noise: Noise,
    n_projections: int = 1,
    projection: str = "rademacher",
    variance_reduced: bool = True,
    *,
    weight: Coefficient | None = None,
    reduction: str = "batchmean",
) -> Tensor:
    """Sliced score matching, ``w_b mean_v(v' (ds/dx) v + 1/2 |s|^2)``: Song et al. (2019), eq. 8,
    by one backward pass a projection; without the reduction of variance ``1/2 (v' s)^2`` in place
    of the last term, eq. 7.

    Its expectation over v is :func:`score_matching`'s loss, the sums over all of a sample's
    elements.

    Args:
        fn, x: as in :func:`score_matching`.
        noise: names the projections. They are drawn beside the Noise's own numbers (docs/noise.md),
            so the one that perturbs the samples may be given here too.
        n_projections: how many projections v each sample has.
        projection: "rademacher" (each element +-1), "gaussian", or "sphere" (uniform, of length
            sqrt(D)).
        variance_reduced: integrate the second term over v in closed form.
        weight, reduction: as in :func:`fisher_divergence`. Without the reduction of variance the
            loss has no terms by element, so reduction="none" and a weight that differs between a
            sample's elements are refused.

    Returns and raises as :func:`score_matching`; ValueError too for a Noise that does not fit the
    batch.

    Example:
        >>> import functools, torch, pyebm
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Flatten(), torch.nn.Linear(64, 64), torch.nn.SiLU(), torch.nn.Linear(64, 1)
        ... )
        >>> score = functools.partial(pyebm.energy_score, net, create_graph=True)
        >>> loss = pyebm.sliced_score_matching(score, torch.randn(16, 1, 8, 8), pyebm.Noise(0))
        >>> loss.backward()
    """
    op = "sliced_score_matching"
    check_samples(op, "x", x)
    check_choice(op, "projection", projection, KINDS)
    reduced = reduction_of(op, x, weight, reduction)
    n_projections = checked_count(op, "n_projections", n_projections, 1)
    variance_reduced = checked_flag(op, "variance_reduced", variance_reduced)
    if not variance_reduced and reduced.by_element:
        raise ValueError(
            f"{op}: weight and reduction must be by sample without variance_reduced, got "
            f"{'reduction=none' if reduction == 'none' else 'a weight by element'}"
        )
    return _sliced(op, fn, x, noise, n_projections, projection, variance_reduced, reduced)


def _sliced(
    op: str,
    fn: Fn,
    x: Tensor,
    noise: Noise,
    n_projections: int,
    projection: str,
    variance_reduced: bool,
    reduced: Reduction,
) -> Tensor:
    score_fn = score_function(op, "fn", fn)
    named(op, noise, x)
    v = projections_by_sample(projection, noise, x, n_projections)
    if n_projections <= _MOST_DIRECTIONS:
        trace, along = (1 / n_projections, False) if variance_reduced else (1.0, True)
        of_terms = Terms(
            weight=1.0 if variance_reduced else 1 / n_projections,
            trace=trace,
            along=along,
            v=v,
        )
        fused = by_kernel(fn, x, reduced, of_terms)
        if fused is not None:
            return fused
    terms = _terms.sliced if variance_reduced else _terms.sliced_by_sample
    each = each_projection(v, x, n_projections)
    return with_jacobian(op, score_fn, x, lambda score, pull: reduced(terms(score, pull, each)))


class ScoreMatchingLoss(nn.Module):
    """:func:`score_matching` as a module. Each call gives its noise, a new one in each training
    step, and raises what that function raises.

    Example:
        >>> import torch, pyebm
        >>> loss = pyebm.losses.ScoreMatchingLoss("hutchinson")
        >>> loss(torch.neg, torch.zeros(4, 3), pyebm.Noise(0)).item()
        -3.0
    """

    method: str
    n_projections: int
    weight: Coefficient | None
    reduction: str

    def __init__(
        self,
        method: str = "exact",
        *,
        n_projections: int = 1,
        weight: Coefficient | None = None,
        reduction: str = "batchmean",
    ) -> None:
        super().__init__()
        self.method, self.n_projections, self.weight, self.reduction = (
            method,
            n_projections,
            weight,
            reduction,
        )

    def forward(self, fn: Fn, x: Tensor, noise: Noise | None = None) -> Tensor:
        options: dict[str, Any] = {"weight": self.weight, "reduction": self.reduction}
        return score_matching(fn, x, self.method, noise=noise, n_projections=self.n_projections, **options)

    def extra_repr(self) -> str:
        return (
            f"{self.method!r}, n_projections={self.n_projections}, weight={self.weight!r},"
            f" reduction={self.reduction!r}"
        )


class SlicedScoreMatchingLoss(nn.Module):
    """:func:`sliced_score_matching` as a module. A call raises what that function raises.

    Example:
        >>> import torch, pyebm
        >>> loss = pyebm.losses.SlicedScoreMatchingLoss(n_projections=2, projection="sphere")
        >>> loss(torch.neg, torch.zeros(4, 3), pyebm.Noise(0)).shape
        torch.Size([])
    """

    n_projections: int
    projection: str
    variance_reduced: bool
    weight: Coefficient | None
    reduction: str

    def __init__(
        self,
        n_projections: int = 1,
        projection: str = "rademacher",
        variance_reduced: bool = True,
        *,
        weight: Coefficient | None = None,
        reduction: str = "batchmean",
    ) -> None:
        super().__init__()
        self.n_projections, self.projection, self.variance_reduced = (
            n_projections,
            projection,
            variance_reduced,
        )
        self.weight, self.reduction = weight, reduction

    def forward(self, fn: Fn, x: Tensor, noise: Noise) -> Tensor:
        options: dict[str, Any] = {"weight": self.weight, "reduction": self.reduction}
        return sliced_score_matching(
            fn, x, noise, self.n_projections, self.projection, self.variance_reduced, **options
        )

    def extra_repr(self) -> str:
        return (
            f"n_projections={self.n_projections}, projection={self.projection!r},"
            f" variance_reduced={self.variance_reduced}, weight={self.weight!r}, reduction={self.reduction!r}"
        )
