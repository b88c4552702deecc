"""The perturbation."""

from __future__ import annotations

from torch import Tensor

from .coefficients import column, require, require_finite, work_of
from .noise import normals


def perturbed(
    x: Tensor, z: Tensor, alpha: float, sigma: float, alpha_rows: Tensor | None, sigma_rows: Tensor | None
) -> Tensor:
    """alpha x + sigma z; both products and the sum are rounded on their own. Differentiable."""
    work = work_of(x)
    a, c = column(alpha, alpha_rows, x), column(sigma, sigma_rows, x)
    require_finite("perturb", alpha=alpha_rows)
    require("perturb", "sigma", c, positive=False)
    return a.to(work.dtype) * work + c.to(work.dtype) * z.to(work.dtype)


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
