"""perturb: alpha x + sigma z."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from . import host
from .rows import step_rows
from .tile import SIZES, Tiling, coefficient, noise, place, read, write


@triton.jit(do_not_specialize=SIZES)
def perturb_kernel(
    out,
    x,
    alpha,
    sigma,
    table,
    count,
    stride,
    name,
    seeds,
    ids,
    samples,
    pitch,
    T: tl.constexpr,
    UNIT: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
    VEC: tl.constexpr,
):
    row, valid, cell, start, offset, inside = place(samples, pitch, UNIT, ROWS, COLS, VEC)
    value = read(x, start, offset, inside, T)
    z = noise(name, seeds, ids, row, valid, cell, VEC).to(T)
    a = coefficient(alpha, table, 0, row, valid, count, stride, T)
    s = coefficient(sigma, table, 1, row, valid, count, stride, T)
    write(out, start, offset, inside, a * value + s * z)


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
    samples, elements = host.shape_of(x)
    host.check_noise(name, seeds, ids, samples)
    host.require("perturb", "sigma", sigma_rows, positive=True)
    if not x.numel():
        return
    tiling = Tiling(samples, elements, x.dtype)
    with host.results(out) as (target,):
        table = host.Table((alpha, sigma, 0.0), (alpha_rows, sigma_rows, None), 3, x)
        if table.tensor is not None:
            table.fill(step_rows, LANGEVIN=False)
        perturb_kernel[tiling.grid](
            target,
            host.packed(x),
            host.rounded(alpha, x.dtype),
            host.rounded(sigma, x.dtype),
            name=name,
            seeds=seeds,
            ids=ids,
            T=host.work_type(x.dtype),
            **table.arguments,
            **tiling.arguments,
        )
