"""What an SDE object of their shape tells of itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..._checks import check_samples
from ..._name import readable
from ..._options import FLOATS, shown


def check_known(call: str, sde: Any) -> None:
    """Refuse what is neither VE, VP nor sub-VP: another drift may be no multiple of x, another
    network be told another time."""
    known = (
        hasattr(sde, "discrete_sigmas")
        or hasattr(sde, "discrete_betas")
        or (hasattr(sde, "beta_0") and hasattr(sde, "beta_1"))
    )
    if not known:
        raise NotImplementedError(
            f"{call}: sde must be VE, VP or sub-VP, got {type(sde).__name__}; leave it to score_sde's own"
        )


def check_state(call: str, sde: Any, x: Any, t: Any) -> None:
    """Samples, and the time of each within the SDE's."""
    batch = check_samples(call, "x", x)
    if (
        not isinstance(t, Tensor)
        or t.dtype not in FLOATS
        or t.is_nested
        or t.shape != (batch,)
        or t.device != x.device
    ):
        raise TypeError(
            f"{call}: t must be the time of each of the {batch} samples of x, on its device, got {shown(t)}"
        )
    if t.layout is not torch.strided:
        raise TypeError(f"{call}: t must be a dense tensor, got layout {t.layout}")
    if t.is_cpu and readable(t) and not bool(((t >= 0) & (t <= sde.T)).all()):
        raise ValueError(f"{call}: t must be in [0, {sde.T}], got {t.min().item():g} to {t.max().item():g}")


def is_exploding(sde: Any) -> bool:
    return hasattr(sde, "discrete_sigmas")


def index_of(sde: Any, t: Tensor) -> Tensor:
    index: Tensor = (t * (sde.N - 1) / sde.T).long()
    return index


def ones_for(x: Tensor) -> Tensor:
    """What shows the factor by which an SDE multiplies x."""
    return torch.ones(x.shape[0], *[1] * (x.dim() - 1), device=x.device)
