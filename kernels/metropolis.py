"""metropolis: each sample takes its proposal or stays, and its score, energy and count follow;
dual_averaging: the next step sizes."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from pyebm._arguments import entry
from pyebm._schemas import DualAveraging, Metropolis

from . import launch
from .batch_mean import batch_mean
from .coefficients import BLOCK, BLOCK_SIZE, coefficient, value_of
from .functions import exponential, quotient, root
from .layout import SIZES, Layout, shape_of
from .normal import first_uniform
from .sample_sums import SPAN, put_spans, sum_of_spans, sum_of_squares
from .tile import name_of, place, read, rows_of, tiles, write


@triton.jit(do_not_specialize=SIZES)
def squares_kernel(
    first_sums,  # [samples, parts], of the squares at the sample
    second_sums,  # [samples, parts], of the squares at the proposal
    score,  # [samples, ...], like the next three
    proposal_score,
    before,  # MALA: the samples; HMC: the momenta before the trajectory
    after,  # MALA: the proposals; HMC: the momenta behind the trajectory
    step: tl.float64,  # eta, or eps/2, where there are no rows
    step_rows,  # [count] or None
    count,  # values in the rows
    stride,  # from one sample's value to the next, 0 or 1
    samples,  # how many
    pitch,  # accesses of TILE.UNIT elements in a sample
    parts,  # tiles side by side in a sample
    turns,  # tiles of a program: 1
    sizes,  # of the dimensions, or None: all tensors are contiguous (layout.py)
    strides,  # of each tensor of the layout, in order; None where contiguous
    MALA: tl.constexpr,  # else HMC
    T: tl.constexpr,  # the type of the arithmetic
    TILE: tl.constexpr,  # layout.Tile
):
    """Sum the squares of each span: for MALA |y - x - eta s(x)|^2 and |x - y - eta s(y)|^2, for HMC
    |p - eps/2 s(x)|^2 and |p' + eps/2 s(y)|^2."""
    rows = rows_of(samples, TILE)
    kappa = coefficient(step, (step_rows, count, stride), 0, rows, T)
    begin, end = tiles(rows, parts, turns, TILE)
    for tile in range(begin, end):
        at = place(tile, rows, pitch, TILE)
        first = read(before, at, sizes, strides[2], TILE, T)
        second = read(after, at, sizes, strides[3], TILE, T)
        kick = -kappa * read(score, at, sizes, strides[0], TILE, T)
        other = kappa * read(proposal_score, at, sizes, strides[1], TILE, T)
        if MALA:
            kick, other = (kick - first) + second, (other - first) + second
        else:
            kick, other = kick + first, other + second
        put_spans(first_sums, sum_of_squares(kick, at, TILE), samples, TILE)
        put_spans(second_sums, sum_of_squares(other, at, TILE), samples, TILE)


@triton.jit
def _accepts(alpha, uniform):
    """Whether log u < alpha, by the operations of csrc/common/metropolis.h."""
    surely = alpha > uniform - 1.0
    never = uniform * (1.0 - alpha) >= 1.0
    return surely | ((never == 0) & (uniform < exponential(alpha)))


