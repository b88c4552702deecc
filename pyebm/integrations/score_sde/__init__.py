"""For repositories built like score_sde (Song et al. 2021): loss functions, predictors and
correctors for their SDE objects.

::

    losses.get_sde_loss_fn = pyebm.integrations.score_sde.get_sde_loss_fn  # or the import itself
    sampling._PREDICTORS.update(pyebm.integrations.score_sde.predictors(pyebm.Noise(0)))
    sampling._CORRECTORS.update(pyebm.integrations.score_sde.correctors(pyebm.Noise(0)))

An SDE is any object with their methods and attributes: ``T``, ``N``, ``sde(x, t)``,
``marginal_prob(x, t)``, ``discretize(x, t)``, and a drift that is linear in x. One with
``discrete_sigmas`` is variance exploding, one with ``discrete_betas`` variance preserving, others
are sub-VP. Written from the published formulas. ``noise`` is everywhere a :class:`pyebm.Noise`
(draw k is its step + k), a function like ``torch.randn_like`` (then the run has the bits it had),
or None, where torch.manual_seed governs it.
"""

from .bases import Corrector, NoneCorrector, NonePredictor, Predictor
from .flows import get_likelihood_fn, get_ode_sampler
from .losses import get_ddpm_loss_fn, get_sde_loss_fn, get_smld_loss_fn
from .pc import get_pc_colorizer, get_pc_inpainter, get_pc_sampler
from .sampling import (
    AncestralSamplingPredictor,
    AnnealedLangevinDynamics,
    EulerMaruyamaPredictor,
    LangevinCorrector,
    ReverseDiffusionPredictor,
    correctors,
    predictors,
)

__all__ = [
    "AncestralSamplingPredictor",
    "AnnealedLangevinDynamics",
    "Corrector",
    "EulerMaruyamaPredictor",
    "LangevinCorrector",
    "NoneCorrector",
    "NonePredictor",
    "Predictor",
    "ReverseDiffusionPredictor",
    "correctors",
    "get_ddpm_loss_fn",
    "get_likelihood_fn",
    "get_ode_sampler",
    "get_pc_colorizer",
    "get_pc_inpainter",
    "get_pc_sampler",
    "get_sde_loss_fn",
    "get_smld_loss_fn",
    "predictors",
]
