"""Closed-form energies, each with its score, for tests, toy problems and chains that run inside one kernel.

Conventions (docs/targets.md): ``p(x) = exp(-energy(x)) / Z``; the score is ``grad log p = -grad energy``; a call gives the energy.
"""

from ._target import Target
from .funnel import Funnel
from .gaussian import Gaussian
from .landscapes import Ackley, Rastrigin, Rosenbrock
from .mixture import GaussianMixture
from .wells import DoubleWell, Harmonic, Polynomial

__all__ = [
    "Ackley",
    "DoubleWell",
    "Funnel",
    "Gaussian",
    "GaussianMixture",
    "Harmonic",
    "Polynomial",
    "Rastrigin",
    "Rosenbrock",
    "Target",
]
