"""HMC's kick and drift."""

from __future__ import annotations

import torch
from torch import Tensor

from .coefficients import column


def leapfrog(
    x: Tensor,
    p: Tensor,
    step_size: float,
    score: Tensor | None = None,
    from_x: Tensor | None = None,
    from_p: Tensor | None = None,
    step_size_rows: Tensor | None = None,
) -> None:
    """It never uses ``add_(alpha=step_size)``, which fuses product and sum for
    some elements, so that the bits would depend on an element's place."""
    rows = step_size_rows
    eps = (
        step_size
        if rows is None
        else column(step_size, rows, x).to(torch.promote_types(x.dtype, torch.float32))
    )
    if from_p is None:
        from_p = p
    if score is not None:
        torch.add(from_p, score * eps, out=p)
    torch.add(x if from_x is None else from_x, (from_p if score is None else p) * eps, out=x)
