"""Neal's funnel: scales that differ by orders of magnitude within one density."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..noise import Noise
from ._parameters import positive
from ._target import Target


class Funnel(Target):
    """The first element v is normal with deviation ``std``; given v, the others are normal with
    variance e^v (Neal 2003).

    ``energy(x) = v^2 / (2 std^2) + (D - 1) v / 2 + e^-v sum_{i > 1} x_i^2 / 2``, x of D >= 2
    elements.

    Args:
        std: the standard deviation of v, > 0.

    Raises ValueError for numbers outside these ranges, TypeError for arguments that are no numbers.

    Example:
        >>> import pyebm
        >>> x = pyebm.targets.Funnel().sample((10_000, 10), pyebm.Noise(0))
        >>> bool((x[:, 0].std() - 3).abs() < 0.1)
        True
    """

    kind = "funnel"

    def __init__(self, std: float = 3.0) -> None:
        super().__init__()
        self._register("std", std, positive, "be > 0 and finite")

    def log_prob(self, x: Tensor) -> Tensor:
        work, parameter = self._work(x)
        return -self.energy(x) - (parameter("std").log() + 0.5 * math.log(2 * math.pi) * work.shape[1])

    def sample(
        self,
        n: int | Sequence[int],
        noise: Noise,
        *,
        dtype: torch.dtype = torch.float32,
        backend: str | None = None,
    ) -> Tensor:
        z, parameter, finish = self._normals(n, noise, dtype, backend)
        v = parameter("std") * z[:, :1]
        return finish(torch.cat((v, (0.5 * v).exp() * z[:, 1:]), 1))

    def _numbers(self) -> Tensor:
        return (self._wide("std") ** -2).reshape(1)
