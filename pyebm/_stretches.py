"""Cuts a run of many steps into native calls of about a tenth of a second, so that Ctrl-C is heard
between them."""

from __future__ import annotations

import time
from collections.abc import Iterator

from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.compiler import is_compiling

_SECONDS = 0.1  # Python handles no signal before a native call returns
_GROWTH = 8  # the number of steps grows at most by this factor from one call to the next
# An upper bound of a step's seconds: a constant, plus some for each element, plus some for each
# pair of a target's parameter and a sample.
_STEP, _ELEMENT, _PARAMETER = 1e-6, 20e-9, 1e-9


def clock() -> float:
    """The time in seconds. Compiled code has no clock, and needs none: it takes all steps at
    once."""
    return 0.0 if is_compiling() else time.perf_counter()


def first_stretch(x: Tensor, params: Tensor, n_steps: int) -> int:
    """The steps of a chain that its first call may take; all of them on a GPU, where a call only
    queues work."""
    if not x.is_cpu or isinstance(x, FakeTensor):
        return n_steps
    step = _STEP + _ELEMENT * x.numel() + _PARAMETER * x.shape[0] * params.numel()
    return max(int(_SECONDS / 2 / step), 1)


def stretches(
    n_steps: int, first: int, thin: int | None = None, kept_inside: bool = True, most: int | None = None
) -> Iterator[tuple[int, int]]:
    """(done, count) for each call in turn: the steps before it, and how many it takes; n_steps in
    all.

    Args:
        first: steps of the first call; the time that passes between two calls decides how many
            steps the next ones take.
        thin: with it, no call goes beyond a multiple of thin, unless it begins at one and ends at
            one or with the run.
        kept_inside: whether a call that begins at a multiple of thin may go beyond the next one;
            else it ends there.
        most: the most steps that a call may take.
    """
    done, at_once, most = 0, max(first, 1), most or n_steps
    if thin is None and 0 < n_steps <= min(at_once, most):  # a short run needs no clock
        yield 0, n_steps
        return
    now = clock()
    while done < n_steps:
        count = min(at_once, most, n_steps - done)
        if thin is not None:
            left = thin - done % thin
            if not (kept_inside and left == thin <= count):
                count = min(count, left)
            elif done + count < n_steps:
                count -= count % thin
        yield done, count
        begin, now = now, clock()
        at_once = max(min(int(_SECONDS * count / max(now - begin, 1e-9)), _GROWTH * at_once), 1)
        done += count
