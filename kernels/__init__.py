"""The Triton kernels: every op of :mod:`pyebm._ops`, one file each, for CUDA tensors, and for CPU
tensors under TRITON_INTERPRET=1.

The operations have csrc/common's order, so the bits are those of every other backend. pyebm imports
this package on first use only.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

if __name__ != "pyebm.kernels":
    raise ImportError(f"these kernels are part of pyebm: import pyebm.kernels, not {__name__}")

import triton

from .chain import langevin_chain
from .corrector import corrector_step
from .langevin import affine_step, langevin_step
from .leapfrog import leapfrog
from .losses import denoising_grad, denoising_loss, scale_
from .metropolis import dual_averaging, metropolis
from .network import network_chain, network_score
from .network_hvp import network_hvp, network_laplacian
from .noise import normal_, uniform_
from .perturb import perturb
from .targets import target_energy, target_score

# The first and the last Triton that the tests have run with; docs/gpu-kernels.md says which tests.
TESTED = ((3, 6), (3, 9))


def _warn_where_untested(version: str) -> None:
    if not TESTED[0] <= tuple(int(part) for part in version.split(".")[:2]) <= TESTED[1]:
        first, last = (".".join(map(str, bound)) for bound in TESTED)
        warnings.warn(
            f"pyebm: Triton {version} is untested; tested are {first} to {last}", RuntimeWarning, stacklevel=2
        )


_warn_where_untested(triton.__version__)

OPS: dict[str, Callable[..., None]] = {
    op.__name__: op
    for op in (
        normal_,
        uniform_,
        perturb,
        langevin_step,
        affine_step,
        denoising_loss,
        denoising_grad,
        scale_,
        target_score,
        target_energy,
        langevin_chain,
        network_score,
        network_chain,
        network_hvp,
        network_laplacian,
        corrector_step,
        leapfrog,
        metropolis,
        dual_averaging,
    )
}
