"""Composed operations: the ops' arithmetic written with PyTorch's operations, for any device.

They run where a kernel can't. A derivative that no kernel makes is followed through them
(:mod:`pyebm._derivatives`), and the samplers' ops that :func:`around` makes take strides and
numbers on the device that no kernel takes. The references (:mod:`pyebm.reference`) are made of them
too. They draw no noise: they are given the normals, or the op that makes them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from .coefficients import column, work_of
from .corrector import corrector_step
from .langevin import UPDATES, affine_update, langevin_update
from .leapfrog import leapfrog
from .losses import batch_sum, composed_loss, divisor, loss_terms, residual, spread
from .metropolis import dual_averaging, metropolis
from .network import network_score_of
from .network_loss import losses_of
from .perturb import perturbed
from .targets import ENERGIES, SCORES, Torch, score_of

__all__ = [
    "ENERGIES",
    "SCORES",
    "UPDATES",
    "Torch",
    "affine_update",
    "around",
    "batch_sum",
    "column",
    "composed_loss",
    "divisor",
    "langevin_update",
    "loss_terms",
    "losses_of",
    "network_score_of",
    "perturbed",
    "residual",
    "score_of",
    "spread",
    "work_of",
]


def around(kernels: Mapping[str, Callable[..., None]]) -> dict[str, Callable[..., None]]:
    """The samplers' ops, by name, around a backend's kernels, which make their noise and their
    sums. Within a CUDA graph a sampler's step size and temperature may be tensors, which only these
    take; and they alone make Metropolis' test of samples that are not contiguous."""
    return {
        "corrector_step": functools.partial(corrector_step, kernels=kernels),
        "leapfrog": leapfrog,
        "metropolis": functools.partial(metropolis, kernels=kernels),
        "dual_averaging": dual_averaging,
    }