@triton.jit(do_not_specialize=["parts", "per_sample", "samples"])
def decide_kernel(
    energy,  # [samples] float64, in place
    accepted,  # [samples] int64, in place: how many proposals were accepted so far
    accept,  # [samples] bool, whether this one is
    log_alpha,  # [samples] float64
    first_sums,  # [samples, parts], of the squares at the sample
    second_sums,  # [samples, parts], of the squares at the proposal
    parts,  # spans of a sample
    proposal_energy,  # [samples], of any floating dtype
    scale: tl.float64,  # the divisor of the squares' difference, where there are no rows
    scale_rows,  # [1] or [samples], or None
    per_sample,  # 1: there is more than one scale
    temperature: tl.float64,  # the divisor of the energies' difference
    name,  # [4] int64: seed, first_sample, step, stream
    seeds,  # [samples] int64 or None
    ids,  # [samples] int64 or None
    samples,  # how many
):
    at = tl.program_id(0).to(tl.int64) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    inside = at < samples
    # A sum is rounded to the type of the arithmetic, as a loss is.
    T: tl.constexpr = first_sums.dtype.element_ty
    squares = sum_of_spans(first_sums, at, inside, parts).to(T).to(tl.float64)
    squares -= sum_of_spans(second_sums, at, inside, parts).to(T).to(tl.float64)
    old = tl.load(energy + at, mask=inside, other=0.0)
    new = tl.load(proposal_energy + at, mask=inside, other=0.0).to(tl.float64)
    divisor = value_of(scale, scale_rows, at, inside, per_sample, 0)
    alpha = quotient(old - new, tl.full([BLOCK_SIZE], temperature, tl.float64)) + quotient(squares, divisor)
    alpha = tl.where(new == float("-inf"), float("-inf"), alpha)
    uniform = first_uniform(name_of((name, seeds, ids), (at, inside))).to(tl.float64)
    taken = _accepts(alpha, uniform)
    tl.store(log_alpha + at, alpha, mask=inside)
    tl.store(accept + at, taken, mask=inside)
    count = tl.load(accepted + at, mask=inside, other=0)
    tl.store(accepted + at, count + taken.to(tl.int64), mask=inside)
    tl.store(energy + at, tl.where(taken, new, old), mask=inside)


@triton.jit(do_not_specialize=SIZES)
def take_kernel(
    x,  # [samples, ...], in place
    score,  # [samples, ...], in place
    proposal,  # [samples, ...]
    proposal_score,  # [samples, ...]
    accept,  # [samples] bool
    samples,  # how many
    pitch,  # accesses of TILE.UNIT elements in a sample
    parts,  # tiles side by side in a sample
    turns,  # tiles of a program
    sizes,  # of the dimensions, or None: all tensors are contiguous (layout.py)
    strides,  # of each tensor of the layout, in order; None where contiguous
    T: tl.constexpr,  # the type of the arithmetic
    TILE: tl.constexpr,  # layout.Tile
):
    row, valid = rows_of(samples, TILE)
    rows = row, valid & (tl.load(accept + row, mask=valid, other=0) != 0)  # the others are left alone
    first, last = tiles(rows, parts, turns, TILE)
    for tile in range(first, last):
        at = place(tile, rows, pitch, TILE)
        write(x, at, sizes, strides[0], TILE, read(proposal, at, sizes, strides[2], TILE, T))
        write(score, at, sizes, strides[1], TILE, read(proposal_score, at, sizes, strides[3], TILE, T))


def _squares(args: Metropolis) -> Tensor:
    """The sums of squares over the samples' spans, (2, samples, spans)."""
    x, dtype = args.x, launch.compute_dtype(args.x.dtype)
    if not x.numel():
        return torch.zeros((2, x.shape[0], 1), dtype=dtype, device=x.device)
    before, after = (x, args.proposal) if args.first is None else (args.first, args.last)
    operands = (args.score, args.proposal_score, before, after)
    layout = Layout(*operands, most=SPAN, span=True)
    sums = torch.empty((2, layout.samples, layout.programs), dtype=dtype, device=x.device)
    squares_kernel[layout.grid](
        *sums.unbind(),
        *operands,
        args.step,
        **launch.rows_arguments("step", args.step_rows),
        MALA=args.first is None,
        T=launch.work_type(x.dtype),
        **layout.arguments,
    )
    return sums


@entry(Metropolis)
def metropolis(args: Metropolis) -> None:
    x, score, proposal, proposal_score = args.x, args.score, args.proposal, args.proposal_score
    samples = x.shape[0]
    launch.check_noise(args.name, args.seeds, args.ids, samples)
    if not samples:
        return
    scale_rows = None if args.scale_rows is None else args.scale_rows.contiguous()
    with launch.on(x.device):
        sums = _squares(args)
        decide_kernel[(triton.cdiv(samples, BLOCK),)](
            args.energy,
            args.accepted,
            args.accept,
            args.log_alpha,
            *sums.unbind(),
            sums.shape[2],
            args.proposal_energy.contiguous(),
            args.scale,
            scale_rows,
            int(scale_rows is not None and scale_rows.numel() > 1),
            args.temperature,
            args.name,
            args.seeds,
            args.ids,
            samples,
            **launch.FAST,
        )
        if x.numel():
            apart = shape_of(x)[1] % 2 == 1  # elements that move one at a time crowd the registers
            layout = Layout(x, score, proposal, proposal_score, most=launch.most_of(0, apart))
            take_kernel[layout.grid](
                x,
                score,
                proposal,
                proposal_score,
                args.accept,
                T=launch.work_type(x.dtype),
                **layout.arguments,
            )


