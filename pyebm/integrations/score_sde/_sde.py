"""What an SDE object of their shape tells of itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def is_exploding(sde: Any) -> bool:
    return hasattr(sde, "discrete_sigmas")


def index_of(sde: Any, t: Tensor) -> Tensor:
    index: Tensor = (t * (sde.N - 1) / sde.T).long()
    return index


def ones_for(x: Tensor) -> Tensor:
    """What shows the factor by which an SDE multiplies x."""
    return torch.ones(x.shape[0], *[1] * (x.dim() - 1), device=x.device)
