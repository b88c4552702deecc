"""network_score: the score of a network, and its energy; network_chain: many Langevin steps on one,
in one launch. network_passes.py says how a program goes through a network."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from pyebm._arguments import entry
from pyebm._composed.network import check_network
from pyebm._schemas import ACTIVATIONS, ChainSteps, NetworkChain, NetworkScore

from . import launch
from .batch_mean import halved
from .chain import _strides
from .chain_step import coefficients, first_bad, stepped
from .layout import SIZES, Layout, shape_of
from .network_passes import backward, forward
from .sample_sums import SPAN
from .tile import block_of, element_of, name_of, place, read, rows_of, tiles, write

_ROWS = 16  # samples of a program
_SPAN: tl.constexpr = tl.constexpr(SPAN)
_LANES: tl.constexpr = tl.constexpr(32)  # kSumLanes


class Net(NamedTuple):
    """The constants of a network, besides its layers, that a kernel is compiled for."""

    is_energy: bool
    dim: int
    layers: int
    widest: int  # outputs of a layer
    outputs: int  # the line of a room where the layers' outputs begin
    quadratic: int  # its place in params


class Network:
    """A network as the kernels take it. Its weights are copied, with a row for each input."""

    def __init__(self, x: Tensor, wiring: Tensor, params: Tensor, biases: Tensor | None, rows: int) -> None:
        numbers = wiring.tolist()
        elements = shape_of(x)[1]
        check_network(numbers, elements or numbers[1], params, biases, (1, rows))
        kind, dim, count, *rest = numbers
        width, at, of_row, of_columns = dim, 0, 0, 0
        slopes = dim * (2 - kind)
        self.layers: list[Any] = []
        parts = []
        for k in range(0, len(rest), 4):
            outputs, activation, residual, skip = rest[k : k + 4]
            inputs = width + dim * skip
            parts.append((at, of_columns, outputs, inputs))
            bias, parameter = at + outputs * inputs, at + outputs * (inputs + 1)
            self.layers += [width, outputs, ACTIVATIONS[activation], residual, skip, at, of_columns]
            self.layers += [bias if biases is None else of_row, parameter, slopes]
            slopes += outputs * (1 - kind)
            at, of_row, of_columns, width = (
                parameter + 1,
                of_row + outputs,
                of_columns + outputs * inputs,
                outputs,
            )
        widest = max(rest[0::4])
        self.net = Net(kind == 0, dim, count, widest, slopes, at)
        self.room = (slopes + 2 * widest) * _ROWS
        linear = ACTIVATIONS[rest[-3]] == "identity"
        self.needed = count - 1 if kind == 0 and linear else count  # layers whose values a score needs
        self.params, self.biases = params, params if biases is None else biases
        self.of_sample, self.of_step = 0, 0
        if biases is not None and biases.shape[0] > 1:
            self.of_sample = of_row
        self.columns = params.new_empty(of_columns)
        for start, to, outputs, inputs in parts:
            weights = params[start : start + outputs * inputs].view(outputs, inputs)
            self.columns[to : to + outputs * inputs].view(inputs, outputs).copy_(weights.t())

    def by_step(self) -> None:
        """Makes each row of biases one of a step, not of a sample."""
        self.of_sample, self.of_step = 0, self.of_sample

    def arguments(self, layout: Layout) -> dict[str, Any]:
        return {
            "rooms": self.params.new_empty(layout.blocks * self.room),
            "room": self.room,
            "numbers": self.params,
            "columns": self.columns,
            "biases": self.biases,
            "of_sample": self.of_sample,
            "NET": self.net,
            "LAYERS": tuple(self.layers),
            "T": tl.float64 if self.params.dtype == torch.float64 else tl.float32,
            **layout.arguments,
            "num_warps": 4,
        }


def _layout(out: Tensor, *others: Tensor) -> Layout:
    return Layout(out, *others, most=512 if out.dtype == torch.float64 else 1024, rows=_ROWS)


@triton.jit
def _elements(at, NET: tl.constexpr, TILE: tl.constexpr):
    """The places of a tile's elements in a room, (N, VEC), and which of them are a sample's."""
    element = element_of(at, TILE).to(tl.int32)
    row = tl.arange(0, TILE.ROWS * TILE.COLS) // TILE.COLS
    return element * TILE.ROWS + row[:, None], element < NET.dim


@triton.jit
def _enter(room, state, quadratic, at, NET: tl.constexpr, TILE: tl.constexpr):
    """Takes a tile of x for the next pass."""
    cells, inside = _elements(at, NET, TILE)
    tl.store(room + cells, state, mask=inside)
    if NET.is_energy:
        pull = (quadratic + quadratic) * state
        tl.store(room + NET.dim * TILE.ROWS + cells, pull, mask=inside)


@triton.jit
def _score(room, state, quadratic, at, NET: tl.constexpr, TILE: tl.constexpr):
    """The score of a tile after a pass, (N, VEC)."""
    cells, inside = _elements(at, NET, TILE)
    if NET.is_energy:
        score = tl.load(room + NET.dim * TILE.ROWS + cells, mask=inside, other=0)
        score = score * tl.full(score.shape, -1.0, score.dtype)
    else:
        out = room + (NET.outputs + ((NET.layers - 1) % 2) * NET.widest) * TILE.ROWS
        score = tl.load(out + cells, mask=inside, other=0)
        pull = tl.zeros_like(score) + quadratic * tl.full([], -2.0, score.dtype)
        score = tl.where(quadratic != 0, tl.fma(pull, state, score), score)
    return score


@triton.jit
def _energies(room, quadratic, NET: tl.constexpr, ROWS: tl.constexpr):
    """The energy of each sample, (ROWS,) in float64, after a pass forward through all layers."""
    row = tl.arange(0, ROWS)
    squares = tl.zeros([ROWS], tl.float64)
    for first in range(0, NET.dim, _SPAN):
        end = tl.minimum(first + _SPAN, NET.dim)
        lanes = tl.zeros([ROWS, _LANES], room.dtype.element_ty)
        for d in range(first, end, _LANES):
            element = d + tl.arange(0, _LANES)
            cells = room + element[None, :] * ROWS + row[:, None]
            x = tl.load(cells, mask=tl.broadcast_to((element < end)[None, :], (ROWS, _LANES)), other=0)
            lanes = lanes + x * x
        squares += tl.reshape(halved(lanes, ROWS, _LANES), (ROWS,)).to(tl.float64)
    out = room + (NET.outputs + ((NET.layers - 1) % 2) * NET.widest) * ROWS
    return tl.load(out + row).to(tl.float64) + quadratic.to(tl.float64) * squares


@triton.jit
def _rows_of_biases(samples, of_sample, ROWS: tl.constexpr):
    """Where each sample's row of biases begins, (ROWS,)."""
    sample = block_of() * ROWS + tl.arange(0, ROWS)
    return tl.minimum(sample, samples - 1) * of_sample


