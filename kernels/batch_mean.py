"""The mean of one number per sample, in the order of csrc/cpu/loops/batch_mean.h: the second half
is added to the first half, until one number is left."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import launch

FOLD = 8  # numbers that a program adds for each of its sums
BLOCK = 128
_LEAVES = FOLD * BLOCK  # numbers that one program adds


@triton.jit
def halved(sums, ROWS: tl.constexpr, LEFT: tl.constexpr):
    """The sums over each row of (ROWS, LEFT), by halves: (ROWS, 1)."""
    if LEFT > 1:  # a sum of two has one order only
        sums = halved(tl.sum(tl.reshape(sums, (ROWS, 2, LEFT // 2)), axis=1), ROWS, LEFT // 2)
    return sums


@triton.jit(do_not_specialize=["count", "width"])
def fold_kernel(
    out,  # [width] float64
    numbers,  # [count] float64
    count,  # of the numbers
    width,  # FOLD of the numbers, this far apart, make one sum
    FOLD: tl.constexpr,  # numbers of a sum
    BLOCK: tl.constexpr,  # sums of a program
):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    each = at[:, None] + tl.arange(0, FOLD)[None, :] * width.to(tl.int64)
    sums = halved(tl.load(numbers + each, mask=each < count, other=0.0), BLOCK, FOLD)
    tl.store(out + at, tl.reshape(sums, (BLOCK,)), mask=at < width)


@triton.jit(do_not_specialize=["count"])
def mean_kernel(
    out,  # [1] float64
    numbers,  # [count] float64, at most LEAVES
    count,  # of the numbers
    divisor: tl.float64,  # samples
    LEAVES: tl.constexpr,  # numbers that one program adds
):
    at = tl.arange(0, LEAVES)
    sums = tl.reshape(tl.load(numbers + at, mask=at < count, other=0.0), (1, LEAVES))
    mean = tl.reshape(halved(sums, 1, LEAVES), (1,)) / tl.full([1], divisor, tl.float64)
    tl.store(out + tl.arange(0, 1), mean)


def batch_mean(numbers: Tensor) -> Tensor:
    """The mean of (B,) float64 numbers, a tensor of one."""
    count = len(numbers)
    mean = torch.empty(1, dtype=torch.float64, device=numbers.device)
    width, divisor = max(triton.next_power_of_2(count), _LEAVES), float(count)
    while width > _LEAVES:
        width //= FOLD
        sums = torch.empty(width, dtype=torch.float64, device=numbers.device)
        fold_kernel[(triton.cdiv(width, BLOCK),)](
            sums, numbers, count, width, FOLD=FOLD, BLOCK=BLOCK, **launch.FAST
        )
        numbers, count = sums, width
    mean_kernel[(1,)](mean, numbers, count, divisor, LEAVES=_LEAVES, **launch.FAST)
    return mean
