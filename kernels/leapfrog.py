"""leapfrog: HMC's kick and drift, p = p + eps s and x = x + eps p, in one pass."""

from __future__ import annotations

import triton
import triton.language as tl

from pyebm._arguments import entry
from pyebm._schemas import Leapfrog

from . import launch
from .coefficients import coefficient
from .layout import SIZES, Layout, shape_of
from .tile import place, read, rounded, rows_of, tiles, write


@triton.jit
def _moved(start, step_size, speed, DTYPE: tl.constexpr, ROUNDS: tl.constexpr):
    """start + step_size speed, as a tensor of this dtype holds it."""
    move = speed * step_size
    if ROUNDS:
        move = rounded(move, DTYPE).to(start.dtype)
    return rounded(start + move, DTYPE).to(start.dtype)


@triton.jit(do_not_specialize=SIZES)
def leapfrog_kernel(
    x,  # [samples, ...], like the next four
    p,
    score,  # or None: no kick, and p is not written
    from_x,
    from_p,
    step_size: tl.float64,  # where there are no rows
    step_size_rows,  # [count] or None
    count,  # values in the rows
    stride,  # from one sample's value to the next, 0 or 1
    samples,  # how many
    pitch,  # accesses of TILE.UNIT elements in a sample
    parts,  # tiles side by side in a sample
    turns,  # tiles of a program
    sizes,  # of the dimensions, or None: all tensors are contiguous (layout.py)
    strides,  # of each tensor of the layout, in order; None where contiguous
    T: tl.constexpr,  # the type of the arithmetic
    TILE: tl.constexpr,  # layout.Tile
):
    DTYPE: tl.constexpr = x.dtype.element_ty
    ROUNDS: tl.constexpr = step_size_rows is None
    rows = rows_of(samples, TILE)
    eps = coefficient(step_size, (step_size_rows, count, stride), 0, rows, T)
    first, last = tiles(rows, parts, turns, TILE)
    for tile in range(first, last):
        at = place(tile, rows, pitch, TILE)
        speed = read(from_p, at, sizes, strides[4], TILE, T)
        if score is not None:
            slope = read(score, at, sizes, strides[2], TILE, T)
            speed = _moved(speed, eps, slope, DTYPE, ROUNDS)
            write(p, at, sizes, strides[1], TILE, speed)
        start = read(from_x, at, sizes, strides[3], TILE, T)
        write(x, at, sizes, strides[0], TILE, _moved(start, eps, speed, DTYPE, ROUNDS))


@entry(Leapfrog)
def leapfrog(args: Leapfrog) -> None:
    x, p = args.x, args.p
    if not x.numel():
        return
    from_x, from_p = x if args.from_x is None else args.from_x, p if args.from_p is None else args.from_p
    apart = shape_of(x)[1] % 2 == 1  # elements that move one at a time crowd the registers
    layout = Layout(x, p, args.score, from_x, from_p, most=launch.most_of(0, apart))
    with launch.on(x.device):
        leapfrog_kernel[layout.grid](
            x,
            p,
            args.score,
            from_x,
            from_p,
            args.step_size,
            **launch.rows_arguments("step_size", args.step_size_rows),
            T=launch.work_type(x.dtype),
            **layout.arguments,
        )
