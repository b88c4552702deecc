"""target_score: the score of a closed-form target; target_energy: its energy too. A coupled sample
is in one tile where it fits; otherwise one program goes over the sample's tiles twice, first for
the numbers that they share."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from pyebm._arguments import entry
from pyebm._kinds import KINDS, TARGETS
from pyebm._schemas import TargetEnergy

from . import dense, dense_parameters, launch
from .coefficients import BLOCK
from .energies import add_energies, energy_kernel
from .layout import ELEMENTS, SIZES, Layout, shape_of
from .sample_sums import SPAN
from .scores import given_by_tile, given_in_memory, numbers_in_memory, score_of, vectors_of
from .tile import place, read, rows_of, tiles, write


@triton.jit(do_not_specialize=[*SIZES, "param_count", "elements"])
def score_kernel(
    out,  # [samples, ...]
    x,  # [samples, ...]
    numbers,  # params; Triton's launcher has a variable of that name
    param_count,  # how many of them
    elements,  # of a sample
    samples,  # how many
    pitch,  # accesses of TILE.UNIT elements in a sample
    parts,  # tiles side by side in a sample
    turns,  # tiles of a program
    sizes,  # of the dimensions, or None: all tensors are contiguous (layout.py)
    strides,  # of each tensor of the layout, in order; None where contiguous
    KIND: tl.constexpr,  # the target's row of pyebm/_kinds.py
    LONG: tl.constexpr,  # a sample takes more than one tile
    T: tl.constexpr,  # the type of the arithmetic
    TILE: tl.constexpr,  # layout.Tile
):
    rows = rows_of(samples, TILE)
    first, last = tiles(rows, parts, turns, TILE)
    if LONG:
        shared = numbers_in_memory(
            x, rows, pitch, first, last, sizes, strides[1], numbers, elements, KIND, T, TILE
        )
    for tile in range(first, last):
        at = place(tile, rows, pitch, TILE)
        state = read(x, at, sizes, strides[1], TILE, T)
        if LONG:
            given = given_in_memory(state, shared, x, at, sizes, strides[1], numbers, elements, KIND, TILE)
        else:
            vectors = vectors_of(numbers, elements, at, KIND, TILE)
            given = given_by_tile(state, vectors, numbers, elements, at, KIND, TILE)
        write(
            out,
            at,
            sizes,
            strides[0],
            TILE,
            score_of(state, given, numbers, param_count, elements, at, KIND, TILE),
        )


def checked(op: str, x: Tensor, target: int, params: Tensor) -> tuple[int, int, bool]:
    """(how many parameters, elements of a sample, whether they are coupled) of a target that fits
    x."""
    name = TARGETS[target]
    dense_parameters.require(op, x, name, params)
    return params.numel(), shape_of(x)[1], KINDS[name].coupled


def target_score(out: Tensor, x: Tensor, target: int, params: Tensor) -> None:
    if not x.numel():
        return
    if dense_parameters.has(target):
        dense.target_score(out, x, target, params)
        return
    count, elements, coupled = checked("target_score", x, target, params)
    layout = Layout(out, x, most=ELEMENTS // 2, whole=coupled)
    kind = {"KIND": KINDS[TARGETS[target]], "LONG": layout.long, "T": launch.work_type(x.dtype)}
    with launch.on(x.device):
        score_kernel[layout.grid](out, x, params, count, elements, **kind, **layout.arguments)


@entry(TargetEnergy)
def target_energy(args: TargetEnergy) -> None:
    x, params, kind = args.x, args.params, KINDS[TARGETS[args.target]]
    if kind.dense:
        raise ValueError(f"target_energy: the target {kind.name} has no kernel of its energy on a GPU")
    target_score(args.score, x, args.target, params)
    if not x.numel():
        args.energy.fill_(args.constant)
        return
    of_sums = kind.coupled and kind.name != "rosenbrock"  # whose energy is a sum over the elements
    layout = Layout(x, most=ELEMENTS // 2, whole=True) if of_sums else Layout(x, most=SPAN, span=True)
    with launch.on(x.device):
        partial = torch.empty((layout.samples, layout.programs), dtype=torch.float64, device=x.device)
        energy_kernel[layout.grid](
            partial,
            x,
            params,
            params.numel(),
            shape_of(x)[1],
            KIND=kind,
            SUMS=of_sums,
            LONG=layout.long,
            T=launch.work_type(x.dtype),
            **layout.arguments,
        )
        grid = (triton.cdiv(layout.samples, BLOCK),)
        add_energies[grid](args.energy, partial, args.constant, *partial.shape, **launch.FAST)
