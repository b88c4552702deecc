"""Normal distributions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .. import _ops
from .._checks import check_tensor
from .._composed.dense import padded
from .._derivatives import exactly, wanted
from ..noise import Noise
from ._kept import traced
from ._parameters import positive
from ._target import Target


class Gaussian(Target):
    """A normal distribution: independent elements with the standard deviation ``std``, or any
    ``covariance``.

    ``energy(x) = 1/2 (x - mean)^T covariance^-1 (x - mean)``. With a full covariance the kernels
    multiply by its inverse, made once in float64 from the Cholesky factor (``scale_tril``). The
    bits of the result then depend on the backend, within the bound of docs/accuracy.md.

    Args:
        mean: a number for all elements, or a tensor (D,).
        std: the standard deviation, > 0, likewise; 1 if not given. Where mean and std are numbers,
            x may have any shape (B, ...).
        covariance: (D, D), symmetric and positive definite, in place of std.
        scale_tril: (D, D), the Cholesky factor of the covariance, in place of it: lower triangular,
            its diagonal > 0. To learn a covariance make this an ``nn.Parameter``; numbers above the
            diagonal are not read and get no gradient.

    Raises:
        TypeError: an argument that is neither a number nor a tensor.
        ValueError: numbers outside these ranges, tensors of more dimensions or of different
            lengths; two of std, covariance and scale_tril given; a covariance that is an
            ``nn.Parameter``, not square, not symmetric, singular or not positive definite; a
            scale_tril that is not square or has a diagonal that is not positive.

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

    mean: Tensor
    std: Tensor
    scale_tril: Tensor

    def __init__(
        self,
        mean: float | Tensor = 0.0,
        std: float | Tensor | None = None,
        covariance: Tensor | None = None,
        *,
        scale_tril: Tensor | None = None,
    ) -> None:
        super().__init__()
        given = {"std": std, "covariance": covariance, "scale_tril": scale_tril}
        names = [name for name, value in given.items() if value is not None]
        if len(names) > 1:
            raise ValueError(f"Gaussian: give {names[0]} or {names[1]}, not both")
        if covariance is not None or scale_tril is not None:
            self._set_factor(
                mean, _factor_of(covariance) if covariance is not None else _checked_factor(scale_tril)
            )
            return
        self._register("mean", mean, dims=1, like=std)
        self._register("std", 1.0 if std is None else std, positive, "be > 0 and finite", dims=1, like=mean)
        sizes = {name: value.shape[0] for name, value in self._own() if value.dim()}
        if len(set(sizes.values())) > 1:
            raise ValueError(
                f"Gaussian: mean and std must have the same length, got {sizes['mean']} and {sizes['std']}"
            )
        for name, size in sizes.items():
            if size == 0:
                raise ValueError(f"Gaussian: {name} must have one element or more, got shape (0,)")
        self.dim = next(iter(sizes.values()), None)
        self.kind = "harmonic" if self.dim is None else "gaussian"

    def _set_factor(self, mean: float | Tensor, factor: Tensor) -> None:
        self.dim, self.kind = factor.shape[0], "gaussian_full"
        if isinstance(mean, Tensor):
            check_tensor("Gaussian", "mean", mean)
        if isinstance(mean, Tensor) and (mean.dim() > 1 or mean.numel() not in (1, self.dim)):
            raise ValueError(
                f"Gaussian: mean must be a number or a tensor ({self.dim},), got shape {tuple(mean.shape)}"
            )
        self._register("mean", mean, dims=1, like=factor)
        if not traced(self.mean):
            self.register_buffer("mean", self.get_buffer("mean").expand(self.dim).clone())
        self._check_values("scale_tril", factor)
        self._hold("scale_tril", factor)

    @property
    def covariance(self) -> Tensor:
        """The covariance (D, D) of a target that was made with one."""
        factor = self.scale_tril.tril()
        return torch.mm(factor, factor.T)

    def energy(self, x: Tensor) -> Tensor:
        if self.kind != "gaussian_full":
            return super().energy(x)
        work, _ = self._work(x)
        far = (work.double() - self._wide("mean")).T
        white: Tensor = torch.linalg.solve_triangular(self._wide("scale_tril").tril(), far, upper=False)
        return white.square().sum(0).mul(0.5).to(work.dtype)

    def log_prob(self, x: Tensor) -> Tensor:
        work, parameter = self._work(x)
        if self.kind == "gaussian_full":
            log_std = parameter("scale_tril").diagonal().log().sum()
        else:
            log_std = parameter("std").log().expand(work.shape[1]).sum()
        return -self.energy(x) - (log_std + 0.5 * math.log(2 * math.pi) * work.shape[1])

    def sample(
        self,
        n: int | Sequence[int],
        noise: Noise,
        *,
        dtype: torch.dtype = torch.float32,
        backend: str | None = None,
    ) -> Tensor:
        z, parameter, finish = self._normals(n, noise, dtype, backend)
        if self.kind == "gaussian_full":
            # The score's kernel computes matrix (mean - x). With mean 0 and x = -z it gives
            # factor z, whose bits, unlike those of torch's product, don't depend on the batch.
            factor = parameter("scale_tril").tril()
            out, packed = torch.empty_like(z), torch.cat((z.new_zeros(z.shape[1]), padded(factor)))
            _ops.kernels(backend, z)["target_score"](out, -z, self._index, packed.detach())
            if wanted(factor):
                far = z @ factor.T
                out = out + (far - far.detach())  # the kernel's bits, with a derivative
            return finish(parameter("mean") + out)
        return finish(parameter("mean") + parameter("std") * z)

    def _numbers(self) -> Tensor:
        mean = self._wide("mean")
        if self.kind == "gaussian_full":
            return torch.cat((mean.expand(self.dim or 0), padded(_inverse(self._wide("scale_tril").tril()))))
        precision = self._wide("std") ** -2
        if self.dim is None:
            return torch.stack((precision, mean))
        return torch.cat((mean.expand(self.dim), precision.expand(self.dim)))


