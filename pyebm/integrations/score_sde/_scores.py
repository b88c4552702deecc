"""The score that a network of score_sde gives, and the first state of its samplers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..._options import check_callable, checked_device, checked_shape
from ...noise import Noise
from .._draws import Source
from ._sde import PREDICTORS, is_exploding, on_stream, ones_for
from .losses import _network

ScoreFn = Callable[[Tensor, Tensor], Tensor]

PRIOR = PREDICTORS + 1  # the stream of the first state; the next stream is the noise of given parts


def score_function(call: str, sde: Any, model: Any, continuous: bool) -> ScoreFn:
    """``score(x, t)`` of a network as score_sde's samplers evaluate it."""
    check_callable(call, "model", model, "a module")
    if hasattr(model, "eval"):
        model.eval()

    def score(x: Tensor, t: Tensor) -> Tensor:
        ones = ones_for(x)
        std = sde.marginal_prob(ones, t)[1]
        labels, kappa = _network(sde, t, std, continuous)
        output: Tensor = model(x, labels)
        if is_exploding(sde):
            return output
        factor: Tensor = (kappa / std).reshape(ones.shape).to(output.dtype)
        return output * factor

    return score


def prior(call: str, sde: Any, shape: Sequence[int], device: torch.device | str, noise: Source) -> Tensor:
    """A state at the time T: normals times the std of VE, or normals. A Noise names them; otherwise
    the SDE's own ``prior_sampling`` draws."""
    sizes, place = checked_shape(call, "shape", shape), checked_device(call, device)
    if not isinstance(noise, Noise):
        drawn: Tensor = sde.prior_sampling(sizes)
        return drawn.to(place)
    named = on_stream(noise, PRIOR)
    assert isinstance(named, Noise)
    x = named.randn(sizes, device=place)
    if not is_exploding(sde):
        return x
    last = torch.full((1,), float(sde.T), dtype=torch.float32, device="cpu")
    return x * float(sde.marginal_prob(ones_for(x[:1].cpu()), last)[1])


def times_of(sde: Any, eps: float, device: torch.device) -> Tensor:
    """The times from T down to eps."""
    return torch.linspace(sde.T, eps, sde.N, device=device)


# The orthonormal basis (gray, and two of colour) in which score_sde colours images: x @ basis.
BASIS = (
    (1 / math.sqrt(3), -math.sqrt(2 / 3), 0.0),
    (1 / math.sqrt(3), 1 / math.sqrt(6), 1 / math.sqrt(2)),
    (1 / math.sqrt(3), 1 / math.sqrt(6), -1 / math.sqrt(2)),
)
