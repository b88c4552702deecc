"""target_score and langevin_chain of the dense targets: mixtures and full covariances.

A step is two launches. The first takes blocks of samples against shares of the components (or of
the covariance's columns) and writes the sums to memory. The finish adds the shares and makes the
score or the Langevin step. The sharing of components depends on their number and their dimension
alone, so that a sample's bits do not depend on its batch. Samples are taken in chunks, so that the
work in memory is bounded.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
from torch import Tensor

from pyebm._schemas import LangevinChain

from . import launch
from .coefficients import step_rows
from .dense_blocks import Block
from .dense_kernels import enter_kernel, finish_kernel, gather_kernel, product_kernel
from .dense_parameters import Parameters, checked
from .layout import Layout, shape_of

_NEVER = 2**62
_WORK = 64 << 20  # bytes of sums that a call holds at most, but always a block of samples
_SHARES = 64  # of the components, at most
_PAD = 16  # rows in memory begin at multiples of so many numbers


def block_of(kind: str, dtype: torch.dtype) -> tuple[Block, int]:
    """(the largest block that registers hold without spilling, warps). It does not depend on the
    number of samples."""
    mixed, double = kind == "mixture", dtype == torch.float64
    if launch.amd():
        if double:
            return Block(4, 2, 8, 16, 4, 16), 8
        return (Block(8, 2, 8, 16, 4, 32), 4) if mixed else (Block(4, 4, 8, 16, 4, 16), 8)
    if double:
        return Block(4, 4 if mixed else 2, 8, 16, 4, 32), 4
    return (Block(8, 4, 8, 16, 4, 32) if mixed else Block(4, 4, 8, 16, 8, 16)), 4


def shares_of(components: int, block: Block) -> tuple[int, int]:
    """(the number of shares, the blocks of components in a share)."""
    blocks = triton.cdiv(components, block.components)
    of_a_share = triton.cdiv(blocks, _SHARES)
    return triton.cdiv(blocks, of_a_share), of_a_share


class Work:
    """The memory of a call and its launches, for chunks of samples like x."""

    def __init__(self, x: Tensor, target: int, p: Parameters) -> None:
        samples, self.elements = shape_of(x)
        self.target, self.p, self.dtype = target, p, launch.compute_dtype(x.dtype)
        self.block, self.warps = block_of(p.kind, self.dtype)
        self.shares, self.blocks = (
            (1, 1) if p.kind == "gaussian_full" else shares_of(p.components, self.block)
        )
        self.padded = triton.cdiv(self.elements, _PAD)
        width = self.padded * _PAD
        sums = 2 if p.kind == "mixture_diagonal" else 1
        at_most = _WORK // (self.shares * sums * width * self.dtype.itemsize)
        step = self.block.samples
        self.room = min(max(at_most // step, 1) * step, samples)

        def empty(*shape: int) -> Tensor:
            return torch.empty(shape, dtype=self.dtype, device=x.device)

        self.entered = torch.zeros((self.room, width), dtype=self.dtype, device=x.device)
        self.means = empty(self.shares, self.room, width)
        self.weights = empty(self.shares, self.room, width) if sums == 2 else None
        mixed = p.kind != "gaussian_full"
        self.tops, self.sums = (empty(self.shares, self.room) if mixed else None for _ in range(2))
        self.totals = empty(self.shares, self.room) if p.kind == "mixture" else None

    def chunks(self, samples: int) -> list[tuple[int, int]]:
        """(first sample, number of samples) of each chunk."""
        return [(first, min(self.room, samples - first)) for first in range(0, samples, self.room)]

    def enter(self, x: Tensor) -> None:
        layout = _layout(x)
        kinds = {"KIND": self.p.kind, "T": launch.work_type(x.dtype)}
        enter_kernel[layout.grid](self.entered, x, self.p.vector, self.padded, **kinds, **layout.arguments)

    def gather(self, samples: int) -> None:
        """Make the sums that the finish needs, for the samples that have entered."""
        p = self.p
        if p.kind == "gaussian_full":
            rows, cols, k = (64, 64, 16) if self.dtype == torch.float32 else (32, 64, 16)
            grid = (triton.cdiv(samples, rows), triton.cdiv(self.elements, cols))
            product_kernel[grid](
                self.means,
                self.entered,
                p.mean,
                self.elements,
                p.stride,
                samples,
                self.padded,
                rows,
                cols,
                k,
                **launch.FAST,
            )
            return
        gather_kernel[triton.cdiv(samples, self.block.samples), self.shares](
            *(self.tops, self.sums, self.totals, self.means, self.weights, self.entered),
            *(p.offset, p.scale, p.variance, p.mean, p.precision),
            *(p.components, self.elements, p.stride, samples, self.padded, self.room, self.blocks),
            BLOCK=self.block,
            num_warps=self.warps,
            enable_fp_fusion=False,  # only tl.fma and tl.dot fuse
        )

    def finish(
        self,
        out: Tensor | None,
        x: Tensor,
        states: Tensor | None = None,
        bad: Tensor | None = None,
        numbers: tuple[float, float] = (0.0, 0.0),
        table: dict[str, Any] | None = None,
        low: float | None = None,
        high: float | None = None,
        k: int = 0,
        first: int = 0,
        name: Tensor | None = None,
        seeds: Tensor | None = None,
        ids: Tensor | None = None,
    ) -> None:
        layout = _layout(x if out is None else out, x)
        finish_kernel[layout.grid](
            *(out, x, states, bad, self.entered, self.tops, self.sums, self.totals, self.means, self.weights),
            *(self.p.vector, self.shares, self.room, self.padded, *numbers),
            **(table or {"table": None, "count": 0, "stride": 0}),
            low=-math.inf if low is None else low,
            high=math.inf if high is None else high,
            k=k,
            first=first,
            name=name,
            seeds=seeds,
            ids=ids,
            KIND=self.p.kind,
            NEVER=_NEVER,
            CLAMP=low is not None or high is not None,
            T=launch.work_type(x.dtype),
            **layout.arguments,
        )


def _layout(*tensors: Tensor) -> Layout:
    return Layout(*tensors, most=512 if tensors[0].dtype == torch.float64 else 1024, turns=1)


def target_score(out: Tensor, x: Tensor, target: int, params: Tensor) -> None:
    work = Work(x, target, checked("target_score", x, target, params))
    with launch.on(x.device):
        for first, n in work.chunks(x.shape[0]):
            part = x.narrow(0, first, n)
            work.enter(part)
            work.gather(n)
            work.finish(out.narrow(0, first, n), part)


def langevin_chain(args: LangevinChain) -> None:
    """The caller has checked the noise, the coefficients, and that there is something to do."""
    x, steps = args.x, args.steps
    work = Work(x, args.target, checked("langevin_chain", x, args.target, args.params))
    samples = x.shape[0]

    def rows_at(rows: Tensor | None, per_step: bool | None, k: int, first: int, n: int) -> Tensor | None:
        if rows is None or rows.numel() == 1:
            return rows
        return rows.narrow(0, k, 1) if per_step else rows.narrow(0, first, n)

    numbers = tuple(
        launch.rounded(c, x.dtype)
        for c in (steps.step_size, math.sqrt(2.0 * steps.step_size * steps.temperature))
    )
    with launch.on(x.device):
        for first, n in work.chunks(samples):
            part = x.narrow(0, first, n)
            bad = None
            if steps.diverged is not None:
                bad = torch.full((n, _layout(part).programs), _NEVER, dtype=torch.int64, device=x.device)
            work.enter(part)
            of_samples = [
                None if each is None else each.narrow(0, first, n) for each in (steps.seeds, steps.ids)
            ]
            for k in range(steps.n_steps):
                if k == 0 or steps.step_size_per_step or steps.temperature_per_step:
                    rows = (
                        None,
                        rows_at(steps.step_size_rows, steps.step_size_per_step, k, first, n),
                        rows_at(steps.temperature_rows, steps.temperature_per_step, k, first, n),
                    )
                    table = launch.Table((1.0, steps.step_size, steps.temperature), rows, 3, part)
                    if table.tensor is not None:
                        table.fill(step_rows, LANGEVIN=True)
                kept = None
                if steps.states is not None and steps.thin is not None and (k + 1) % steps.thin == 0:
                    kept = steps.states[k // steps.thin].narrow(0, first, n)
                work.gather(n)
                work.finish(
                    None,
                    part,
                    kept,
                    bad,
                    numbers,
                    table.arguments,
                    steps.low,
                    steps.high,
                    k,
                    first,
                    steps.name,
                    *of_samples,
                )
            if bad is not None and steps.diverged is not None:
                earliest = bad.amin(1)
                steps.diverged.narrow(0, first, n).copy_(torch.where(earliest < steps.n_steps, earliest, -1))
