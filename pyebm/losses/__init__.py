"""Objectives for scores and energies: denoising, score matching in its exact and sliced forms, and
contrastive divergence.

docs/training.md says which one to use when. Some of the functions have a module too, as
``mse_loss`` has ``nn.MSELoss``.
"""

from .contrastive import ContrastiveDivergence, contrastive_divergence
from .denoising import DenoisingLoss, DSMLoss, denoising_loss, dsm_loss
from .denoising_score_matching import (
    DenoisingScoreMatchingLoss,
    LogNormal,
    LogUniform,
    denoising_score_matching,
)
from .fisher_divergence import FisherDivergenceLoss, fisher_divergence
from .replay import Drawn, ReplayBuffer
from .score_matching import (
    ScoreMatchingLoss,
    SlicedScoreMatchingLoss,
    score_matching,
    sliced_score_matching,
)

__all__ = [
    "ContrastiveDivergence",
    "DSMLoss",
    "DenoisingLoss",
    "DenoisingScoreMatchingLoss",
    "Drawn",
    "FisherDivergenceLoss",
    "LogNormal",
    "LogUniform",
    "ReplayBuffer",
    "ScoreMatchingLoss",
    "SlicedScoreMatchingLoss",
    "contrastive_divergence",
    "denoising_loss",
    "denoising_score_matching",
    "dsm_loss",
    "fisher_divergence",
    "score_matching",
    "sliced_score_matching",
]
