"""network_hvp: the Hessian of a network's energy times vectors; network_laplacian: its trace. Once
forward and back for the gradient, then, for each vector, the change of both along it."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from pyebm._arguments import entry
from pyebm._schemas import NetworkHvp, NetworkLaplacian

from . import launch
from .layout import SIZES
from .network import Network, layout_of
from .network_kernels import elements_of, enter, rows_of_biases
from .network_passes import ALONG, KEPT, backward, forward, forward_along
from .tile import block_of, element_of, place, read, rows_of, tiles, write


@triton.jit
def _enter_vector(room, vector, quadratic, at, NET: tl.constexpr, TILE: tl.constexpr):
    """Take a tile of v for the next product."""
    cells, inside = elements_of(at, NET, TILE)
    tl.store(room + 2 * NET.dim * TILE.ROWS + cells, vector, mask=inside)
    tl.store(room + NET.dim * TILE.ROWS + cells, (quadratic + quadratic) * vector, mask=inside)


@triton.jit
def _multiply(room, params, columns, LAYERS: tl.constexpr, NET: tl.constexpr, ROWS: tl.constexpr):
    """Leave the Hessian times v in the place of the derivative with respect to x."""
    tl.debug_barrier()
    forward_along(room, columns, LAYERS, NET, ROWS)
    backward(room, params, NET.layers, ALONG, LAYERS, NET, ROWS)


@triton.jit(do_not_specialize=[*SIZES, "of_sample", "room"])
def network_hvp_kernel(
    out,  # [samples, ...]; without v [samples]: the trace
    x,  # [samples, ...]
    v,  # [samples, ...] or None
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
    strides,  # of out or x, x, and v; None where contiguous
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
        enter(mine, read(x, at, sizes, strides[1], TILE, T), quadratic, at, NET, TILE)
    tl.debug_barrier()
    bias_rows = rows_of_biases(samples, of_sample, TILE.ROWS)
    forward(mine, numbers, columns, biases, bias_rows, NET.layers, True, LAYERS, NET, TILE.ROWS)
    backward(mine, numbers, NET.layers, KEPT, LAYERS, NET, TILE.ROWS)
    if v is not None:
        for tile in range(first, last):
            at = place(tile, rows, pitch, TILE)
            _enter_vector(mine, read(v, at, sizes, strides[2], TILE, T), quadratic, at, NET, TILE)
        _multiply(mine, numbers, columns, LAYERS, NET, TILE.ROWS)
        for tile in range(first, last):
            at = place(tile, rows, pitch, TILE)
            cells, inside = elements_of(at, NET, TILE)
            product = tl.load(mine + NET.dim * TILE.ROWS + cells, mask=inside, other=0)
            write(out, at, sizes, strides[0], TILE, product)
    else:
        row = tl.arange(0, TILE.ROWS)
        trace = tl.zeros([TILE.ROWS], T)
        for d in range(NET.dim):
            for tile in range(first, last):
                at = place(tile, rows, pitch, TILE)
                unit = (element_of(at, TILE).to(tl.int32) == d).to(T)
                _enter_vector(mine, unit, quadratic, at, NET, TILE)
            _multiply(mine, numbers, columns, LAYERS, NET, TILE.ROWS)
            trace = trace + tl.load(mine + (NET.dim + d) * TILE.ROWS + row)
            tl.debug_barrier()  # the next vector takes the place of what other threads read
        sample = block_of() * TILE.ROWS + row
        tl.store(out + sample, trace, mask=sample < samples)


def _launch(args: NetworkHvp | NetworkLaplacian, v: Tensor | None) -> None:
    x = args.x
    network = Network(x, args.layout, args.params, args.biases, x.shape[0], twice=True)
    if not network.net.is_energy:
        raise ValueError("network: a network that gives scores has no Hessian")
    if not x.numel():
        return
    layout = layout_of(x if v is None else args.out, x, v)
    with launch.on(x.device):
        network_hvp_kernel[layout.grid](args.out, x, v, **network.arguments(layout))


@entry(NetworkHvp)
def network_hvp(args: NetworkHvp) -> None:
    _launch(args, args.v)


@entry(NetworkLaplacian)
def network_laplacian(args: NetworkLaplacian) -> None:
    _launch(args, None)
