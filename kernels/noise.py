"""normal_ and uniform_ fill a tensor with the noise contract's numbers."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from . import launch
from .layout import SIZES, Layout
from .normal import normals, uniforms
from .tile import name_of, place, rows_of, tiles, write


@triton.jit(do_not_specialize=SIZES)
def noise_kernel(
    out,  # [samples, ...]
    name,  # [4] int64: seed, first_sample, step, stream
    seeds,  # [samples] int64 or None
    ids,  # [samples] int64 or None
    samples,  # how many
    pitch,  # accesses of TILE.UNIT elements in a sample
    parts,  # tiles side by side in a sample
    turns,  # tiles of a program
    sizes,  # of the dimensions, or None: all tensors are contiguous (layout.py)
    strides,  # of each tensor of the layout, in order; None where contiguous
    UNIFORM: tl.constexpr,  # uniforms, not normals
    TILE: tl.constexpr,  # layout.Tile
):
    rows = rows_of(samples, TILE)
    key = name_of((name, seeds, ids), rows)
    first, last = tiles(rows, parts, turns, TILE)
    for tile in range(first, last):
        at = place(tile, rows, pitch, TILE)
        if UNIFORM:
            value = uniforms(at[0], key, TILE)
        else:
            value = normals(at[0], key, TILE)
        write(out, at, sizes, strides[0], TILE, value)


def _fill(out: Tensor, name: Tensor, seeds: Tensor | None, ids: Tensor | None, uniform: bool) -> None:
    launch.check_noise(name, seeds, ids, out.shape[0])
    if not out.numel():
        return
    layout = Layout(out)
    with launch.on(out.device):
        noise_kernel[layout.grid](out, name, seeds, ids, UNIFORM=uniform, **layout.arguments)


def normal_(out: Tensor, name: Tensor, seeds: Tensor | None = None, ids: Tensor | None = None) -> None:
    _fill(out, name, seeds, ids, uniform=False)


def uniform_(out: Tensor, name: Tensor, seeds: Tensor | None = None, ids: Tensor | None = None) -> None:
    _fill(out, name, seeds, ids, uniform=True)
