"""Drop-in pieces for the codebases people already have; each module imports its package,
`import pyebm` imports none.

==============  =========================================================
=========================================== module          for
                  needs ==============  =========================================================
                  ===========================================
``diffusers``   add_noise and the training loss; two schedulers            diffusers
``k_diffusion`` a Denoiser, a noise_sampler                                k-diffusion
``torchebm``    an integrator for LangevinDynamics, a loss                 torchebm
``ebmkit``      a LangevinDynamics                                         ebmkit
``ncsnv2``      the loss and samplers of that repository                   nothing: its shapes, not
its code ``score_sde``   loss functions, predictors and correctors                  nothing
``edm``         EDMLoss, and the sampler's random generator                nothing
==============  =========================================================
===========================================

docs/integrations.md shows the change at each call site, and what it brings.
"""
