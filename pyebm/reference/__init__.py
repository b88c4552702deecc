"""The plainest code that is right: every op of :mod:`pyebm._ops` in pure PyTorch, in the order of
operations that the noise contract (docs/noise.md) promises, on any device. The tests compare the
kernels with it by ``torch.equal``.

In each file the functions of arithmetic come first (Philox, normals, the update, the residual, the
scores), then the ops, which have the signatures of the compiled ones and write into the tensors
they are given. ``backend="reference"`` on any public call runs them.
"""

from __future__ import annotations

from collections.abc import Callable

from .chain import langevin_chain
from .coefficients import column, work_of
from .corrector import corrector_step
from .langevin import UPDATES, affine_step, affine_update, langevin_step, langevin_update
from .leapfrog import leapfrog
from .losses import (
    batch_sum,
    composed_loss,
    denoising_grad,
    denoising_loss,
    divisor,
    loss_terms,
    residual,
    scale_,
    spread,
)
from .metropolis import dual_averaging, metropolis
from .metropolis_chain import metropolis_chain
from .network import network_chain, network_hvp, network_laplacian, network_score, network_score_of
from .network_gradient import losses_of, network_grad, network_loss
from .noise import (
    COS,
    LOG,
    SIN,
    box_muller,
    normal_,
    normals,
    philox4x32_10,
    uniform,
    uniform_,
    uniforms,
    words,
)
from .perturb import perturb, perturbed
from .predictor_corrector import predictor_corrector
from .targets import ENERGIES, SCORES, Torch, score_of, target_energy, target_score
from .underdamped_chain import underdamped_chain

OPS: dict[str, Callable[..., None]] = {
    op.__name__: op
    for op in (
        *(normal_, uniform_, perturb, langevin_step, affine_step, corrector_step),
        *(denoising_loss, denoising_grad, scale_, target_score, target_energy, langevin_chain),
        *(
            leapfrog,
            metropolis,
            metropolis_chain,
            dual_averaging,
            network_score,
            network_hvp,
            network_laplacian,
        ),
        *(network_grad, network_loss, network_chain, underdamped_chain, predictor_corrector),
    )
}

__all__ = [
    "COS",
    "ENERGIES",
    "LOG",
    "OPS",
    "SCORES",
    "SIN",
    "UPDATES",
    "Torch",
    "affine_update",
    "batch_sum",
    "box_muller",
    "column",
    "composed_loss",
    "corrector_step",
    "divisor",
    "dual_averaging",
    "langevin_update",
    "leapfrog",
    "loss_terms",
    "losses_of",
    "metropolis",
    "metropolis_chain",
    "network_grad",
    "network_loss",
    "network_score_of",
    "normals",
    "perturbed",
    "philox4x32_10",
    "residual",
    "score_of",
    "spread",
    "uniform",
    "uniforms",
    "words",
    "work_of",
]
