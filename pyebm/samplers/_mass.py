"""A mass for every element, given, or learned in the warm-up from the variances of the chains'
states."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._checks import check_tensor
from .._composed.metropolis import mean as mean_of
from .._parts import Parts
from ._run import Run, number

LEAST_WARMUP = 20
_FIRST, _LAST, _WINDOW = 75, 50, 25  # numbers of steps, as in Stan
_SHRINK, _TO = 5.0, 1e-3  # Stan's regularisation: as if 5 more states had a variance of 0.001


def mass_of(run: Run, sampler: Any) -> Mass | None:
    given, learned = sampler.mass, sampler.adapt_mass
    if given is None and not learned:
        return None
    if run.x.dtype in (torch.float16, torch.bfloat16):
        raise TypeError(f"{run.call}: a mass needs x0 in float32 or float64, got {run.x.dtype}")
    return Mass(
        run,
        1.0 if given is None else given,
        windows(sampler.warmup) if learned else [],
        sampler.per == "batch",
        sampler.group,
    )


def windows(warmup: int) -> list[int]:
    """The steps at which windows begin and end; a mass is learned from each window. This is Stan's
    schedule.

    The first 75 steps and the last 50 find a step size only. Between them are windows of 25, 50,
    100, ... steps, the last of which takes what is left. A warm-up of less than 150 steps gives its
    two ends 15 % and 10 % of it, and has one window.
    """
    first, last, size = _FIRST, _LAST, _WINDOW
    if warmup < first + last + size:
        first, last = int(0.15 * warmup), int(0.1 * warmup)
        size = warmup - first - last
    end, edges = warmup - last, [first]
    while edges[-1] < end:
        following = edges[-1] + size
        size *= 2
        edges.append(end if following + size > end else following)  # no room for the next: take what is left
    return edges


class Mass:
    """Holds ``root = 1 / sqrt(mass)``: in the coordinates x / root every mass is 1.

    It is learned as Stan learns it (its reference manual, "HMC algorithm parameters"): at a
    window's end ``1 / mass = n / (n + 5) var + 0.001 * 5 / (n + 5)``, where var is the variance of
    the n states of the window, each chain's own or, ``together``, that of all chains.
    """

    def __init__(self, run: Run, given: float | Tensor, edges: list[int], together: bool, group: Any) -> None:
        self.run, self.edges, self.together = run, edges, together
        self.parts = Parts(group if edges else None, run.x.shape[0], run.x.device)
        x = run.x
        carried = run.carried("inverse_mass") if edges else None
        self.inverse = _checked(run, given).reciprocal() if carried is None else carried.to(x.dtype)
        self.root = self.inverse.sqrt()
        if edges and run.graph and int(run.extra.get("adapted_steps", 0)) < edges[-1]:
            raise ValueError(
                f"{run.call}: graph=True can't learn a mass, whose windows the host counts; warm up without"
                " it, then go on from the State"
            )
        if edges:
            mean, square = (run.carried(name) for name in ("window_mean", "window_square"))
            self.mean = torch.zeros_like(x) if mean is None else mean.to(x.dtype)
            self.square = torch.zeros_like(x) if square is None else square.to(x.dtype)

    def divided(self, move: Tensor) -> Tensor:
        return move / self.root

    def learn(self, x: Tensor, count: int) -> bool:
        """Learn from the state x after ``count`` steps of the warm-up; returns True if the mass
        changed."""
        if not self.edges or not self.edges[0] < count <= self.edges[-1]:
            return False
        begin = max(edge for edge in self.edges if edge < count)
        n = count - begin
        if n == 1:
            self.mean.zero_()
            self.square.zero_()
        away = x - self.mean  # Welford's update of mean and squares (1962)
        self.mean.add_(away / n)
        self.square.add_(away * (x - self.mean))
        if count not in self.edges:
            return False
        self._take(n)
        return True

    def _take(self, n: int) -> None:
        square, mean = self.square, self.mean
        if self.together:
            # Join the chains' windows: add their sums of squares, and n times the squares of their
            # means' distances from the common mean. Chains that are not finite are left out.
            batch = self.parts.total
            square, mean = self.parts.whole(square), self.parts.whole(mean)
            fine = (square.isfinite() & mean.isfinite()).flatten(1).all(1)
            chains = fine.sum().double().clamp(min=1)
            square, mean = (
                self._by_element(torch.where(self.run.column(fine), each, 0.0)) for each in (square, mean)
            )
            share = batch / chains
            middle = mean_of(mean) * share
            off = torch.where(fine, mean - middle.unsqueeze(-1), 0.0).square()
            total = (mean_of(square) + n * mean_of(off)) * batch
            states = n * chains
            variance = (total / (states - 1).clamp(min=1)).reshape(self.run.x.shape[1:])
        else:
            variance = square / max(n - 1, 1)
            states = torch.full((), float(n), dtype=torch.float64, device=square.device)
        weight = states / (states + _SHRINK)
        learned = weight * variance + (1 - weight) * _TO
        self.inverse = torch.where(learned.isfinite() & (learned > 0), learned, self.inverse)
        self.root = self.inverse.sqrt()

    def _by_element(self, rows: Tensor) -> Tensor:
        """Rows (B, ...) as (elements, B), for means over the batch."""
        return rows.flatten(1).t().contiguous()

    def carried(self) -> dict[str, Tensor]:
        if not self.edges:
            return {}
        inverse = self.inverse.expand(self.run.x.shape).contiguous()
        return {"inverse_mass": inverse, "window_mean": self.mean, "window_square": self.square}


def _checked(run: Run, given: float | Tensor) -> Tensor:
    x = run.x
    if not isinstance(given, Tensor):
        return x.new_full((), number(run.call, "mass", given))
    given = run.numbers("mass", given)
    check_tensor(run.call, "mass", given)
    if not given.is_floating_point():
        raise TypeError(f"{run.call}: mass must be a number or a floating-point tensor, got {given.dtype}")
    if given.device != x.device:
        raise ValueError(f"{run.call}: mass must be on x0's device {x.device}, got {given.device}")
    try:
        given.expand(x.shape)
    except RuntimeError:
        raise ValueError(
            f"{run.call}: mass must broadcast to x0's shape {tuple(x.shape)}, got {tuple(given.shape)}"
        ) from None
    if run.may_look and not bool(((given > 0) & given.isfinite()).all()):
        raise ValueError(f"{run.call}: mass must be > 0 and finite in every element")
    return given.detach().to(x.dtype)
