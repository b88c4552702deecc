"""Independent wells: every element of a sample in the same one-dimensional potential."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .._checks import checked_list
from ..noise import Noise
from ._normaliser import double_well, polynomial
from ._parameters import positive
from ._target import Target


class Harmonic(Target):
    """``energy(x) = stiffness / 2 * sum_i (x_i - center)^2``: a normal with variance 1 / stiffness,
    of any shape (B, ...).

    Args:
        stiffness: > 0.
        center: the minimum, the same for all elements.

    Raises ValueError for numbers outside these ranges, TypeError for arguments that are no numbers.

    Example:
        >>> import torch, pyebm
        >>> pyebm.targets.Harmonic(stiffness=2.0)(torch.ones(1, 3))
        tensor([3.])
    """

    kind = "harmonic"

    def __init__(self, stiffness: float = 1.0, center: float = 0.0) -> None:
        super().__init__()
        self._register("stiffness", stiffness, positive, "be > 0 and finite", like=center)
        self._register("center", center, like=stiffness)

    def log_prob(self, x: Tensor) -> Tensor:
        work, parameter = self._work(x)
        return -self.energy(x) - 0.5 * (math.log(2 * math.pi) - parameter("stiffness").log()) * work.shape[1]

    def sample(
        self,
        n: int | Sequence[int],
        noise: Noise,
        *,
        dtype: torch.dtype = torch.float32,
        backend: str | None = None,
    ) -> Tensor:
        z, parameter, finish = self._normals(n, noise, dtype, backend)
        return finish(parameter("center") + z / parameter("stiffness").sqrt())

    def _numbers(self) -> Tensor:
        return torch.stack((self._wide("stiffness"), self._wide("center")))


class DoubleWell(Target):
    """``energy(x) = barrier * sum_i ((x_i / width)^2 - 1)^2``: minima at x_i = -width and width,
    with a barrier of height ``barrier`` between them.

    With width = 1 it is the double well of torchebm (its default barrier is 2 too). Any shape (B,
    ...).

    Args:
        barrier: the energy at x_i = 0, > 0.
        width: the distance of the minima from 0, > 0.

    Raises ValueError for numbers outside these ranges, TypeError for arguments that are no numbers.

    Example:
        >>> import torch, pyebm
        >>> pyebm.targets.DoubleWell(barrier=3.0)(torch.tensor([[0.0, 1.0], [1.0, -1.0]]))
        tensor([3., 0.])
    """

    kind = "double_well"

    def __init__(self, barrier: float = 2.0, width: float = 1.0) -> None:
        super().__init__()
        self._register("barrier", barrier, positive, "be > 0 and finite", like=width)
        self._register("width", width, positive, "be > 0 and finite", like=barrier)

    def log_prob(self, x: Tensor) -> Tensor:
        """The normaliser comes from a quadrature that is exact to float64's precision."""
        work, _ = self._work(x)
        one = self._wide("width").log() + double_well(self._wide("barrier"))
        return -self.energy(x) - (one * work.shape[1]).to(work.dtype)

    def _numbers(self) -> Tensor:
        """The score is x (a - b x^2)."""
        width = self._wide("width")
        square = width * width  # torch._inductor fails at a power of a constant
        linear = 4 * self._wide("barrier") / square
        return torch.stack((linear, linear / square))


class Polynomial(Target):
    """``energy(x) = sum_i sum_k c_k x_i^k``: every element has the same polynomial energy; any
    shape (B, ...).

    Args:
        coefficients: (c_0, ..., c_n), lowest power first; n even and >= 2, c_n > 0, so that
            exp(-energy) has an integral.

    Raises TypeError if coefficients is no list of numbers, ValueError for numbers that are not
    finite or a polynomial of another kind.

    Example:
        >>> import torch, pyebm
        >>> tilted = pyebm.targets.Polynomial([0.0, 0.3, -1.0, 0.0, 0.25])  # x^4/4 - x^2 + 0.3 x
        >>> torch.allclose(tilted(torch.ones(1, 1)), torch.tensor(-0.45))
        True
    """

    kind = "polynomial"
    coefficients: Tensor

    def __init__(self, coefficients: Sequence[float] | Tensor) -> None:
        super().__init__()
        if not isinstance(coefficients, Tensor):
            coefficients = torch.tensor(
                checked_list("Polynomial", "coefficients", coefficients),
                dtype=torch.float64,
                device=torch.get_default_device(),
            )
        self._register("coefficients", coefficients, dims=1)
        c = self.coefficients.detach()
        if c.dim() != 1 or c.shape[0] < 3 or c.shape[0] % 2 == 0 or not (c.is_meta or c[-1] > 0):
            raise ValueError(
                "Polynomial: coefficients must be (c_0, ..., c_n) with n even and >= 2 and c_n > 0, "
                f"got {tuple(c.shape) if c.is_meta or c.numel() >= 20 else c.tolist()}"
            )

    def energy(self, x: Tensor) -> Tensor:
        energy = super().energy(x)  # without c_0
        return energy + math.prod(x.shape[1:]) * self.coefficients[0]

    def log_prob(self, x: Tensor) -> Tensor:
        """The normaliser comes from a quadrature that is exact to float64's precision.

        Raises ValueError if the polynomial's numbers are outside float64's range.
        """
        work, _ = self._work(x)
        return -self.energy(x) - (polynomial(self._wide("coefficients")) * work.shape[1]).to(work.dtype)

    def _constant(self, elements: int) -> float:
        return elements * float(self.coefficients[0])

    def _numbers(self) -> Tensor:
        c = self._wide("coefficients")
        return -(c * torch.arange(c.shape[0], dtype=c.dtype, device=c.device))[1:]
