"""pyebm: fused kernels for score-based and energy-based models.

The library computes the denoising-score-matching loss and the Langevin update. Their noise is a
pure function of (seed, sample, element, step, stream): it is never stored, and it has the same bits
on every backend. Start at :class:`pyebm.Noise`.
"""

from . import diagnostics, distributed, losses, reference, samplers, targets
from ._ops import backends
from ._version import __version__
from ._versions import show_versions
from .chain import langevin_chain
from .counter import NoiseCounter
from .energy import energy_score
from .langevin import affine_step, langevin_step, langevin_step_
from .losses import (
    ReplayBuffer,
    contrastive_divergence,
    denoising_loss,
    denoising_score_matching,
    dsm_loss,
    fisher_divergence,
    score_matching,
    sliced_score_matching,
)
from .noise import Noise
from .perturb import perturb

__all__ = [
    "Noise",
    "NoiseCounter",
    "ReplayBuffer",
    "__version__",
    "affine_step",
    "backends",
    "contrastive_divergence",
    "denoising_loss",
    "denoising_score_matching",
    "diagnostics",
    "distributed",
    "dsm_loss",
    "energy_score",
    "fisher_divergence",
    "langevin_chain",
    "langevin_step",
    "langevin_step_",
    "losses",
    "perturb",
    "reference",
    "samplers",
    "score_matching",
    "show_versions",
    "sliced_score_matching",
    "targets",
]
