"""Samplers around a score or an energy: loops that do nothing but call the kernels.
docs/samplers.md says which one to use when.

All are called in the same way,
``sampler(x0, n_steps, noise=..., thin=..., callback=..., progress=..., graph=...)``, and resume in
the same way.
"""

from ._loop import Sampler
from ._state import State, Trajectory
from .annealed import AnnealedLangevin
from .hmc import HMC
from .langevin import Langevin
from .mala import MALA
from .predictor_corrector import PredictorCorrector
from .sde import SDE, VE, VP, SubVP
from .underdamped import UnderdampedLangevin

__all__ = [
    "HMC",
    "MALA",
    "SDE",
    "VE",
    "VP",
    "AnnealedLangevin",
    "Langevin",
    "PredictorCorrector",
    "Sampler",
    "State",
    "SubVP",
    "Trajectory",
    "UnderdampedLangevin",
]
