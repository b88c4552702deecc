"""The diffusions of score-based generative models (Song et al. 2021), and the coefficients of their
reverse steps.

The coefficients depend on the step alone, so they are computed on the host, in float64, before a
run begins.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from .._checks import checked_number
from ._repr import shown


class Coefficients(NamedTuple):
    """``x <- a x + b score + c z``."""

    a: float
    b: float
    c: float


class SDE:
    """A forward diffusion ``dx = f(t) x dt + g(t) dw`` on [0, 1], from data at 0 to (nearly) pure
    noise at 1.

    Subclasses define f, g and the law of x_t given x_0, ``alpha(t) x_0 + sigma(t) z``. If the
    literature has one, they also define the discrete chain of n steps whose continuous limit they
    are.

    Raises NotImplementedError from a function that the subclass lacks.

    Example:
        >>> import pyebm
        >>> class Still(pyebm.samplers.SDE):
        ...     def alpha(self, t):
        ...         return 1.0
        >>> Still().alpha(0.5), isinstance(pyebm.samplers.VE(), pyebm.samplers.SDE)
        (1.0, True)
    """

    def __repr__(self) -> str:
        return shown(self)

    eps: float = 1e-3
    """Sampling ends at this time: below it the score is steep and the data are all but reached."""

    def f(self, t: float) -> float:
        raise NotImplementedError

    def g(self, t: float) -> float:
        raise NotImplementedError

    def alpha(self, t: float) -> float:
        raise NotImplementedError

    def sigma(self, t: float) -> float:
        raise NotImplementedError

    @property
    def prior_std(self) -> float:
        """The standard deviation of the noise that sampling starts from."""
        return 1.0

    def corrector_alpha(self, t: float, n: int) -> float:
        """The factor alpha in the Langevin corrector's step size."""
        del t, n
        return 1.0

    def discretize(self, t: float, n: int) -> tuple[float, float]:
        """(F, G) of the forward chain ``x <- (1 + F) x + G z`` at t, n steps in all; by default
        Euler and Maruyama's."""
        return self.f(t) / n, self.g(t) / math.sqrt(n)

    def reverse_diffusion(self, t: float, n: int, flow: bool) -> Coefficients:
        """Song et al. (2021), algorithm 2: the forward chain's own step, reversed."""
        f, g = self.discretize(t, n)
        return Coefficients(1.0 - f, g * g * (0.5 if flow else 1.0), 0.0 if flow else g)

    def euler_maruyama(self, t: float, n: int, flow: bool) -> Coefficients:
        """``x - (f x - g^2 s) dt + g sqrt(dt) z`` with dt = 1 / n; with ``flow`` the
        probability-flow ODE by Euler."""
        f, g = self.f(t), self.g(t)
        return Coefficients(
            1.0 - f / n, g * g / n * (0.5 if flow else 1.0), 0.0 if flow else g / math.sqrt(n)
        )

    def ancestral(self, t: float, n: int) -> Coefficients:
        """The chain's exact reverse for a Gaussian, where the literature has one."""
        del t, n
        raise ValueError(
            f"PredictorCorrector: ancestral sampling is not defined for {type(self).__name__}; it is for VE"
            " and VP"
        )


def _index(t: float, n: int) -> int:
    """The discrete chain's step at time t. Times lie a little above their grid point, so truncation
    gives the right step."""
    return min(int(t * (n - 1) + 1e-9), n - 1)


def _range(name: str, low: float, high: float, low_name: str, high_name: str) -> tuple[float, float]:
    low, high = (
        checked_number(name, low_name, low, 0.0, open_low=True),
        checked_number(name, high_name, high, 0.0, open_low=True),
    )
    if not low <= high:
        raise ValueError(
            f"{name}: {low_name} and {high_name} must be 0 < min <= max and finite, got {low} and {high}"
        )
    return low, high


