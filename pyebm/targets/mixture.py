"""Mixtures of Gaussians. They also give the exact score of a data set that was perturbed with
Gaussian noise."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from .._checks import check_tensor
from .._composed.dense import padded, squares
from .._derivatives import checkable, wanted
from .._kinds import row_stride
from ..noise import Noise
from ._kept import readable
from ._parameters import positive
from ._target import Target


class GaussianMixture(Target):
    """``p(x) = sum_m weights_m N(x; means_m, diag(scale_m^2))``; samples of any shape (B, ...) with
    D elements each.

    The score is ``sum_m r_m(x) (means_m - x) / scale_m^2`` with the responsibilities ``r_m(x)``,
    the softmax of the components' log densities. The kernels stream the components past a few
    samples in the cache, once, with an online softmax (Milakov & Gimelshein 2018): no (B, M) matrix
    is ever in memory. Far from all components the score stays right: no density underflows.

    Kernels differ from the exact score by rounding only, within the bound that docs/accuracy.md
    states; on one backend the bits do not depend on the batch, the threads or how a chain is cut.

    Args:
        means: (M, D), real numbers.
        scale: standard deviations > 0: a number, or a tensor that broadcasts against the means: (M,
            1) one a component, (D,) or (1, D) one a dimension, (M, D) one of each. (M,) would mean
            dimensions, so it is an error unless M = D.
        weights: (M,), >= 0, with the sum 1 to within 1e-5; None for equal ones. A weight of 0 is
            legal. They are divided by their sum in every use, so learned weights need not keep the
            sum at 1; weights below 0 give NaN.

    Raises:
        TypeError: means, scale or weights that aren't real tensors (scale: or a number).
        ValueError: shapes that don't fit together, NaN or infinity, a scale <= 0, weights that are
            negative or don't sum to 1.

    Example:
        >>> import torch, pyebm
        >>> means, weights = torch.tensor([[-2.0], [2.0]]), torch.tensor([0.25, 0.75])
        >>> target = pyebm.targets.GaussianMixture(means, 0.5, weights)
        >>> x = target.sample(4000, pyebm.Noise(0))
        >>> x = pyebm.langevin_chain(x, target, 100, 0.01, pyebm.Noise(1))
        >>> round((x > 0).double().mean().item(), 1)
        0.8
    """

    dim: int
    means: Tensor
    scale: Tensor
    weights: Tensor

    def __init__(self, means: Tensor, scale: float | Tensor, weights: Tensor | None = None) -> None:
        super().__init__()
        self._check_values("means", self._tensor("means", means))
        if means.dim() != 2 or not means.numel():
            raise ValueError(
                f"GaussianMixture: means must be (M, D) with M, D >= 1, got {tuple(means.shape)}"
            )
        self._hold(
            "means", means, means.dtype if means.dtype in (torch.float32, torch.float64) else torch.float64
        )
        count, dim = means.shape
        if not isinstance(scale, numbers.Real):
            shape = self._tensor("scale", scale).shape
            if len(shape) > 2 or any(
                n not in (1, full) for n, full in zip(shape[::-1], (dim, count), strict=False)
            ):
                raise ValueError(
                    "GaussianMixture: scale must be a number, (M, 1), (D,), (1, D) or (M, D) for means (M,"
                    f" D) = {tuple(means.shape)}, got {tuple(shape)}"
                )
        self._register("scale", scale, positive, "be > 0 and finite", dims=2, like=means)
        self.dim, self.kind = dim, "mixture_diagonal" if min(self._rows().shape) > 1 else "mixture"
        if isinstance(weights, Tensor) and weights.device != means.device:
            raise ValueError(
                f"GaussianMixture: weights must be on the means' device {means.device}, got {weights.device}"
            )
        if weights is None:
            self.register_buffer("weights", means.new_full((count,), 1 / count, dtype=torch.float64))
            return
        if self._tensor("weights", weights).shape != (count,):
            raise ValueError(
                f"GaussianMixture: weights must be one a component, ({count},), got {tuple(weights.shape)}"
            )
        self._check_values("weights", weights, lambda w: w >= 0, "be >= 0 and finite")
        total = 1.0 if weights.is_meta else weights.detach().double().sum().item()
        if abs(total - 1) > 1e-5:
            raise ValueError(f"GaussianMixture: weights must sum to 1, got {total:g}; divide them by it")
        self._hold("weights", weights)

    @classmethod
    def from_data(cls, x: Tensor, sigma: float | Tensor) -> GaussianMixture:
        """The data set ``x`` (N, ...) smoothed with noise of scale ``sigma``: every sample is a
        component of the same weight.

        Its score at sigma is what a network trained on x by denoising score matching approximates:
        the optimum of that loss.

        Args:
            x: (N, ...), real numbers; the target's samples are (B, ...) with as many elements.
            sigma: as ``scale``.

        Raises as the class.

        Example:
            >>> import torch, pyebm
            >>> data = torch.randn(1000, 1, 8, 8)
            >>> target = pyebm.targets.GaussianMixture.from_data(data, sigma=0.5)
            >>> target.score(torch.randn(16, 1, 8, 8)).shape
            torch.Size([16, 1, 8, 8])
        """
        call = "GaussianMixture.from_data"
        check_tensor(call, "x", x)
        if x.dim() >= 1 and x.numel():
            x = x.reshape(x.shape[0], -1)
        try:
            return cls(x, sigma)
        except (TypeError, ValueError) as error:  # the message must have this call's argument names
            message = (
                str(error)
                .replace("GaussianMixture: means", f"{call}: x")
                .replace("GaussianMixture: scale", f"{call}: sigma")
            )
            raise type(error)(message) from None

    def log_prob(self, x: Tensor) -> Tensor:
        """``log p(x)``, (B,), computed in float64, rounded once; differentiable. Unlike the score
        it has B x M terms in memory."""
        work, _ = self._work(x)
        means, scale = self._wide("means"), self._rows()
        log_norm = scale.expand_as(means).log().sum(1) + 0.5 * means.shape[1] * math.log(2 * math.pi)
        apart = squares(work.double(), means, scale.square().reciprocal())
        return torch.logsumexp(self._log_weights() - log_norm - 0.5 * apart, 1).to(work.dtype)

    def energy(self, x: Tensor) -> Tensor:
        """``-log p(x)``, (B,)."""
        return -self.log_prob(x)

    def sample(
        self,
        n: int | Sequence[int],
        noise: Noise,
        *,
        dtype: torch.dtype = torch.float32,
        backend: str | None = None,
    ) -> Tensor:
        """n exact samples, (n, D) or of the shape n. The noise's stream gives the normals, the next
        stream chooses the components."""
        if wanted(self.weights):
            raise RuntimeError(
                "GaussianMixture.sample: the weights require grad, and which component a sample comes from"
                " has no derivative by them; call it under torch.no_grad(), or give weights that don't"
                " require grad"
            )
        means, scale = self.means, self._wide("scale")
        z, _, finish = self._normals(n, noise, dtype, backend)
        # The component is chosen by 40 bits of two words, since one float32 would be too coarse for
        # 10^5 components.
        u = noise.at(stream=noise.stream + 1).rand(
            (z.shape[0], 2), dtype=torch.float64, device=means.device, backend=backend
        )
        u = ((u[:, 0] * 65536).floor().clamp(max=65535) + u[:, 1]) / 65536
        edges = self._log_weights().exp().cumsum(0)
        chosen = torch.searchsorted(edges, u * edges[-1]).clamp(max=means.shape[0] - 1)
        spread = scale[chosen] if scale.dim() == 2 and scale.shape[0] > 1 else scale
        return finish(means[chosen].double() + spread * z)

    def _log_weights(self) -> Tensor:
        weights = self._wide("weights")
        if wanted(weights) and checkable(weights) and bool((weights == 0).any()):
            raise ValueError(
                "GaussianMixture: weights must be > 0 where they require grad, as the logarithm of 0 has no"
                f" derivative, got 0 for component {int((weights == 0).nonzero()[0])}; learn logits, weights"
                " = softmax(logits), or detach the weights"
            )
        return (weights / weights.sum()).log()

    def _rows(self) -> Tensor:
        """The scales in float64: (M, 1), (1, D) or (M, D)."""
        scale = self._wide("scale")
        rows = scale.reshape(-1, scale.shape[-1] if scale.dim() else 1)
        return rows.expand(self.means.shape[0], 1) if rows.shape == (1, 1) else rows

    def _constant(self, elements: int) -> float:
        largest = float(self._offsets().max()) * math.log(2)
        return (
            0.5 * elements * math.log(2 * math.pi)
            + (float(self._rows().log().sum()) if self._shared else 0.0)
            - largest
        )

    @property
    def _shared(self) -> bool:
        """Whether all components share one scale per dimension. The kernels then work in a space
        stretched so that all scales are 1."""
        return self.kind == "mixture" and self._rows().shape != (self.means.shape[0], 1)

    def _offsets(self) -> Tensor:
        """log2 of the factors of the components' terms in the score; only their differences
        matter."""
        scale, log_weight = self._rows(), self._log_weights() / math.log(2)
        if self.kind == "mixture_diagonal":
            return log_weight - scale.log2().sum(1)
        return (
            log_weight
            if self._shared
            else log_weight - (0.5 * self.means.shape[1] + 1) * scale[:, 0].square().log2()
        )

    def _numbers_in(self, dtype: torch.dtype) -> Tensor:
        """The numbers in the layout of csrc/cpu/simd/mixture_kernels.h Mixture. The means are
        converted to ``dtype`` directly, since they may be large."""
        means, scale, offsets = self.means, self._rows(), self._offsets()
        dim, offset = means.shape[1], offsets - offsets.max()
        if self.kind == "mixture_diagonal":
            precision = scale.square().reciprocal()
            vectors, matrices = [self._in_range(offset, dtype, precision)], [means, precision]
        else:
            shared = self._shared
            variance = torch.ones_like(offset) if shared else scale[:, 0].square()
            inverse = scale[0].reciprocal() if shared else scale.new_ones(dim)
            offset = self._in_range(offset, dtype, variance.reciprocal(), variance, inverse)
            vectors = [offset, 0.5 / math.log(2) / variance, variance, inverse]
            matrices = [means * inverse if shared else means]
        return torch.cat(
            [*(each.to(dtype) for each in vectors), *(padded(each.to(dtype)) for each in matrices)]
        )

    def _contained(self, dtype: torch.dtype) -> tuple[Tensor, Callable[[Tensor], Tensor]] | None:
        means, (count, dim) = self.means, self.means.shape
        if means.dtype is not dtype or self._shared:
            return None
        first, stride = count if self.kind == "mixture_diagonal" else 3 * count + dim, row_stride(dim)
        return means, lambda numbers: numbers[first : first + count * stride].reshape(count, stride)[:, :dim]

    def _in_range(self, offset: Tensor, dtype: torch.dtype, *derived: Tensor) -> Tensor:
        """Refuses scales that are fine in float64, but whose squares are 0 or infinite in the dtype
        that the score is computed in.

        It raises an error or, if the host can't read the numbers without a wait, makes the score
        NaN.
        """
        limits, scale = torch.finfo(dtype), self.scale
        fits = torch.stack(
            [((each >= limits.tiny) & (each <= 0.25 * limits.max)).all() for each in derived]
        ).all()
        if not readable([scale]):
            return torch.where(fits, offset, math.nan)
        if not fits:
            raise ValueError(
                f"GaussianMixture: scale^2 and 1 / scale^2 must be normal numbers of {dtype}, in which the"
                f" score is computed, got scale from {scale.min().item():g} to {scale.max().item():g}"
            )
        return offset

    def _tensor(self, name: str, value: object) -> Tensor:
        check_tensor("GaussianMixture", name, value)
        return cast(Tensor, value)
