"""Drop-in pieces for the codebases people already have. Each module imports its package;
`import pyebm` imports none of them.

===============  ===============================================  ===========
module           provides                                         needs
===============  ===============================================  ===========
``diffusers``    training losses; schedulers that draw noise      diffusers
``k_diffusion``  denoisers, noise_samplers, samplers with churn   k-diffusion
``torchebm``     an integrator, HMC, score matching losses        torchebm
``ebmkit``       its samplers                                     ebmkit
``brownian``     a Brownian path; k-diffusion's sampler over it   nothing
``ncsn``         the losses of that repository                    nothing
``ncsnv2``       the loss and samplers of that repository         nothing
``score_sde``    loss functions, predictors, correctors, samplers  nothing
``edm``          losses, samplers and their random generator      nothing
===============  ===============================================  ===========

``NamedDraws`` names the draws of any code, without a change to it.

The last four follow the interfaces of those repositories and use none of their code.
docs/integrations.md shows the change at each call site, and what it brings.
"""

from ._named_draws import NamedDraws

__all__ = ["NamedDraws"]