@triton.jit(do_not_specialize=[*SIZES, "of_sample", "room"])
def network_score_kernel(
    out,  # [samples, ...] or None
    x,  # [samples, ...]
    energy,  # [samples], float32 or float64, or None
    rooms,  # [blocks, room]
    room,  # numbers of a block: network_passes.py
    numbers,  # the network's params
    columns,  # the weights, with a row for each input
    biases,  # the same, or rows of all layers' biases
    of_sample,  # from one sample's row of biases to the next, or 0
    samples,  # how many
    pitch,  # accesses of TILE.UNIT elements in a sample
    parts,
    turns,
    sizes,  # of the dimensions, or None: all tensors are contiguous (layout.py)
    strides,  # of each tensor of the layout, in order; None where contiguous
    COUNT: tl.constexpr,  # layers whose values are needed
    NET: tl.constexpr,  # Net
    LAYERS: tl.constexpr,  # network_passes.py
    T: tl.constexpr,  # the type of the arithmetic
    TILE: tl.constexpr,  # layout.Tile
):
    rows = rows_of(samples, TILE)
    mine = rooms + block_of() * room
    quadratic = tl.load(numbers + NET.quadratic)
    first, last = tiles(rows, parts, turns, TILE)
    for tile in range(first, last):
        at = place(tile, rows, pitch, TILE)
        _enter(mine, read(x, at, sizes, strides[1], TILE, T), quadratic, at, NET, TILE)
    tl.debug_barrier()
    bias_rows = _rows_of_biases(samples, of_sample, TILE.ROWS)
    forward(mine, numbers, columns, biases, bias_rows, COUNT, LAYERS, NET, TILE.ROWS)
    if energy is not None:
        value = _energies(mine, quadratic, NET, TILE.ROWS)
        sample = block_of() * TILE.ROWS + tl.arange(0, TILE.ROWS)
        tl.store(energy + sample, value.to(energy.dtype.element_ty), mask=sample < samples)
        tl.debug_barrier()
    if out is not None:
        if NET.is_energy:
            backward(mine, numbers, COUNT, LAYERS, NET, TILE.ROWS)
        for tile in range(first, last):
            at = place(tile, rows, pitch, TILE)
            state = read(x, at, sizes, strides[1], TILE, T)
            write(out, at, sizes, strides[0], TILE, _score(mine, state, quadratic, at, NET, TILE))


