"""corrector_step: a Langevin step whose step size is factor |z|^2 / |g|^2, where |z| and |g| are
the norms of each sample or the means of the batch's norms."""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl

from pyebm._arguments import entry
from pyebm._schemas import CorrectorStep, LangevinStep, StepOptions

from . import launch
from .batch_mean import batch_mean
from .coefficients import BLOCK, BLOCK_SIZE
from .functions import quotient, root
from .langevin import take_langevin_step
from .layout import SIZES, Layout
from .normal import normals
from .sample_sums import SPAN, put_spans, sum_of_spans, sum_of_squares
from .tile import name_of, place, read, rows_of, tiles


@triton.jit(do_not_specialize=SIZES)
def norms_kernel(
    noise_sums,  # [samples, parts], of |z|^2
    score_sums,  # [samples, parts], of |g|^2
    score,  # [samples, ...]
    name,  # [4] int64: seed, first_sample, step, stream
    seeds,  # [samples] int64 or None
    ids,  # [samples] int64 or None
    samples,  # how many
    pitch,  # accesses of TILE.UNIT elements in a sample
    parts,  # tiles side by side in a sample
    turns,  # tiles of a program: 1
    sizes,  # of the dimensions, or None: all tensors are contiguous (layout.py)
    strides,  # of each tensor of the layout, in order; None where contiguous
    T: tl.constexpr,  # the type of the arithmetic
    TILE: tl.constexpr,  # layout.Tile
):
    rows = rows_of(samples, TILE)
    key = name_of((name, seeds, ids), rows)
    first, last = tiles(rows, parts, turns, TILE)
    for tile in range(first, last):
        at = place(tile, rows, pitch, TILE)
        g = read(score, at, sizes, strides[0], TILE, T)
        put_spans(score_sums, sum_of_squares(g, at, TILE), samples, TILE)
        put_spans(noise_sums, sum_of_squares(normals(at[0], key, TILE).to(T), at, TILE), samples, TILE)


@triton.jit(do_not_specialize=["parts", "samples"])
def size_kernel(
    out,  # [samples] float64: the step sizes, or where NORMS [2, samples]: |z| and |g|
    noise_sums,  # [samples, parts], of |z|^2
    score_sums,  # [samples, parts], of |g|^2
    parts,  # spans of a sample
    factor: tl.float64,  # of |z|^2 / |g|^2
    samples,  # how many
    NORMS: tl.constexpr,  # whether the norms are wanted, not the step sizes
):
    at = tl.program_id(0).to(tl.int64) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    inside = at < samples
    # A sum is rounded to the type of the arithmetic, as a loss is.
    T: tl.constexpr = noise_sums.dtype.element_ty
    z = sum_of_spans(noise_sums, at, inside, parts).to(T).to(tl.float64)
    g = sum_of_spans(score_sums, at, inside, parts).to(T).to(tl.float64)
    if NORMS:
        tl.store(out + at, root(z), mask=inside)
        tl.store(out + samples.to(tl.int64) + at, root(g), mask=inside)
    else:
        ratio = quotient(z, tl.where(inside, g, 1.0))
        tl.store(out + at, ratio * tl.full([BLOCK_SIZE], factor, tl.float64), mask=inside)


@triton.jit
def common_size_kernel(
    out,  # [1] float64: the step size
    z,  # [1] float64, the mean of |z|
    g,  # [1] float64, the mean of |g|
    factor: tl.float64,  # of |z|^2 / |g|^2
):
    first = tl.arange(0, 1)
    z_mean, g_mean = tl.load(z + first), tl.load(g + first)
    ratio = quotient(z_mean * z_mean, g_mean * g_mean)
    tl.store(out + first, ratio * tl.full([1], factor, tl.float64))


@entry(CorrectorStep)
def corrector_step(args: CorrectorStep) -> None:
    x, score, device = args.x, args.score, args.x.device
    launch.check_noise(args.name, args.seeds, args.ids, x.shape[0])
    if not x.numel():
        return
    layout = Layout(score, most=SPAN, span=True)
    samples, spans = layout.samples, layout.programs
    with launch.on(device):
        sums = torch.empty((2, samples, spans), dtype=launch.compute_dtype(x.dtype), device=device)
        norms_kernel[layout.grid](
            *sums.unbind(),
            score,
            args.name,
            args.seeds,
            args.ids,
            T=launch.work_type(x.dtype),
            **layout.arguments,
        )
        grid = (triton.cdiv(samples, BLOCK),)
        shape = (2, samples) if args.together else (samples,)
        sizes = torch.empty(shape, dtype=torch.float64, device=device)
        size_kernel[grid](
            sizes, *sums.unbind(), spans, args.factor, samples, NORMS=args.together, **launch.FAST
        )
        if args.together:
            z, g = map(batch_mean, sizes.unbind())
            sizes = torch.empty(1, dtype=torch.float64, device=device)
            common_size_kernel[(1,)](sizes, z, g, args.factor, **launch.FAST)
    options = StepOptions(None, args.mask, args.low, args.high, None, args.seeds, args.ids)
    take_langevin_step(LangevinStep(x, None, score, math.nan, 1.0, args.name, sizes, None, options))
