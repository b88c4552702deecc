"""Normal distributions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .. import _ops
from ..noise import Noise
from ..reference.dense import padded
from ._target import Target, positive


class Gaussian(Target):
    """A normal distribution: independent elements with the standard deviation ``std``, or any ``covariance``.

    ``energy(x) = 1/2 (x - mean)^T covariance^-1 (x - mean)``. With a full covariance the kernels multiply by its inverse, made once
    in float64 from the Cholesky factor (the buffer ``scale_tril``); their bits are a backend's own, within docs/targets.md's bound.

    Args:
        mean: a number for all elements, or a tensor (D,).
        std: the standard deviation, > 0, likewise; 1 if not given. Where mean and std are numbers, x may have any shape (B, ...).
        covariance: (D, D), symmetric and positive definite, in place of std.

    Raises:
        TypeError: what is neither a number nor a tensor.
        ValueError: numbers outside these ranges, tensors of more dimensions or of different lengths; std and covariance both
            given; a covariance that is not square, not symmetric, singular or not positive definite.

    Example:
        >>> import torch, pyebm
        >>> target = pyebm.targets.Gaussian(torch.tensor([0.0, 5.0]), std=2.0)
        >>> x = target.sample(10_000, pyebm.Noise(0))
        >>> x.mean(0).round().tolist(), x.std(0).round().tolist()
        ([0.0, 5.0], [2.0, 2.0])
        >>> correlated = pyebm.targets.Gaussian(covariance=torch.tensor([[1.0, 0.8], [0.8, 1.0]]))
        >>> round(torch.corrcoef(correlated.sample(10_000, pyebm.Noise(0)).T)[0, 1].item(), 1)
        0.8
    """

    def __init__(self, mean: float | Tensor = 0.0, std: float | Tensor | None = None, covariance: Tensor | None = None) -> None:
        super().__init__()
        self._register("mean", mean)
        if covariance is not None:
            if std is not None:
                raise ValueError("Gaussian: give std or covariance, not both")
            self._set_covariance(covariance)
            return
        self._register("std", 1.0 if std is None else std, positive, "be > 0 and finite")
        sizes = {}
        for name, buffer in self.named_buffers():
            if buffer.dim() > 1:
                raise ValueError(f"Gaussian: {name} must be a number or a tensor (D,), got shape {tuple(buffer.shape)}")
            if buffer.dim() == 1:
                sizes[name] = buffer.shape[0]
        if len(set(sizes.values())) > 1:
            raise ValueError(f"Gaussian: mean and std must have the same length, got {sizes['mean']} and {sizes['std']}")
        self.dim = next(iter(sizes.values()), None)
        self.kind = "harmonic" if self.dim is None else "gaussian"

    def _set_covariance(self, covariance: Tensor) -> None:
        mean = self.get_buffer("mean")
        if not isinstance(covariance, Tensor) or covariance.is_complex():
            found = covariance.dtype if isinstance(covariance, Tensor) else type(covariance).__name__
            raise TypeError(f"Gaussian: covariance must be a tensor of real numbers, got {found}")
        shape = tuple(covariance.shape)
        if len(shape) != 2 or shape[0] != shape[1] or not covariance.numel():
            raise ValueError(f"Gaussian: covariance must be (D, D) with D >= 1, got {shape}")
        if mean.dim() > 1 or mean.numel() not in (1, shape[0]):
            raise ValueError(f"Gaussian: mean must be a number or a tensor ({shape[0]},), got shape {tuple(mean.shape)}")
        wide = covariance.detach().double()
        if not wide.isfinite().all():
            raise ValueError(f"Gaussian: covariance must be finite, got {wide[~wide.isfinite()][0].item():g}")
        uneven = (wide - wide.T).abs().max().item()
        if uneven > 1e-5 * wide.abs().max().item():
            raise ValueError(f"Gaussian: covariance must be symmetric, got entries {uneven:g} apart from their mirror images")
        factor, failed = torch.linalg.cholesky_ex((wide + wide.T) / 2)
        diagonal = factor.diagonal()
        resolution = torch.finfo(covariance.dtype if covariance.is_floating_point() else torch.float64).eps
        # A factor within rounding of 0 means a direction without variance, though the decomposition may have got through.
        if failed or (diagonal.square() <= resolution * wide.diagonal()).any():
            at = int(failed) if failed else int((diagonal.square() / wide.diagonal()).argmin()) + 1
            raise ValueError(
                f"Gaussian: covariance must be positive definite, got one whose leading {at} x {at} block is singular or indefinite"
            )
        self.register_buffer("mean", mean.expand(shape[0]).clone())
        self.register_buffer("scale_tril", factor)
        self.dim, self.kind = shape[0], "gaussian_full"

    @property
    def covariance(self) -> Tensor:
        """(D, D), for a target that was made with one."""
        factor = self.get_buffer("scale_tril")
        return torch.mm(factor, factor.T)

    def energy(self, x: Tensor) -> Tensor:
        work, of = self._work(x)
        if self.kind == "gaussian_full":
            far = (work.double() - self.get_buffer("mean").double()).T
            white: Tensor = torch.linalg.solve_triangular(self.get_buffer("scale_tril").double(), far, upper=False)
            return white.square().sum(0).mul(0.5).to(work.dtype)
        return 0.5 * ((work - of("mean")) / of("std")).square().sum(1)

    def log_prob(self, x: Tensor) -> Tensor:
        work, of = self._work(x)
        if self.kind == "gaussian_full":
            log_std = of("scale_tril").diagonal().log().sum()
        else:
            log_std = of("std").log().expand(work.shape[1]).sum()
        return -self.energy(x) - (log_std + 0.5 * math.log(2 * math.pi) * work.shape[1])

    def sample(
        self, n: int | Sequence[int], noise: Noise, *, dtype: torch.dtype = torch.float32, backend: str | None = None
    ) -> Tensor:
        z, of, made = self._normals(n, noise, dtype, backend)
        if self.kind == "gaussian_full":
            # factor z by the score's kernel, which is (matrix) (0 - x): torch's own product has other bits in another batch.
            out, packed = torch.empty_like(z), torch.cat((torch.zeros_like(of("mean")), padded(of("scale_tril"))))
            _ops.kernels(backend, z)["target_score"](out, -z, self._index, packed)
            return made(of("mean") + out)
        return made(of("mean") + of("std") * z)

    def _numbers(self) -> Tensor:
        mean = self.get_buffer("mean").double()
        if self.kind == "gaussian_full":
            return torch.cat((mean, padded(torch.cholesky_inverse(self.get_buffer("scale_tril").double()))))
        precision = self.get_buffer("std").double() ** -2
        if self.dim is None:
            return torch.stack((precision, mean))
        return torch.cat((mean.expand(self.dim), precision.expand(self.dim)))
