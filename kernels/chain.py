"""langevin_chain: many Langevin steps on a closed-form target in one launch, each the bits of
target_score and langevin_step.

A program keeps its tile in registers through all of the steps: one read of the state and one write
of it. Coupled samples that no tile holds go to long_chain.py.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from pyebm._arguments import entry
from pyebm._kinds import KINDS, TARGETS
from pyebm._schemas import LangevinChain

from . import dense, dense_parameters, launch
from .chain_step import coefficients, first_bad, stepped
from .layout import SIZES, Tiling
from .long_chain import long_chain_kernel
from .scores import given_by_tile, score_of, vectors_of
from .targets import checked
from .tile import block_of, name_of, place, read, rows_of, write


@triton.jit(
    do_not_specialize=[
        *SIZES,
        "param_count",
        "elements",
        "n_steps",
        "thin",
        "h_sample",
        "h_step",
        "t_sample",
        "t_step",
    ]
)
def chain_kernel(
    x,  # [samples, ...], in place
    states,  # [n_steps // thin, samples, ...] or None
    bad,  # [samples, tiles of a sample] or None
    numbers,  # the target's params
    param_count,  # how many of them
    elements,  # of a sample
    n_steps,
    thin,  # the states of every thin-th step are kept
    step_size: tl.float64,  # eta, where there are no h_rows
    temperature: tl.float64,  # where there are no t_rows
    h_rows,  # step sizes by sample or by step, or None
    h_sample,  # their stride between samples, 0 or 1
    h_step,  # their stride between steps, 0 or 1
    t_rows,  # temperatures, likewise
    t_sample,
    t_step,
    low: tl.float64,  # the clamp's bounds, where CLAMP
    high: tl.float64,
    name,  # [4] int64: seed, first_sample, step, stream
    seeds,  # [samples] int64 or None
    ids,  # [samples] int64 or None
    samples,  # how many
    pitch,  # accesses of TILE.UNIT elements in a sample
    parts,  # noqa: ARG001
    turns,  # noqa: ARG001
    sizes,  # of the dimensions, or None: all tensors are contiguous (layout.py)
    strides,  # of each tensor of the tiling, in order; None where contiguous
    KIND: tl.constexpr,  # the target's place in _schemas.TARGETS
    NEVER: tl.constexpr,  # for ``bad``: a number beyond all steps
    SCHEDULE: tl.constexpr,  # whether coefficients change by step
    CLAMP: tl.constexpr,  # whether there is a clamp
    T: tl.constexpr,  # the type of the arithmetic
    TILE: tl.constexpr,  # layout.Tile
):
    """All steps of a tile of samples. ``bad`` gets the first step after which an element of the
    tile was not finite, or NEVER."""
    rows = rows_of(samples, TILE)
    key = name_of((name, seeds, ids), rows)
    at = place(tl.program_id(0), rows, pitch, TILE)
    state = read(x, at, sizes, strides[0], TILE, T)
    vectors = vectors_of(numbers, elements, at, KIND, TILE)
    eta = (step_size, h_rows, h_sample, h_step)
    heat = (temperature, t_rows, t_sample, t_step)
    if not SCHEDULE:
        h, c = coefficients(eta, heat, 0, rows, T)
    if states is not None:
        until = thin
        kept = samples.to(tl.int64) * 0  # samples written before
    if bad is not None:
        found = tl.full([TILE.ROWS * TILE.COLS], NEVER, bad.dtype.element_ty)
    for k in range(n_steps):
        if SCHEDULE:
            h, c = coefficients(eta, heat, k, rows, T)
        given = given_by_tile(state, vectors, numbers, elements, at, KIND, TILE)
        score = score_of(state, given, numbers, param_count, elements, at, KIND, TILE)
        state = stepped(state, score, h, c, key, k, at, low, high, CLAMP, x.dtype.element_ty, T, TILE)
        if states is not None:
            until -= 1
            if until == 0:
                write(states + kept * (pitch.to(tl.int64) * TILE.UNIT), at, None, None, TILE, state)
                until += thin
                kept += samples
        if bad is not None:
            found = first_bad(found, state, k, at, TILE)
    write(x, at, sizes, strides[0], TILE, state)
    if bad is not None:
        of_samples = tl.min(tl.reshape(found, (TILE.ROWS, TILE.COLS)), axis=1)
        which = block_of() * TILE.ROWS + tl.arange(0, TILE.ROWS)
        tl.store(bad + which * tl.num_programs(0) + tl.program_id(0), of_samples, mask=which < samples)


def _strides(values: Tensor | None, per_step: bool | None) -> tuple[Tensor | None, int, int]:
    """The values, and their strides between samples and between steps."""
    if values is None:
        return None, 0, 0
    many = int(values.numel() > 1)
    return values.contiguous(), 0 if per_step else many, many if per_step else 0


@entry(LangevinChain)
def langevin_chain(args: LangevinChain) -> None:
    x, steps = args.x, args.steps
    if steps.mask is not None or steps.score_clip is not None:
        raise ValueError(
            "langevin_chain: mask and score_clip are the CPU's kernel's; take a loop of langevin_step"
        )
    launch.check_noise(steps.name, steps.seeds, steps.ids, x.shape[0], steps.n_steps)
    launch.require(
        "langevin_chain",
        "step_size",
        steps.step_size_rows,
        True,
        "step" if steps.step_size_per_step else "sample",
    )
    launch.require(
        "langevin_chain",
        "temperature",
        steps.temperature_rows,
        False,
        "step" if steps.temperature_per_step else "sample",
    )
    if steps.diverged is not None:
        steps.diverged.fill_(-1)
    if not x.numel() or steps.n_steps == 0:
        return
    if dense_parameters.has(args.target):
        dense.langevin_chain(args)
        return
    count, elements, coupled = checked("langevin_chain", x, args.target, args.params)
    # A thread takes fewer elements than elsewhere: their state stays in registers, and a float64
    # takes two of those.
    most = 512 if x.dtype == torch.float64 else 1024
    tiling = Tiling(x, most=most, turns=1, whole=coupled)
    buffers, kernel = [x], chain_kernel
    if tiling.long:
        buffers, kernel = (
            [x, torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device)],
            long_chain_kernel,
        )
    with launch.on(x.device):
        bad = None
        if steps.diverged is not None:
            kind = torch.int64 if steps.n_steps >= 2**31 else torch.int32
            bad = torch.empty((tiling.samples, tiling.programs), dtype=kind, device=x.device)
        h_rows, h_sample, h_step = _strides(steps.step_size_rows, steps.step_size_per_step)
        t_rows, t_sample, t_step = _strides(steps.temperature_rows, steps.temperature_per_step)
        kernel[tiling.grid](
            *buffers,
            steps.states,
            bad,
            args.params,
            count,
            elements,
            steps.n_steps,
            steps.thin or 1,
            steps.step_size,
            steps.temperature,
            h_rows,
            h_sample,
            h_step,
            t_rows,
            t_sample,
            t_step,
            -math.inf if steps.low is None else steps.low,
            math.inf if steps.high is None else steps.high,
            name=steps.name,
            seeds=steps.seeds,
            ids=steps.ids,
            KIND=KINDS[TARGETS[args.target]],
            NEVER=2**62 if steps.n_steps >= 2**31 else 2**31 - 1,
            SCHEDULE=bool(h_step or t_step),
            CLAMP=steps.low is not None or steps.high is not None,
            T=launch.work_type(x.dtype),
            **tiling.arguments,
        )
        if tiling.long and steps.n_steps % 2:
            x.copy_(buffers[1])
        if bad is not None and steps.diverged is not None:
            first = bad.amin(1)
            steps.diverged.copy_(torch.where(first < steps.n_steps, first, -1))
