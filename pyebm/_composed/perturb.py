"""The perturbation, from normals that the caller has."""

from __future__ import annotations

from torch import Tensor

from .coefficients import column, require, require_finite, work_of


def perturbed(
    x: Tensor, z: Tensor, alpha: float, sigma: float, alpha_rows: Tensor | None, sigma_rows: Tensor | None
) -> Tensor:
    """alpha x + sigma z; both products and the sum are rounded on their own. Differentiable."""
    work = work_of(x)
    a, c = column(alpha, alpha_rows, x), column(sigma, sigma_rows, x)
    require_finite("perturb", alpha=alpha_rows)
    require("perturb", "sigma", c, positive=False)
    return a.to(work.dtype) * work + c.to(work.dtype) * z.to(work.dtype)


def check_known(
    op: str, n_steps: int, known: Tensor | None, marginals: Tensor | None, mask: Tensor | None
) -> None:
    """The check of a chain's known elements, which are perturbed data, that no record makes."""
    if known is None:
        return
    if mask is None:
        raise ValueError(f"{op}: known needs a mask that says which elements are not")
    if marginals is None or marginals.shape != (n_steps, 2):
        got = None if marginals is None else tuple(marginals.shape)
        raise ValueError(f"{op}: marginals must have a row of 2 for each of {n_steps} steps, got {got}")
