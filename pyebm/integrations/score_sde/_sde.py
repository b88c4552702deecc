"""What an SDE object of their shape tells of itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def check_known(call: str, sde: Any) -> None:
    """Refuse what is neither VE, VP nor sub-VP: another drift may be no multiple of x, another network be told another time."""
    known = hasattr(sde, "discrete_sigmas") or hasattr(sde, "discrete_betas") or (hasattr(sde, "beta_0") and hasattr(sde, "beta_1"))
    if not known:
        raise NotImplementedError(f"{call}: sde must be VE, VP or sub-VP, got {type(sde).__name__}; leave it to score_sde's own")


def is_exploding(sde: Any) -> bool:
    return hasattr(sde, "discrete_sigmas")


def index_of(sde: Any, t: Tensor) -> Tensor:
    index: Tensor = (t * (sde.N - 1) / sde.T).long()
    return index


def ones_for(x: Tensor) -> Tensor:
    """What shows the factor by which an SDE multiplies x."""
    return torch.ones(x.shape[0], *[1] * (x.dim() - 1), device=x.device)
