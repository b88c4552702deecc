"""affine_step: clamp((a x + b g) + c z); langevin_step: a = 1, b = eta, c = sqrt(2 eta T)."""

from __future__ import annotations

import math

import triton
import triton.language as tl
from torch import Tensor

from pyebm._arguments import entry
from pyebm._schemas import AffineStep, LangevinStep

from . import launch
from .coefficients import coefficient, own_coefficient, step_rows
from .layout import SIZES, Layout, shape_of
from .normal import normals
from .tile import clamped, name_of, place, read, rows_of, tiles, write


@triton.jit(do_not_specialize=SIZES)
def step_kernel(
    out,  # [samples, ...], like mean, x, score and mask
    mean,  # or None
    x,
    score,
    mask,  # bool, or None
    a,  # numbers of the update a x + b score + c z, where there is no table
    b,
    c,
    low: tl.float64,  # the clamp's bounds, where CLAMP
    high: tl.float64,
    score_clip: tl.float64,  # where CLIP
    table,  # [3, count] or None: launch.Table
    count,  # values of a line
    stride,  # from one sample's value to the next, 0 or 1; FINE: cells that share one
    name,  # [4] int64: seed, first_sample, step, stream
    seeds,  # [samples] int64 or None
    ids,  # [samples] int64 or None
    samples,  # how many
    pitch,  # accesses of TILE.UNIT elements in a sample
    parts,  # tiles side by side in a sample
    turns,  # tiles of a program
    sizes,  # of the dimensions, or None: all tensors are contiguous (layout.py)
    strides,  # of each tensor of the layout, in order; None where contiguous
    LANGEVIN: tl.constexpr,  # a is 1
    CLAMP: tl.constexpr,  # whether there is a clamp
    CLIP: tl.constexpr,  # whether the score is clipped
    FINE: tl.constexpr,  # coefficients.BY_CELL, BY_ELEMENT, or 0
    T: tl.constexpr,  # the type of the arithmetic
    TILE: tl.constexpr,  # layout.Tile
):
    rows = rows_of(samples, TILE)
    key = name_of((name, seeds, ids), rows)
    lines = (table, count, stride)
    if not FINE:
        if not LANGEVIN:
            a_value = coefficient(a, lines, 0, rows, T)
        b_value = coefficient(b, lines, 1, rows, T)
        c_value = coefficient(c, lines, 2, rows, T)
    first, last = tiles(rows, parts, turns, TILE)
    for tile in range(first, last):
        at = place(tile, rows, pitch, TILE)
        old = read(x, at, sizes, strides[2], TILE, T)
        g = read(score, at, sizes, strides[3], TILE, T)
        z = normals(at[0], key, TILE).to(T)
        if FINE:
            if not LANGEVIN:
                a_value = own_coefficient(lines, 0, (samples, pitch), at, FINE, T, TILE)
            b_value = own_coefficient(lines, 1, (samples, pitch), at, FINE, T, TILE)
            c_value = own_coefficient(lines, 2, (samples, pitch), at, FINE, T, TILE)
        if CLIP:
            bound = tl.full([], score_clip, T)
            g = clamped(g, -bound, bound)
        if LANGEVIN:
            middle = old + b_value * g
        else:
            middle = a_value * old + b_value * g
        new = middle + c_value * z
        if CLAMP:
            new = clamped(new, tl.full([], low, T), tl.full([], high, T))
        if mask is not None:
            free = read(mask, at, sizes, strides[4], TILE, tl.int1)
            new = tl.where(free, new, old)
            middle = tl.where(free, middle, old)
        write(out, at, sizes, strides[0], TILE, new)
        if mean is not None:
            write(mean, at, sizes, strides[1], TILE, middle)


def _step(
    langevin: bool,
    args: LangevinStep | AffineStep,
    numbers: tuple[float, float, float],
    rows: dict[str, Tensor | None],
) -> None:
    """Take a step. The coefficients are numbers or rows: a, b and c, or (langevin) 1, eta and T."""
    out, x, options = args.out, args.out if args.x is None else args.x, args.options
    launch.check_noise(args.name, options.seeds, options.ids, out.shape[0])
    if not out.numel():
        return
    run = launch.run_of("langevin_step" if langevin else "affine_step", rows, out)
    # Up to five tensors crowd the registers where elements move one at a time, or where full
    # precision comes with coefficients that change within a sample.
    apart = shape_of(out)[1] % 2 == 1 or (run > 0 and out.element_size() >= 4)
    crowded = apart and (options.mean is not None or options.mask is not None)
    layout = Layout(out, options.mean, x, args.score, options.mask, most=launch.most_of(run, crowded))
    with launch.on(out.device):
        table = launch.Table(numbers, [*rows.values()], 3, out, run, layout.tile.VEC)
        if table.tensor is not None:
            table.fill(step_rows, LANGEVIN=langevin)
        a, b, c = numbers
        if langevin:
            c = math.sqrt(2.0 * b * c)
        a, b, c = (launch.rounded(number, out.dtype) for number in (a, b, c))
        step_kernel[layout.grid](
            out,
            options.mean,
            x,
            args.score,
            options.mask,
            a,
            b,
            c,
            -math.inf if options.low is None else options.low,
            math.inf if options.high is None else options.high,
            math.inf if options.score_clip is None else options.score_clip,
            name=args.name,
            seeds=options.seeds,
            ids=options.ids,
            LANGEVIN=langevin,
            CLAMP=options.low is not None or options.high is not None,
            CLIP=options.score_clip is not None,
            T=launch.work_type(out.dtype),
            FINE=table.fine,
            **table.arguments,
            **layout.arguments,
        )


@entry(LangevinStep)
def langevin_step(args: LangevinStep) -> None:
    launch.require("langevin_step", "step_size", args.step_size_rows, positive=True)
    launch.require("langevin_step", "temperature", args.temperature_rows, positive=False)
    take_langevin_step(args)


def take_langevin_step(args: LangevinStep) -> None:
    """The step without a check of its step sizes, which a kernel may have made."""
    rows = {"a": None, "step_size": args.step_size_rows, "temperature": args.temperature_rows}
    _step(True, args, (1.0, args.step_size, args.temperature), rows)


@entry(AffineStep)
def affine_step(args: AffineStep) -> None:
    _step(False, args, (args.a, args.b, args.c), {"a": args.a_rows, "b": args.b_rows, "c": args.c_rows})
