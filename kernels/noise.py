"""normal_: the normals themselves."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from . import host
from .tile import SIZES, Tiling, noise, place, write


@triton.jit(do_not_specialize=SIZES)
def normal_kernel(
    out, name, seeds, ids, samples, pitch, UNIT: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, VEC: tl.constexpr
):
    row, valid, cell, start, offset, inside = place(samples, pitch, UNIT, ROWS, COLS, VEC)
    write(out, start, offset, inside, noise(name, seeds, ids, row, valid, cell, VEC))


def normal_(out: Tensor, name: Tensor, seeds: Tensor | None = None, ids: Tensor | None = None) -> None:
    samples, elements = host.shape_of(out)
    host.check_noise(name, seeds, ids, samples)
    if not out.numel():
        return
    tiling = Tiling(samples, elements, out.dtype)
    with host.results(out) as (target,):
        normal_kernel[tiling.grid](target, name, seeds, ids, **tiling.arguments)
