"""For torchebm: its samplers, integrators and losses that draw, with noise that has a name.

``from pyebm.integrations.torchebm import LangevinDynamics`` in place of torchebm's own, and
``noise=pyebm.Noise(0)`` among its arguments.
"""

from ._torchebm_integrators import BackwardEulerMaruyamaIntegrator, EulerMaruyamaIntegrator
from ._torchebm_losses import (
    ContrastiveDivergence,
    EnergyMatchingLoss,
    EquilibriumMatchingLoss,
    FlowMatchingLoss,
    PersistentContrastiveDivergence,
)
from ._torchebm_matching import DenoisingScoreMatching, ScoreMatching, SlicedScoreMatching
from ._torchebm_samplers import (
    FlowSampler,
    HamiltonianMonteCarlo,
    LangevinDynamics,
    RiemannianManifoldHMC,
)

__all__ = [
    "BackwardEulerMaruyamaIntegrator",
    "ContrastiveDivergence",
    "DenoisingScoreMatching",
    "EnergyMatchingLoss",
    "EquilibriumMatchingLoss",
    "EulerMaruyamaIntegrator",
    "FlowMatchingLoss",
    "FlowSampler",
    "HamiltonianMonteCarlo",
    "LangevinDynamics",
    "PersistentContrastiveDivergence",
    "RiemannianManifoldHMC",
    "ScoreMatching",
    "SlicedScoreMatching",
]
