"""The perturbation."""

from __future__ import annotations

from torch import Tensor

from .._composed import perturbed
from .noise import normals


def perturb(
    out: Tensor,
    x: Tensor,
    alpha: float,
    sigma: float,
    name: Tensor,
    alpha_rows: Tensor | None = None,
    sigma_rows: Tensor | None = None,
    seeds: Tensor | None = None,
    ids: Tensor | None = None,
) -> None:
    out.copy_(perturbed(x, normals(x.shape, name, seeds, ids), alpha, sigma, alpha_rows, sigma_rows))