@triton.jit(
    do_not_specialize=[
        *SIZES,
        *("of_sample", "of_step", "room", "n_steps", "thin", "h_sample", "h_step", "t_sample", "t_step"),
    ]
)
def network_chain_kernel(
    x,  # [samples, ...], in place
    states,  # [n_steps // thin, samples, ...] or None
    bad,  # [samples] or None
    rooms,  # [blocks, room]
    room,  # numbers of a block: network_passes.py
    numbers,  # the network's params
    columns,  # the weights, with a row for each input
    biases,  # the same, or rows of all layers' biases
    of_sample,  # from one sample's row of biases to the next, or 0
    of_step,  # from one step's row of biases to the next, or 0
    n_steps,
    thin,  # the states of every thin-th step are kept
    step_size: tl.float64,  # this and the numbers up to the ids: as chain.py's
    temperature: tl.float64,
    h_rows,
    h_sample,
    h_step,
    t_rows,
    t_sample,
    t_step,
    low: tl.float64,
    high: tl.float64,
    name,
    seeds,
    ids,
    samples,  # how many
    pitch,  # accesses of TILE.UNIT elements in a sample
    parts,
    turns,
    sizes,  # of the dimensions, or None: all tensors are contiguous (layout.py)
    strides,  # of each tensor of the layout, in order; None where contiguous
    NEVER: tl.constexpr,  # for ``bad``: a number beyond all steps
    CLAMP: tl.constexpr,  # whether there is a clamp
    COUNT: tl.constexpr,  # layers whose values are needed
    NET: tl.constexpr,  # Net
    LAYERS: tl.constexpr,  # network_passes.py
    T: tl.constexpr,  # the type of the arithmetic
    TILE: tl.constexpr,  # layout.Tile
):
    """All steps of a block of samples. The state lies in x, and in the block's room. ``bad`` gets
    the first step after which an element was not finite, or NEVER."""
    rows = rows_of(samples, TILE)
    key = name_of((name, seeds, ids), rows)
    mine = rooms + block_of() * room
    quadratic = tl.load(numbers + NET.quadratic)
    first, last = tiles(rows, parts, turns, TILE)
    for tile in range(first, last):
        at = place(tile, rows, pitch, TILE)
        _enter(mine, read(x, at, sizes, strides[0], TILE, T), quadratic, at, NET, TILE)
    tl.debug_barrier()
    bias_rows = _rows_of_biases(samples, of_sample, TILE.ROWS)
    until = thin
    kept = samples.to(tl.int64) * 0  # samples written before
    if bad is not None:
        found = tl.full([TILE.ROWS * TILE.COLS], NEVER, bad.dtype.element_ty)
    for k in range(n_steps):
        of_now = biases + tl.cast(k, tl.int64) * of_step
        forward(mine, numbers, columns, of_now, bias_rows, COUNT, LAYERS, NET, TILE.ROWS)
        if NET.is_energy:
            backward(mine, numbers, COUNT, LAYERS, NET, TILE.ROWS)
        eta = (step_size, h_rows, h_sample, h_step)
        h, c = coefficients(eta, (temperature, t_rows, t_sample, t_step), k, rows, T)
        until -= 1
        for tile in range(first, last):
            at = place(tile, rows, pitch, TILE)
            state = read(x, at, sizes, strides[0], TILE, T)
            score = _score(mine, state, quadratic, at, NET, TILE)
            state = stepped(state, score, h, c, key, k, at, low, high, CLAMP, x.dtype.element_ty, T, TILE)
            write(x, at, sizes, strides[0], TILE, state)
            _enter(mine, state, quadratic, at, NET, TILE)
            if states is not None:  # noqa: SIM102  known while compiling; the other is not
                if until == 0:
                    write(states + kept * (pitch.to(tl.int64) * TILE.UNIT), at, None, None, TILE, state)
            if bad is not None:
                found = first_bad(found, state, k, at, TILE)
        if until == 0:
            until = thin
            kept += samples
        tl.debug_barrier()  # the next step reads what other threads have written
    if bad is not None:
        of_samples = tl.min(tl.reshape(found, (TILE.ROWS, TILE.COLS)), axis=1)
        which = block_of() * TILE.ROWS + tl.arange(0, TILE.ROWS)
        tl.store(bad + which, of_samples, mask=which < samples)