def _factor_of(covariance: Tensor) -> Tensor:
    """The Cholesky factor of a covariance, in float64."""
    check_tensor("Gaussian", "covariance", covariance)
    if isinstance(covariance, nn.Parameter):
        raise ValueError(
            "Gaussian: covariance must not be a Parameter, since a step of an optimiser can leave the"
            " positive definite matrices; give scale_tril=nn.Parameter(torch.linalg.cholesky(covariance))"
        )
    _check_square("covariance", covariance)
    wide = covariance.double()
    if covariance.is_meta:
        return torch.empty_like(wide)
    if not wide.isfinite().all():
        raise ValueError(f"Gaussian: covariance must be finite, got {wide[~wide.isfinite()][0].item():g}")
    uneven = (wide - wide.T).abs().max().item()
    if uneven > 1e-5 * wide.abs().max().item():
        raise ValueError(
            f"Gaussian: covariance must be symmetric, got entries {uneven:g} apart from their mirror images"
        )
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex((wide + wide.T) / 2)
    diagonal = factor.diagonal()
    resolution = torch.finfo(covariance.dtype if covariance.is_floating_point() else torch.float64).eps
    # A diagonal number of the factor within rounding of 0 means a direction without variance, even
    # if the decomposition did not fail.
    if failed or (diagonal.square() <= resolution * wide.diagonal()).any():
        at = int(failed) if failed else int((diagonal.square() / wide.diagonal()).argmin()) + 1
        raise ValueError(
            f"Gaussian: covariance must be positive definite, got one whose leading {at} x {at} block is"
            " singular or indefinite"
        )
    return factor


def _checked_factor(factor: Tensor | None) -> Tensor:
    check_tensor("Gaussian", "scale_tril", factor)
    assert factor is not None
    if not factor.is_floating_point():
        raise TypeError(f"Gaussian: scale_tril must be a floating-point tensor, got {factor.dtype}")
    _check_square("scale_tril", factor)
    if not factor.is_meta and not (factor.diagonal() > 0).all():
        raise ValueError(
            f"Gaussian: scale_tril must have a diagonal > 0, got {factor.diagonal().min().item():g} in it"
        )
    return factor


def _check_square(name: str, matrix: Tensor) -> None:
    shape = tuple(matrix.shape)
    if len(shape) != 2 or shape[0] != shape[1] or not matrix.numel():
        raise ValueError(f"Gaussian: {name} must be (D, D) with D >= 1, got {shape}")


def _inverse(factor: Tensor) -> Tensor:
    """``(factor factor^T)^-1``. The forward-mode derivative of torch's own inverse is wrong (torch
    2.13), so derivatives are those of a solve."""
    if not wanted(factor):
        return torch.cholesky_inverse(factor)
    root = torch.linalg.solve_triangular(
        factor, torch.eye(len(factor), dtype=factor.dtype, device=factor.device), upper=False
    )
    return exactly(lambda: torch.cholesky_inverse(factor.detach()), root.T @ root)
