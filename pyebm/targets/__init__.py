"""Closed-form energies, each with its score, for tests, toy problems and chains that run inside one kernel.

Conventions (docs/targets.md): ``p(x) = exp(-energy(x)) / Z``; the score is ``grad log p = -grad energy``; a call gives the energy.
"""

from ._target import Target
from .wells import DoubleWell, Harmonic

__all__ = ["DoubleWell", "Harmonic", "Target"]