@triton.jit
def _probability(log_alpha):
    """min(1, e^log_alpha), and 0 for NaN."""
    value = exponential(tl.where(log_alpha < 0, log_alpha, tl.zeros_like(log_alpha)))
    return tl.where(log_alpha == log_alpha, value, tl.zeros_like(value))


@triton.jit(do_not_specialize=["samples"])
def probability_kernel(
    out,  # [samples] float64, like log_alpha
    log_alpha,
    samples,  # how many
):
    at = tl.program_id(0).to(tl.int64) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    inside = at < samples
    tl.store(out + at, _probability(tl.load(log_alpha + at, mask=inside, other=0.0)), mask=inside)


@triton.jit(do_not_specialize=["samples"])
def average_kernel(
    step_size,  # [samples] float64, the next step's
    log_average,  # [samples] float64, in place: the average log of the step sizes
    gap,  # [samples] float64, in place: the average of target - acceptance
    log_alpha,  # [samples] float64, of the proposal that was tested
    middle,  # [samples] float64, the log step size that a gap of 0 gives
    steps,  # [1] float64, the steps taken so far
    acceptance,  # [1] float64, of all chains together, or None: each has its own
    warmup: tl.float64,  # the number of steps that adapt
    target: tl.float64,  # the acceptance that is wanted
    samples,  # how many
):
    """A step of dual averaging, by the operations of csrc/common/metropolis.h."""
    at = tl.program_id(0).to(tl.int64) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    one = tl.full([BLOCK_SIZE], 1.0, tl.float64)
    m = one * tl.load(steps) + 1.0
    inside = (at < samples) & (m <= warmup)
    square_root = root(m)
    share, weight = quotient(one, m + 10.0), quotient(one, root(m * square_root))
    slope = square_root * 20.0
    if acceptance is None:
        own = _probability(tl.load(log_alpha + at, mask=inside, other=0.0))
    else:
        own = one * tl.load(acceptance)
    old = tl.load(gap + at, mask=inside, other=0.0)
    new_gap = (1.0 - share) * old + share * (target - own)
    # A chain that never moves, or always does, must not end with a step of 0 or infinity, which the
    # kernels refuse.
    reach = slope * new_gap
    reach = tl.where(reach < -50.0, -50.0, reach)
    reach = tl.where(reach > 50.0, 50.0, reach)
    log_step = tl.load(middle + at, mask=inside, other=0.0) - reach
    average = weight * log_step + (1.0 - weight) * tl.load(log_average + at, mask=inside, other=0.0)
    tl.store(gap + at, new_gap, mask=inside)
    tl.store(log_average + at, average, mask=inside)
    tl.store(step_size + at, exponential(tl.where(m < warmup, log_step, average)), mask=inside)


@triton.jit
def count_kernel(steps):  # [1] float64, in place
    tl.store(steps, tl.load(steps) + 1.0)


@entry(DualAveraging)
def dual_averaging(args: DualAveraging) -> None:
    samples, acceptance = args.step_size.numel(), None
    grid = (triton.cdiv(samples, BLOCK),)
    with launch.on(args.step_size.device):
        if samples:
            if args.together:
                each = torch.empty(samples, dtype=torch.float64, device=args.step_size.device)
                probability_kernel[grid](each, args.log_alpha, samples, **launch.FAST)
                acceptance = batch_mean(each)
            average_kernel[grid](
                args.step_size,
                args.log_average,
                args.gap,
                args.log_alpha,
                args.middle,
                args.steps,
                acceptance,
                float(args.warmup),
                args.target,
                samples,
                **launch.FAST,
            )
        count_kernel[(1,)](args.steps, **launch.FAST)
