"""What "the same" means: no further from the float64 value than twice what the package's own
evaluation is."""

from __future__ import annotations

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)
DTYPES = (torch.float32, *HALF)


def assert_as_good(got: Tensor, theirs: Tensor, exact: Tensor, scale: float = 0.0) -> None:
    """A lucky evaluation of theirs counts as half an ulp of the largest value: of the result, or of
    what it is a difference of.

    A single number, which is a sum, is lucky more often; there it counts as an ulp.
    """
    assert got.shape == theirs.shape == exact.shape
    assert exact.dtype == torch.float64
    ours, allowed = ((value.double() - exact).abs().max().item() for value in (got, theirs))
    ulp = torch.finfo(got.dtype).eps * (1 if got.dim() == 0 else 0.5) * max(exact.abs().max().item(), scale)
    assert ours <= 2 * max(allowed, ulp), (ours, allowed, ulp)


def gradient(loss: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """The loss, detached, and its gradient; of the sum, where it is not one number."""
    (grad,) = torch.autograd.grad(loss.sum(), at)
    return loss.detach(), grad
