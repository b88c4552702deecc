"""Our result is "the same" if it is no further from the float64 value than twice the package's
own evaluation."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from typing import NamedTuple

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)
DTYPES = (torch.float32, torch.float64, *HALF)


class Compared(NamedTuple):
    """One comparison, in parts of the largest value."""

    dtype: torch.dtype
    apart: float  # ours from theirs
    ours: float  # ours from the truth
    theirs: float  # theirs from the truth


# The comparisons of each test, (module, function): figures.py makes a table of them.
COMPARED: defaultdict[tuple[str, str], list[Compared]] = defaultdict(list)


def assert_as_good(got: Tensor, theirs: Tensor, exact: Tensor, scale: float = 0.0) -> None:
    """The package's evaluation may be lucky, so its error counts as at least half an ulp of the
    largest value: of the result, or of the numbers whose difference the result is (``scale``).

    A single number, which is a sum, is lucky more often: there the error counts as at least an ulp.
    In float64 the package itself is the truth; some of its coefficients are made in float32.
    """
    assert got.shape == theirs.shape == exact.shape
    assert exact.dtype == torch.float64
    ours, allowed, apart = (
        (a.double() - b.double()).abs().max().item()
        for a, b in ((got, exact), (theirs, exact), (got, theirs))
    )
    largest = max(exact.abs().max().item(), scale)
    test = re.search(r"(\w+)\.py::(\w+)", os.environ.get("PYTEST_CURRENT_TEST", ""))
    if test and largest:
        errors = (apart / largest, ours / largest, allowed / largest)
        COMPARED[test[1], test[2]].append(Compared(got.dtype, *errors))
    ulp = torch.finfo(got.dtype).eps * (1 if got.dim() == 0 else 0.5) * largest
    if got.dtype is torch.float64:
        ulp = torch.finfo(torch.float32).eps * largest
    assert ours <= 2 * max(allowed, ulp), (ours, allowed, ulp)


def gradient(loss: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the loss, detached, and its gradient (the gradient of its sum, if it is not one
    number)."""
    (grad,) = torch.autograd.grad(loss.sum(), at)
    return loss.detach(), grad