@entry(NetworkScore)
def network_score(args: NetworkScore) -> None:
    x, energy = args.x, args.energy
    if args.score is None and energy is None:
        raise ValueError("network_score: score or energy must be given")
    network = Network(x, args.layout, args.params, args.biases, x.shape[0])
    if energy is not None and not network.net.is_energy:
        raise ValueError("network_score: a network that gives scores has no energy")
    if not x.numel():
        return
    layout = _layout(x if args.score is None else args.score, x)
    with launch.on(x.device):
        network_score_kernel[layout.grid](
            args.score,
            x,
            energy,
            COUNT=network.needed if energy is None else network.net.layers,
            **network.arguments(layout),
        )


def _check(steps: ChainSteps, samples: int) -> None:
    if steps.mask is not None or steps.score_clip is not None:
        raise ValueError(
            "network_chain: mask and score_clip are the CPU's kernel's; take a loop of langevin_step"
        )
    launch.check_noise(steps.name, steps.seeds, steps.ids, samples, steps.n_steps)
    for label, rows, positive, per_step in (
        ("step_size", steps.step_size_rows, True, steps.step_size_per_step),
        ("temperature", steps.temperature_rows, False, steps.temperature_per_step),
    ):
        launch.require("network_chain", label, rows, positive, "step" if per_step else "sample")


@entry(NetworkChain)
def network_chain(args: NetworkChain) -> None:
    x, steps = args.x, args.steps
    if args.known is not None:
        raise ValueError("network_chain: known elements are the CPU's kernel's")
    _check(steps, x.shape[0])
    rows = steps.n_steps if args.biases_per_step else x.shape[0]
    network = Network(x, args.layout, args.params, args.biases, rows)
    if args.biases_per_step:
        network.by_step()
    if steps.diverged is not None:
        steps.diverged.fill_(-1)
    if not x.numel() or steps.n_steps == 0:
        return
    layout = _layout(x)
    h_rows, h_sample, h_step = _strides(steps.step_size_rows, steps.step_size_per_step)
    t_rows, t_sample, t_step = _strides(steps.temperature_rows, steps.temperature_per_step)
    never = 2**62 if steps.n_steps >= 2**31 else 2**31 - 1
    with launch.on(x.device):
        bad = None
        if steps.diverged is not None:
            kind = torch.int64 if steps.n_steps >= 2**31 else torch.int32
            bad = torch.empty(layout.samples, dtype=kind, device=x.device)
        network_chain_kernel[layout.grid](
            x,
            steps.states,
            bad,
            of_step=network.of_step,
            n_steps=steps.n_steps,
            thin=steps.thin or 1,
            step_size=steps.step_size,
            temperature=steps.temperature,
            h_rows=h_rows,
            h_sample=h_sample,
            h_step=h_step,
            t_rows=t_rows,
            t_sample=t_sample,
            t_step=t_step,
            low=-math.inf if steps.low is None else steps.low,
            high=math.inf if steps.high is None else steps.high,
            name=steps.name,
            seeds=steps.seeds,
            ids=steps.ids,
            NEVER=never,
            CLAMP=steps.low is not None or steps.high is not None,
            COUNT=network.needed,
            **network.arguments(layout),
        )
        if bad is not None and steps.diverged is not None:
            steps.diverged.copy_(torch.where(bad < steps.n_steps, bad, -1))