class VE(SDE):
    """Variance exploding: ``sigma(t) = sigma_min (sigma_max / sigma_min)^t``, alpha = 1; the limit
    of SMLD's noise ladder.

    Raises TypeError and ValueError for arguments that are no numbers, or not 0 < min <= max.

    Example:
        >>> import pyebm
        >>> round(pyebm.samplers.VE(sigma_min=0.01, sigma_max=50.0).sigma(0.5), 6)
        0.707107
    """

    sigma_min: float
    sigma_max: float

    eps: float = 1e-5

    def __init__(self, sigma_min: float = 0.01, sigma_max: float = 50.0) -> None:
        self.sigma_min, self.sigma_max = _range("VE", sigma_min, sigma_max, "sigma_min", "sigma_max")

    def f(self, t: float) -> float:
        del t
        return 0.0

    def g(self, t: float) -> float:
        return self.sigma(t) * math.sqrt(2 * math.log(self.sigma_max / self.sigma_min))

    def alpha(self, t: float) -> float:
        del t
        return 1.0

    def sigma(self, t: float) -> float:
        return self.sigma_min * math.pow(self.sigma_max / self.sigma_min, t)

    @property
    def prior_std(self) -> float:
        return self.sigma_max

    def _levels(self, t: float, n: int) -> tuple[float, float]:
        """The ladder's level at t and the next lower one, which is 0 below the lowest level."""
        i, ratio = _index(t, n), math.log(self.sigma_max / self.sigma_min) / max(n - 1, 1)
        return self.sigma_min * math.exp(i * ratio), self.sigma_min * math.exp((i - 1) * ratio) if i else 0.0

    def discretize(self, t: float, n: int) -> tuple[float, float]:
        sigma, below = self._levels(t, n)
        return 0.0, math.sqrt(sigma * sigma - below * below)

    def ancestral(self, t: float, n: int) -> Coefficients:
        sigma, below = self._levels(t, n)
        step = sigma * sigma - below * below
        return Coefficients(1.0, step, math.sqrt(below * below * step) / sigma)


class VP(SDE):
    """Variance preserving: ``beta(t) = beta_min + t (beta_max - beta_min)``; the limit of DDPM's
    chain.

    Raises TypeError and ValueError for arguments that are no numbers, or not 0 < min <= max.

    Example:
        >>> import pyebm
        >>> sde = pyebm.samplers.VP(beta_min=0.1, beta_max=20.0)
        >>> round(sde.alpha(0.5) ** 2 + sde.sigma(0.5) ** 2, 6)
        1.0
    """

    beta_min: float
    beta_max: float

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0) -> None:
        self.beta_min, self.beta_max = _range(type(self).__name__, beta_min, beta_max, "beta_min", "beta_max")

    def _beta(self, t: float) -> float:
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def _integral(self, t: float) -> float:
        """The integral of beta from 0 to t."""
        return self.beta_min * t + 0.5 * t * t * (self.beta_max - self.beta_min)

    def _beta_of_step(self, t: float, n: int) -> float:
        beta = self._beta(_index(t, n) / max(n - 1, 1)) / n
        if not beta < 1:
            raise ValueError(
                f"PredictorCorrector: {type(self).__name__} needs n > beta_max = {self.beta_max:g}, got {n}"
            )
        return beta

    def f(self, t: float) -> float:
        return -0.5 * self._beta(t)

    def g(self, t: float) -> float:
        return math.sqrt(self._beta(t))

    def alpha(self, t: float) -> float:
        return math.exp(-0.5 * self._integral(t))

    def sigma(self, t: float) -> float:
        return math.sqrt(-math.expm1(-self._integral(t)))

    def corrector_alpha(self, t: float, n: int) -> float:
        return 1.0 - self._beta_of_step(t, n)

    def discretize(self, t: float, n: int) -> tuple[float, float]:
        beta = self._beta_of_step(t, n)
        return math.sqrt(1.0 - beta) - 1.0, math.sqrt(beta)

    def ancestral(self, t: float, n: int) -> Coefficients:
        beta = self._beta_of_step(t, n)
        scale = 1.0 / math.sqrt(1.0 - beta)
        return Coefficients(scale, scale * beta, math.sqrt(beta))


class SubVP(VP):
    """Sub-variance preserving (Song et al. 2021, eq. 13): VP's mean, and the square of its
    variance.

    Raises as :class:`VP`.

    Example:
        >>> import pyebm
        >>> sde, vp = pyebm.samplers.SubVP(), pyebm.samplers.VP()
        >>> round(sde.sigma(0.3) - vp.sigma(0.3) ** 2, 6), sde.alpha(0.3) == vp.alpha(0.3)
        (0.0, True)
    """

    def g(self, t: float) -> float:
        return math.sqrt(-self._beta(t) * math.expm1(-2 * self._integral(t)))

    def sigma(self, t: float) -> float:
        return -math.expm1(-self._integral(t))

    def discretize(self, t: float, n: int) -> tuple[float, float]:
        return SDE.discretize(self, t, n)

    def ancestral(self, t: float, n: int) -> Coefficients:
        return SDE.ancestral(self, t, n)
