"""Checks score_sde's SDE objects and reads their coefficients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..._checks import check_samples
from ..._name import readable
from ..._options import FLOATS, shown
from ...noise import Noise
from .._draws import Source

# A program may train, evaluate and sample with one Noise, so each use has a stream of its own.
TRAINING, CORRECTORS, EVALUATION, PREDICTORS = range(4)


def on_stream(noise: Source, use: int) -> Source:
    """The noise for one of the uses above."""
    return noise.at(stream=noise.stream + use) if isinstance(noise, Noise) else noise


def check_known(call: str, sde: Any) -> None:
    """Refuse an SDE that is neither VE, VP nor sub-VP: its drift may not be a multiple of x, and
    its network may expect the time in another form."""
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
    """Checks the samples, and that the time of each lies within the SDE's range."""
    batch = check_samples(call, "x", x)
    if (
        not isinstance(t, Tensor)
        or t.dtype not in FLOATS
        or t.is_nested
        or t.shape not in ((batch,), (1,))
        or t.device != x.device
    ):
        raise TypeError(
            f"{call}: t must be the time of each of the {batch} samples of x, or one for all, on its device,"
            f" got {shown(t)}"
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
    """Ones of the shape (B, 1, ...): the SDE turns them into the factor by which it multiplies
    x. They have x's dtype, in which the SDE would compute, but no half precision."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return torch.ones(x.shape[0], *[1] * (x.dim() - 1), dtype=dtype, device=x.device)
