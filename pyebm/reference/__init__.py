"""The plainest code that is right: every op of :mod:`pyebm._ops` in pure PyTorch, in the order of
operations that the noise contract (docs/noise.md) promises, on any device. The tests compare the
kernels with it by ``torch.equal``; nothing else calls it.

The ops have the signatures of the compiled ones and write into the tensors they are given. Philox
and the normals are here; the rest of the arithmetic is in :mod:`pyebm._composed`, where autograd
needs it too. ``backend="reference"`` on any public call runs the ops.
"""

from __future__ import annotations

from collections.abc import Callable

from .._composed import (
    ENERGIES,
    SCORES,
    UPDATES,
    affine_update,
    batch_sum,
    column,
    composed_loss,
    divisor,
    langevin_update,
    loss_terms,
    losses_of,
    network_score_of,
    perturbed,
    residual,
    score_of,
    spread,
    work_of,
)
from .chain import langevin_chain
from .composed import OPS as _COMPOSED
from .langevin import affine_step, langevin_step, predicted_step
from .losses import denoising_grad, denoising_loss, scale_
from .metropolis_chain import metropolis_chain
from .network import network_chain, network_hvp, network_laplacian, network_score
from .network_gradient import network_grad, network_loss
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
from .perturb import perturb
from .predictor_corrector import predictor_corrector
from .targets import target_energy, target_score
from .underdamped_chain import underdamped_chain

OPS: dict[str, Callable[..., None]] = _COMPOSED | {
    op.__name__: op
    for op in (
        *(normal_, uniform_, perturb, langevin_step, affine_step, predicted_step),
        *(denoising_loss, denoising_grad, scale_, target_score, target_energy, langevin_chain),
        *(network_score, network_hvp, network_laplacian, network_grad, network_loss, network_chain),
        *(metropolis_chain, underdamped_chain, predictor_corrector),
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
    "affine_update",
    "batch_sum",
    "box_muller",
    "column",
    "composed_loss",
    "divisor",
    "langevin_update",
    "loss_terms",
    "losses_of",
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
