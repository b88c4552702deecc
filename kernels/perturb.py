"""perturb: alpha x + sigma z."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from . import launch
from .coefficients import coefficient, own_coefficient, step_rows
from .layout import SIZES, Layout
from .normal import normals
from .tile import name_of, place, read, rows_of, tiles, write


@triton.jit(do_not_specialize=SIZES)
def perturb_kernel(
    out,  # [samples, ...]
    x,  # [samples, ...]
    alpha,  # numbers of alpha x + sigma z, where there is no table
    sigma,
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
    FINE: tl.constexpr,  # coefficients.BY_CELL, BY_ELEMENT, or 0
    T: tl.constexpr,  # the type of the arithmetic
    TILE: tl.constexpr,  # layout.Tile
):
    rows = rows_of(samples, TILE)
    key = name_of((name, seeds, ids), rows)
    lines = (table, count, stride)
    if not FINE:
        a = coefficient(alpha, lines, 0, rows, T)
        s = coefficient(sigma, lines, 1, rows, T)
    first, last = tiles(rows, parts, turns, TILE)
    for tile in range(first, last):
        at = place(tile, rows, pitch, TILE)
        if FINE:
            a = own_coefficient(lines, 0, (samples, pitch), at, FINE, T, TILE)
            s = own_coefficient(lines, 1, (samples, pitch), at, FINE, T, TILE)
        value = read(x, at, sizes, strides[1], TILE, T)
        z = normals(at[0], key, TILE).to(T)
        write(out, at, sizes, strides[0], TILE, a * value + s * z)


def perturb(
    out: Tensor,
    x: Tensor,
    alpha: float,
    sigma: float,
    name: Tensor,
    alpha_rows: Tensor | None = None,
    sigma_rows: Tensor | None = None,
    seeds: Tensor | None = None,
    ids: Tensor | None = None,
) -> None:
    launch.check_noise(name, seeds, ids, x.shape[0])
    launch.require("perturb", "sigma", sigma_rows, positive=False)
    if not x.numel():
        return
    run = launch.run_of("perturb", {"alpha": alpha_rows, "sigma": sigma_rows}, x)
    layout = Layout(out, x, most=launch.most_of(run))
    with launch.on(x.device):
        table = launch.Table((alpha, sigma, 0.0), (alpha_rows, sigma_rows, None), 3, x, run, layout.tile.VEC)
        if table.tensor is not None:
            table.fill(step_rows, LANGEVIN=False)
        perturb_kernel[layout.grid](
            out,
            x,
            launch.rounded(alpha, x.dtype),
            launch.rounded(sigma, x.dtype),
            name=name,
            seeds=seeds,
            ids=ids,
            T=launch.work_type(x.dtype),
            FINE=table.fine,
            **table.arguments,
            **layout.arguments,
        )
