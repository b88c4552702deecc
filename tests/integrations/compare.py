"""Our result is "the same" if it is no further from the float64 value than twice the package's
own evaluation."""

from __future__ import annotations

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)
DTYPES = (torch.float32, *HALF)


def assert_as_good(got: Tensor, theirs: Tensor, exact: Tensor, scale: float = 0.0) -> None:
    """The package's evaluation may be lucky, so its error counts as at least half an ulp of the
    largest value: of the result, or of the numbers whose difference the result is (``scale``).

    A single number, which is a sum, is lucky more often: there the error counts as at least an ulp.
    """
    assert got.shape == theirs.shape == exact.shape
    assert exact.dtype == torch.float64
    ours, allowed = ((value.double() - exact).abs().max().item() for value in (got, theirs))
    ulp = torch.finfo(got.dtype).eps * (1 if got.dim() == 0 else 0.5) * max(exact.abs().max().item(), scale)
    assert ours <= 2 * max(allowed, ulp), (ours, allowed, ulp)


def gradient(loss: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the loss, detached, and its gradient (the gradient of its sum, if it is not one
    number)."""
    (grad,) = torch.autograd.grad(loss.sum(), at)
    return loss.detach(), grad
