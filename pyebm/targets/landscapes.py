"""Test functions of optimisation as energies: one with a curved valley, and two that are full of
local minima."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..noise import Noise
from ._parameters import positive
from ._target import Target

_ONE = "be > 0 and finite"


class Rosenbrock(Target):
    """``energy(x) = sum_{i < D} b (x_{i+1} - x_i^2)^2 + (a - x_i)^2``: a curved valley, x of D >= 2
    elements.

    With D = 2, :meth:`log_prob` and :meth:`sample` exist: x_1 is normal around a with variance 1/2,
    and x_2 around x_1^2 with variance 1 / (2 b).

    Args:
        a: the place of the minimum, x = (a, a^2, ...) for a in {0, 1}.
        b: how narrow the valley is, > 0.

    Raises ValueError for numbers outside these ranges, TypeError for arguments that are no numbers.

    Example:
        >>> import torch, pyebm
        >>> pyebm.targets.Rosenbrock()(torch.tensor([[1.0, 1.0], [0.0, 1.0]]))
        tensor([  0., 101.])
    """

    kind = "rosenbrock"

    def __init__(self, a: float = 1.0, b: float = 100.0) -> None:
        super().__init__()
        self._register("a", a, like=b)
        self._register("b", b, positive, _ONE, like=a)

    def log_prob(self, x: Tensor) -> Tensor:
        work, parameter = self._work(x)
        if work.shape[1] != 2:
            raise NotImplementedError(
                f"Rosenbrock: log_prob is known for samples of 2 elements only, got {work.shape[1]}"
            )
        return -self.energy(x) - (math.log(math.pi) - 0.5 * parameter("b").log())

    def sample(
        self,
        n: int | Sequence[int],
        noise: Noise,
        *,
        dtype: torch.dtype = torch.float32,
        backend: str | None = None,
    ) -> Tensor:
        z, parameter, finish = self._normals((n, 2) if isinstance(n, int) else n, noise, dtype, backend)
        if z.shape[1] != 2:
            raise NotImplementedError(
                f"Rosenbrock: sampling is known for samples of 2 elements only, got {z.shape[1]}"
            )
        first = parameter("a") + math.sqrt(0.5) * z[:, 0]
        return finish(torch.stack((first, first.square() + z[:, 1] / (2 * parameter("b")).sqrt()), 1))

    def _numbers(self) -> Tensor:
        a, b = self._wide("a"), self._wide("b")
        return torch.stack((a, 2 * b, 4 * b))


class Rastrigin(Target):
    """``energy(x) = sum_i x_i^2 + A (1 - cos(2 pi x_i))``: a bowl with a local minimum near every
    integer point, any (B, ...).

    Args:
        amplitude: A > 0.

    Raises ValueError for numbers outside these ranges, TypeError for arguments that are no numbers.

    Example:
        >>> import torch, pyebm
        >>> pyebm.targets.Rastrigin()(torch.tensor([[0.0, 0.0], [1.0, 2.0]]))
        tensor([0., 5.])
    """

    kind = "rastrigin"

    def __init__(self, amplitude: float = 10.0) -> None:
        super().__init__()
        self._register("amplitude", amplitude, positive, _ONE)

    def log_prob(self, x: Tensor) -> Tensor:
        """Z per element is sqrt(pi) e^-A sum_k I_k(A) exp(-pi^2 k^2). Terms beyond k = 1 are lost
        in float64's rounding."""
        work, parameter = self._work(x)
        a = parameter("amplitude")
        one = math.sqrt(math.pi) * (torch.special.i0e(a) + 2 * math.exp(-(math.pi**2)) * torch.special.i1e(a))
        return -self.energy(x) - work.shape[1] * torch.log(one)

    def _numbers(self) -> Tensor:
        return (2 * math.pi * self._wide("amplitude")).reshape(1)


class Ackley(Target):
    """``energy(x) = A (1 - exp(-b sqrt(mean x_i^2))) + e - exp(mean cos(c x_i))``: a funnel full of
    local minima, any (B, ...).

    It is flat far away from its minimum 0 at the origin, so exp(-energy) has no finite integral:
    chains need a clamp. At the origin, a cusp, the score is 0.

    Args:
        a, b, c: A, b, c > 0.

    Raises ValueError for numbers outside these ranges, TypeError for arguments that are no numbers.

    Example:
        >>> import torch, pyebm
        >>> pyebm.targets.Ackley()(torch.zeros(1, 3)).abs() < 1e-5
        tensor([True])
    """

    kind = "ackley"

    def __init__(self, a: float = 20.0, b: float = 0.2, c: float = 2 * math.pi) -> None:
        super().__init__()
        given = next((value for value in (a, b, c) if isinstance(value, Tensor)), None)
        for name, value in (("a", a), ("b", b), ("c", c)):
            self._register(name, value, positive, _ONE, like=given)

    def _numbers(self) -> Tensor:
        a, b, c = (self._wide(name) for name in ("a", "b", "c"))
        return torch.stack((a * b, b, c / (2 * math.pi), c))
