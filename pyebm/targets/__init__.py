"""Energies with their scores, in closed form or learned, for chains that run inside one kernel.

Conventions (docs/targets.md): ``p(x) = exp(-energy(x)) / Z``; the score is
``grad log p = -grad energy``; a call gives the energy.
"""

from ._target import Target
from .blocks import InputSkip, Residual
from .funnel import Funnel
from .gaussian import Gaussian
from .landscapes import Ackley, Rastrigin, Rosenbrock
from .mixture import GaussianMixture
from .network import MLPEnergy, MLPScore
from .wells import DoubleWell, Harmonic, Polynomial

__all__ = [
    "Ackley",
    "DoubleWell",
    "Funnel",
    "Gaussian",
    "GaussianMixture",
    "Harmonic",
    "InputSkip",
    "MLPEnergy",
    "MLPScore",
    "Polynomial",
    "Rastrigin",
    "Residual",
    "Rosenbrock",
    "Target",
]
