"""Metropolis' test, which takes a proposal or stays, and the dual averaging that adapts the step
size to a target acceptance."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from .._schemas import REDUCTIONS
from .functions import exponential, sqrt64

STEEP, SLOW_START, REACH = 20.0, 10.0, 50.0  # Hoffman & Gelman's 1 / gamma and t0


def metropolis(
    x: Tensor,
    score: Tensor,
    energy: Tensor,
    accepted: Tensor,
    accept: Tensor,
    log_alpha: Tensor,
    proposal: Tensor,
    proposal_score: Tensor,
    proposal_energy: Tensor,
    step: float,
    scale: float,
    temperature: float | Tensor,
    name: Tensor,
    first: Tensor | None = None,
    last: Tensor | None = None,
    step_rows: Tensor | None = None,
    scale_rows: Tensor | None = None,
    seeds: Tensor | None = None,
    ids: Tensor | None = None,
    *,
    kernels: Mapping[str, Callable[..., None]],
) -> None:
    """The op ``metropolis``; here ``temperature`` may also be a tensor, as in a CUDA graph, and x
    need not be contiguous."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32

    def squares(a: Tensor, sign: float, momentum: Tensor | None) -> Tensor:
        """Each sample's sum of squares of ``sign step a - x + proposal``, or with a momentum of
        ``sign step a + momentum``."""
        lam, mu, z, x0 = (-1.0, 1.0, x, proposal) if momentum is None else (1.0, 0.0, momentum, None)
        kappa_rows = step_rows if step_rows is None or sign > 0 else -step_rows
        sums = torch.empty(x.shape[:1], dtype=dtype, device=x.device)
        head = (sums, None, a, sign * step, lam, mu, 1.0, 1.0, False, REDUCTIONS["sample"], None)
        kernels["denoising_loss"](*head, kappa_rows, None, None, None, z, x0)
        return sums.double()

    before, after = squares(score, -1.0, first), squares(proposal_score, 1.0, last)
    uniform = torch.empty((x.shape[0], 1), dtype=torch.float64, device=x.device)  # holds float32 numbers
    kernels["uniform_"](uniform, name, seeds, ids)
    torch.sub(energy, proposal_energy, out=log_alpha)
    log_alpha.div_(temperature).add_(
        (before - after).div_(scale if scale_rows is None else scale_rows.double())
    )
    # A proposal of energy -infinity would be accepted, and the chain would never leave it.
    log_alpha.masked_fill_(proposal_energy == -math.inf, -math.inf)
    accept.copy_(_accepts(log_alpha, uniform.flatten()))
    accepted.add_(accept)
    chosen = accept.reshape(-1, *[1] * (x.dim() - 1))
    torch.where(chosen, proposal, x, out=x)
    torch.where(chosen, proposal_score, score, out=score)
    torch.where(accept, proposal_energy, energy, out=energy)


def _accepts(log_alpha: Tensor, uniform: Tensor) -> Tensor:
    """Whether log u < log_alpha, false if that is NaN: csrc/common/metropolis.h."""
    surely = log_alpha > uniform - 1.0
    never = uniform * (1.0 - log_alpha) >= 1.0
    return surely | (~never & (uniform < _exp(log_alpha)))


def _exp(x: Tensor) -> Tensor:
    """e^x: by the kernels' operations on the CPU; elsewhere, where they would be sixty launches, by
    torch.exp."""
    return exponential(x) if x.is_cpu else x.exp()


def dual_averaging(
    step_size: Tensor,
    log_average: Tensor,
    gap: Tensor,
    steps: Tensor,
    log_alpha: Tensor,
    middle: Tensor,
    warmup: int,
    target: float,
    together: bool,
) -> None:
    """Runs without waiting for the device. On the CPU it uses operations that IEEE 754
    rounds correctly, and so has the kernel's bits."""
    m = steps.add_(1.0)
    root = sqrt64(m)  # torch.sqrt may be off by the last bit
    acceptance = _exp(torch.where(log_alpha < 0, log_alpha, 0.0)).masked_fill(log_alpha.isnan(), 0.0)
    if together:
        acceptance = mean(acceptance)
    learning = m <= warmup
    share, weight = 1.0 / (m + SLOW_START), 1.0 / sqrt64(m * root)
    new_gap = (1.0 - share) * gap + share * (target - acceptance)
    # A chain that never moves, or always does, must not end with a step of 0 or infinity, which the
    # kernels refuse.
    log_step = middle - (root * STEEP * new_gap).clamp(-REACH, REACH)
    torch.where(learning, weight * log_step + (1.0 - weight) * log_average, log_average, out=log_average)
    torch.where(learning, new_gap, gap, out=gap)
    step_size.copy_(_exp(torch.where(m < warmup, log_step, log_average)))


def mean(values: Tensor) -> Tensor:
    """The mean over the last dimension. On the CPU it has the order of
    csrc/cpu/loops/batch_mean.h: one half is added to the other until one number is left.

    Elsewhere it is torch's own, in one launch; in compiled code too, since the halves would be
    compiled anew for every count.
    """
    if not values.is_cpu or torch.compiler.is_compiling():
        return values.mean(-1)
    count = values.shape[-1]
    width = 1 << max(count - 1, 0).bit_length()
    sums = torch.nn.functional.pad(values, (0, width - count))
    while width := width // 2:
        sums = sums[..., :width] + sums[..., width:]
    return sums.squeeze(-1) / count
