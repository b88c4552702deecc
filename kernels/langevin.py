"""langevin_step and affine_step: clamp((a x + b g) + c z), with a = 1, b = eta, c = sqrt(2 eta T) for the former."""

from __future__ import annotations

import math

import triton
import triton.language as tl
from torch import Tensor

from . import host
from .normal import normals
from .rows import step_rows
from .tile import clamped, coefficient, name_of, own_coefficient, place, read, rows_of, tiles, write
from .tiling import SIZES, Tiling, shape_of


@triton.jit(do_not_specialize=SIZES)
def step_kernel(
    out,
    mean,
    x,
    score,
    mask,
    a,
    b,
    c,
    low: tl.float64,
    high: tl.float64,
    score_clip: tl.float64,
    table,
    count,
    stride,
    name,
    seeds,
    ids,
    samples,
    pitch,
    parts,
    turns,
    sizes,
    strides,
    LANGEVIN: tl.constexpr,
    CLAMP: tl.constexpr,
    CLIP: tl.constexpr,
    FINE: tl.constexpr,
    T: tl.constexpr,
    TILE: tl.constexpr,
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
    out: Tensor,
    x: Tensor | None,
    score: Tensor,
    numbers: tuple[float, float, float],
    rows: dict[str, Tensor | None],
    name: Tensor,
    mean: Tensor | None,
    mask: Tensor | None,
    low: float | None,
    high: float | None,
    score_clip: float | None,
    seeds: Tensor | None,
    ids: Tensor | None,
) -> None:
    host.check_noise(name, seeds, ids, out.shape[0])
    if _overlaps_partly(out, score):
        raise ValueError("langevin_step_: x must not overlap score in part; clone one of them")
    if not out.numel():
        return
    x = out if x is None else x
    run = host.run_of("langevin_step" if langevin else "affine_step", rows, out)
    # Five tensors of single elements, or of full precision with coefficients besides.
    apart = shape_of(out)[1] % 2 == 1 or (run > 0 and out.element_size() >= 4)
    crowded = apart and (mean is not None or mask is not None)
    tiling = Tiling(out, mean, x, score, mask, most=host.most_of(run, crowded))
    with host.on(out.device):
        table = host.Table(numbers, [*rows.values()], 3, out, run, tiling.tile.VEC)
        if table.tensor is not None:
            table.fill(step_rows, LANGEVIN=langevin)
        a, b, c = numbers
        if langevin:
            c = math.sqrt(2.0 * b * c)
        a, b, c = (host.rounded(number, out.dtype) for number in (a, b, c))
        step_kernel[tiling.grid](
            out,
            mean,
            x,
            score,
            mask,
            a,
            b,
            c,
            -math.inf if low is None else low,
            math.inf if high is None else high,
            math.inf if score_clip is None else score_clip,
            name=name,
            seeds=seeds,
            ids=ids,
            LANGEVIN=langevin,
            CLAMP=low is not None or high is not None,
            CLIP=score_clip is not None,
            T=host.work_type(out.dtype),
            FINE=table.fine,
            **table.arguments,
            **tiling.arguments,
        )


def _overlaps_partly(out: Tensor, score: Tensor) -> bool:
    """Memory shared in part: two runs of bytes that intersect without being the same."""
    if not (out.is_contiguous() and score.is_contiguous()) or out.data_ptr() == score.data_ptr():
        return False
    begin, other = out.data_ptr(), score.data_ptr()
    return begin < other + score.nbytes and other < begin + out.nbytes


def langevin_step(
    out: Tensor,
    x: Tensor | None,
    score: Tensor,
    step_size: float,
    temperature: float,
    name: Tensor,
    step_size_rows: Tensor | None = None,
    temperature_rows: Tensor | None = None,
    mean: Tensor | None = None,
    mask: Tensor | None = None,
    low: float | None = None,
    high: float | None = None,
    score_clip: float | None = None,
    seeds: Tensor | None = None,
    ids: Tensor | None = None,
) -> None:
    host.require("langevin_step", "step_size", step_size_rows, positive=True)
    host.require("langevin_step", "temperature", temperature_rows, positive=False)
    numbers, rows = (1.0, step_size, temperature), {"a": None, "step_size": step_size_rows, "temperature": temperature_rows}
    _step(True, out, x, score, numbers, rows, name, mean, mask, low, high, score_clip, seeds, ids)


def affine_step(
    out: Tensor,
    x: Tensor | None,
    score: Tensor,
    a: float,
    b: float,
    c: float,
    name: Tensor,
    a_rows: Tensor | None = None,
    b_rows: Tensor | None = None,
    c_rows: Tensor | None = None,
    mean: Tensor | None = None,
    mask: Tensor | None = None,
    low: float | None = None,
    high: float | None = None,
    score_clip: float | None = None,
    seeds: Tensor | None = None,
    ids: Tensor | None = None,
) -> None:
    rows = {"a": a_rows, "b": b_rows, "c": c_rows}
    _step(False, out, x, score, (a, b, c), rows, name, mean, mask, low, high, score_clip, seeds, ids)
