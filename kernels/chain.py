"""langevin_chain: many Langevin steps on a closed-form target in one launch, each the bits of
target_score and langevin_step.

A program keeps its tile in registers through all of the steps: one read of the state and one write
of it. Where samples are coupled and no tile holds one, a program goes over its sample's tiles in
memory at each step (chain_loops.py).
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
from .chain_loops import steps_in_memory, steps_in_registers
from .layout import SIZES, Layout
from .targets import checked
from .tile import name_of, rows_of


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
    spare,  # room for a second state like x, where no tile holds a sample, or None
    states,  # [n_steps // thin, samples, ...], contiguous, or None
    bad,  # [samples, programs of a sample], int32 or int64, or None
    numbers,  # the target's params, in T
    param_count,  # how many of them
    elements,  # of a sample
    n_steps,  # how many
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
    parts,  # tiles side by side in a sample
    turns,  # tiles of a program
    sizes,  # of the dimensions, or None: all tensors are contiguous (layout.py)
    strides,  # of each tensor of the layout, in order; None where contiguous
    KIND: tl.constexpr,  # the target's row of pyebm/_kinds.py
    NEVER: tl.constexpr,  # for ``bad``: a number beyond all steps
    SCHEDULE: tl.constexpr,  # whether coefficients change by step
    CLAMP: tl.constexpr,  # whether there is a clamp
    T: tl.constexpr,  # the type of the arithmetic
    TILE: tl.constexpr,  # layout.Tile
):
    """All steps of a tile of samples or, where there is a ``spare``, of one sample. ``bad`` gets
    the first step after which an element was not finite, or NEVER."""
    rows = rows_of(samples, TILE)
    key = name_of((name, seeds, ids), rows)
    run = (n_steps, states, thin, bad)
    target = (numbers, param_count, elements)
    schedule = ((step_size, h_rows, h_sample, h_step), (temperature, t_rows, t_sample, t_step))
    bounds = (low, high)
    batch = (samples, pitch, sizes, strides[0])
    if spare is None:
        steps_in_registers(
            x, run, target, schedule, bounds, key, rows, batch, KIND, NEVER, SCHEDULE, CLAMP, T, TILE
        )
    else:
        pair = (x, spare)
        span = (parts, turns)
        steps_in_memory(
            pair, run, target, schedule, bounds, key, rows, batch, span, KIND, NEVER, SCHEDULE, CLAMP, T, TILE
        )


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
    layout = Layout(x, most=most, turns=1, whole=coupled)
    spare = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device) if layout.long else None
    with launch.on(x.device):
        bad = None
        if steps.diverged is not None:
            kind = torch.int64 if steps.n_steps >= 2**31 else torch.int32
            bad = torch.empty((layout.samples, layout.programs), dtype=kind, device=x.device)
        h_rows, h_sample, h_step = _strides(steps.step_size_rows, steps.step_size_per_step)
        t_rows, t_sample, t_step = _strides(steps.temperature_rows, steps.temperature_per_step)
        chain_kernel[layout.grid](
            x,
            spare,
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
            **layout.arguments,
        )
        if spare is not None and steps.n_steps % 2:
            x.copy_(spare)  # the states alternate between the two: the last one lies here
        if bad is not None and steps.diverged is not None:
            first = bad.amin(1)
            steps.diverged.copy_(torch.where(first < steps.n_steps, first, -1))
