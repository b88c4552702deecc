"""Normal distributions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..noise import Noise
from ._target import Target, positive


class Gaussian(Target):
    """``energy(x) = 1/2 sum_i ((x_i - mean_i) / std_i)^2``: independent normals, isotropic or diagonal.

    Args:
        mean: a number for all elements, or a tensor (D,).
        std: the standard deviation, > 0, likewise. Where both are numbers, x may have any shape (B, ...).

    Raises:
        TypeError: what is neither a number nor a tensor.
        ValueError: numbers outside these ranges, tensors of more than one dimension or of different lengths.

    Example:
        >>> import torch, pyebm
        >>> target = pyebm.targets.Gaussian(torch.tensor([0.0, 5.0]), std=2.0)
        >>> x = target.sample(10_000, pyebm.Noise(0))
        >>> x.mean(0).round().tolist(), x.std(0).round().tolist()
        ([0.0, 5.0], [2.0, 2.0])
    """

    def __init__(self, mean: float | Tensor = 0.0, std: float | Tensor = 1.0) -> None:
        super().__init__()
        self._register("mean", mean)
        self._register("std", std, positive, "be > 0 and finite")
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

    def energy(self, x: Tensor) -> Tensor:
        work, of = self._work(x)
        return 0.5 * ((work - of("mean")) / of("std")).square().sum(1)

    def log_prob(self, x: Tensor) -> Tensor:
        work, of = self._work(x)
        log_std = of("std").log().expand(work.shape[1]).sum()
        return -self.energy(x) - (log_std + 0.5 * math.log(2 * math.pi) * work.shape[1])

    def sample(
        self, n: int | Sequence[int], noise: Noise, *, dtype: torch.dtype = torch.float32, backend: str | None = None
    ) -> Tensor:
        z, of, made = self._normals(n, noise, dtype, backend)
        return made(of("mean") + of("std") * z)

    def _numbers(self) -> Tensor:
        mean, precision = self.get_buffer("mean").double(), self.get_buffer("std").double() ** -2
        if self.dim is None:
            return torch.stack((precision, mean))
        return torch.cat((mean.expand(self.dim), precision.expand(self.dim)))
