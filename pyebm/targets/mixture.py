"""Mixtures of Gaussians, and with them the exact score of a data set that was perturbed with Gaussian noise."""

from __future__ import annotations

import math
import numbers

import torch
from torch import Tensor

from .._checks import FLOATS
from ..noise import Noise
from ..reference.dense import padded, squares
from ._target import Target, positive


class GaussianMixture(Target):
    """``p(x) = sum_m weights_m N(x; means_m, diag(scale_m^2))``; samples of any shape (B, ...) with D elements each.

    The score is ``sum_m r_m(x) (means_m - x) / scale_m^2`` with the responsibilities ``r_m(x)``, the softmax of the components'
    log densities. The kernels stream the components past a few samples in the cache, once, with an online softmax (Milakov &
    Gimelshein 2018): no (B, M) matrix is ever in memory. Far from all components the score stays right: no density underflows.

    Kernels differ from the exact score by rounding only, within the bound that docs/targets.md states; on one backend the bits do
    not depend on the batch, the threads or how a chain is cut.

    Args:
        means: (M, D), real numbers.
        scale: standard deviations > 0: a number, or a tensor that broadcasts against the means: (M, 1) one a component,
            (D,) or (1, D) one a dimension, (M, D) one of each. (M,) would mean dimensions, so it is an error unless M = D.
        weights: (M,), >= 0 and with the sum 1 to within 1e-5 (then normalised); None for equal ones. Components of weight 0 are legal.

    Raises:
        TypeError: means, scale or weights that aren't real tensors (scale: or a number).
        ValueError: shapes that don't fit together, NaN or infinity, a scale <= 0, weights that are negative or don't sum to 1.

    Example:
        >>> import torch, pyebm
        >>> target = pyebm.targets.GaussianMixture(torch.tensor([[-2.0], [2.0]]), 0.5, torch.tensor([0.25, 0.75]))
        >>> x = pyebm.langevin_chain(target.sample(4000, pyebm.Noise(0)), target, 100, 0.01, pyebm.Noise(1))
        >>> round((x > 0).double().mean().item(), 1)
        0.8
    """

    def __init__(self, means: Tensor, scale: float | Tensor, weights: Tensor | None = None) -> None:
        super().__init__()
        means = self._real("means", means)
        if means.dim() != 2 or not means.numel():
            raise ValueError(f"GaussianMixture: means must be (M, D) with M, D >= 1, got {tuple(means.shape)}")
        if not means.isfinite().all():
            raise ValueError(f"GaussianMixture: means must be finite, got {means[~means.isfinite()][0].item():g}")
        self.register_buffer("means", means.detach().clone())
        count, self.dim = means.shape
        if not isinstance(scale, numbers.Real):
            scale = self._real("scale", scale)
            if scale.dim() > 2 or any(n not in (1, full) for n, full in zip(scale.shape[::-1], (self.dim, count), strict=False)):
                raise ValueError(
                    f"GaussianMixture: scale must be a number, (M, 1), (D,), (1, D) or (M, D) for means (M, D) = "
                    f"{tuple(means.shape)}, got {tuple(scale.shape)}"
                )
        self._register("scale", scale, positive, "be > 0 and finite")
        if weights is None:
            weights = means.new_full((count,), 1 / count, dtype=torch.float64)
        weights = self._real("weights", weights)
        if weights.shape != (count,):
            raise ValueError(f"GaussianMixture: weights must be one a component, ({count},), got {tuple(weights.shape)}")
        self._register("weights", weights, lambda w: w >= 0, "be >= 0 and finite")
        total = weights.double().sum().item()
        if abs(total - 1) > 1e-5:
            raise ValueError(f"GaussianMixture: weights must sum to 1, got {total:g}; divide them by it")

    @classmethod
    def from_data(cls, x: Tensor, sigma: float | Tensor) -> GaussianMixture:
        """The data set ``x`` (N, ...) smoothed with noise of scale ``sigma``: every sample a component of the same weight.

        Its score at sigma is what a network trained on x by denoising score matching approximates: the optimum of that loss.

        Args:
            x: (N, ...), real numbers; the target's samples are (B, ...) with as many elements.
            sigma: as ``scale``.

        Raises as the class.

        Example:
            >>> import torch, pyebm
            >>> target = pyebm.targets.GaussianMixture.from_data(torch.randn(1000, 1, 8, 8), sigma=0.5)
            >>> target.score(torch.randn(16, 1, 8, 8)).shape
            torch.Size([16, 1, 8, 8])
        """
        if isinstance(x, Tensor) and x.dim() >= 1 and x.numel():
            x = x.reshape(x.shape[0], -1)
        return cls(x, sigma)

    @property
    def kind(self) -> str:  # type: ignore[override]
        return "mixture_diagonal" if self._diagonal else "mixture"

    @property
    def _diagonal(self) -> bool:
        return self.get_buffer("scale").dim() == 2 and min(self.get_buffer("scale").shape) > 1

    def log_prob(self, x: Tensor) -> Tensor:
        """``log p(x)``, (B,), computed in float64 and rounded once; differentiable. Its B x M terms are in memory, unlike the score's."""
        self._check("GaussianMixture", x)
        work = torch.promote_types(x.dtype, torch.float32)
        means, scale = self.get_buffer("means").double(), self.get_buffer("scale").double()
        rows = scale.reshape(-1, scale.shape[-1] if scale.dim() else 1)
        if rows.shape == (1, 1):
            rows = rows.expand(means.shape[0], 1)
        log_norm = rows.expand_as(means).log().sum(1) + 0.5 * means.shape[1] * math.log(2 * math.pi)
        apart = squares(x.reshape(x.shape[0], means.shape[1]).double(), means, rows.square().reciprocal())
        return torch.logsumexp(self._log_weights() - log_norm - 0.5 * apart, 1).to(work)

    def energy(self, x: Tensor) -> Tensor:
        """``-log p(x)``, (B,)."""
        return -self.log_prob(x)

    def sample(self, n: int, noise: Noise, *, dtype: torch.dtype = torch.float32, backend: str | None = None) -> Tensor:
        """n exact samples, (n, D), made from the noise: its stream for the normals, the next one for the choice of the component."""
        means, scale = self.get_buffer("means"), self.get_buffer("scale").double()
        if dtype not in FLOATS:
            raise TypeError(f"GaussianMixture.sample: dtype must be float16, bfloat16, float32 or float64, got {dtype}")
        chooser = noise.at(stream=noise.stream + 1)
        # 40 bits of two words: a float32 alone would be too coarse for 10^5 components.
        u = chooser.rand((n, 2), dtype=torch.float64, device=means.device, backend=backend)
        u = ((u[:, 0] * 65536).floor().clamp(max=65535) + u[:, 1]) / 65536
        edges = self._log_weights().exp().cumsum(0)
        chosen = torch.searchsorted(edges, u * edges[-1]).clamp(max=means.shape[0] - 1)
        z = noise.randn((n, means.shape[1]), dtype=torch.float64, device=means.device, backend=backend)
        spread = scale[chosen] if scale.dim() == 2 and scale.shape[0] > 1 else scale
        return (means[chosen].double() + spread * z).to(dtype)

    def _log_weights(self) -> Tensor:
        weights = self.get_buffer("weights").double()
        return (weights / weights.sum()).log()

    def _numbers_in(self, dtype: torch.dtype) -> Tensor:
        """As csrc/cpu/dense_kernels.h Mixture takes them. The means go from their own dtype to ``dtype`` at once: they may be large."""
        means, scale = self.get_buffer("means"), self.get_buffer("scale").double()
        count, dim = means.shape
        log2 = 1 / math.log(2)
        log_weight = self._log_weights() * log2
        if self._diagonal:
            offset = log_weight - scale.log2().sum(1)
            small, matrices = [offset - offset.max()], [padded(means.to(dtype)), padded(scale.square().reciprocal().to(dtype))]
        else:
            shared = scale.dim() > 0 and scale.shape[-1] > 1  # one a dimension: the space is stretched so that all are 1
            component = torch.ones_like(log_weight) if shared else scale.reshape(-1).expand(count)
            inverse = scale.reshape(-1).reciprocal() if shared else torch.ones_like(means[0], dtype=torch.float64)
            offset = log_weight - (dim + 2) * component.log2()
            small = [offset - offset.max(), 0.5 * log2 / component.square(), component.square(), inverse]
            matrices = [padded((means.double() * inverse if shared else means).to(dtype))]
        packed = torch.cat([*(each.to(dtype) for each in small), *matrices])
        if not torch.compiler.is_compiling() and not bool(packed[count:].isfinite().all() & (packed[count : 3 * count] > 0).all() if not self._diagonal else packed[count:].isfinite().all()):
            raise ValueError(
                f"GaussianMixture: scale must be such that it and 1 / scale^2 are numbers of {dtype}, in which the score is computed; "
                f"got {scale.min().item():g} to {scale.max().item():g}"
            )
        return packed

    def _real(self, name: str, value: Tensor) -> Tensor:
        if not isinstance(value, Tensor) or value.is_complex() or value.layout is not torch.strided:
            found = f"{value.dtype}, {value.layout}" if isinstance(value, Tensor) else type(value).__name__
            raise TypeError(f"GaussianMixture: {name} must be a dense tensor of real numbers, got {found}")
        return value if value.dtype in (torch.float32, torch.float64) else value.to(torch.float64)
