"""A network on the device: forward through the layers, and back to x, for a block of samples.

A program takes ROWS samples. Their room in memory has a line of ROWS numbers for each neuron: x, of
an energy the derivative with respect to x, of an energy each layer's slopes, and the outputs of one
layer and the next. Second derivatives (network_hvp.py) need more: the vector v that the Hessian is
multiplied by, behind the derivative with respect to x, and three blocks of lines behind each
layer's slopes. An output is one chain of fused multiply-adds, which starts from a number (a
bias) and takes the inputs in their order, so its bits depend on nothing but the sample.

A layer is a row of LAYER numbers in LAYERS (network.py makes it).
"""

import triton
import triton.language as tl

from .activations import activated

# The places of a layer's numbers in its row.
INPUTS: tl.constexpr = tl.constexpr(0)
OUTPUTS: tl.constexpr = tl.constexpr(1)
ACTIVATION: tl.constexpr = tl.constexpr(2)
RESIDUAL: tl.constexpr = tl.constexpr(3)
SKIP: tl.constexpr = tl.constexpr(4)
WEIGHTS: tl.constexpr = tl.constexpr(5)
COLUMNS: tl.constexpr = tl.constexpr(6)
BIAS: tl.constexpr = tl.constexpr(7)
PARAMETER: tl.constexpr = tl.constexpr(8)
SLOPES: tl.constexpr = tl.constexpr(9)
LAYER: tl.constexpr = tl.constexpr(10)
_AT_ONCE: tl.constexpr = tl.constexpr(64)  # outputs
# The blocks of lines that a layer has: the slopes; their own slopes; the derivative with respect to
# the outputs; and how the slopes change along v.
CURVES: tl.constexpr = tl.constexpr(1)
GRADIENTS: tl.constexpr = tl.constexpr(2)
BENDS: tl.constexpr = tl.constexpr(3)
# The sweeps back: of the gradient; to the first layer's outputs, whose derivatives are kept; and of
# the gradient's change along v.
PLAIN: tl.constexpr = tl.constexpr(0)
KEPT: tl.constexpr = tl.constexpr(1)
ALONG: tl.constexpr = tl.constexpr(2)


@triton.jit
def _add_products(total, h, weights, pitch, count, column, inside, ROWS: tl.constexpr):
    """total + the sum over ``count`` lines of h times weights, of which one line is ``pitch`` after
    the last; (outputs, ROWS)."""
    row = tl.arange(0, ROWS)
    for i in tl.range(0, count, loop_unroll_factor=4):
        a = tl.load(h + i * ROWS + row)
        b = tl.load(weights + i * pitch + column, mask=inside, other=0)
        total = tl.fma(
            tl.broadcast_to(b[:, None], total.shape), tl.broadcast_to(a[None, :], total.shape), total
        )
    return total


@triton.jit
def _cells(column, ROWS: tl.constexpr):
    return column[:, None] * ROWS + tl.arange(0, ROWS)[None, :]


@triton.jit
def _values(room, L: tl.constexpr, NET: tl.constexpr, ROWS: tl.constexpr):
    """The outputs of layer L in a room; they take turns in two places."""
    return room + (NET.outputs + (L % 2) * NET.widest) * ROWS


@triton.jit
def lines_of(room, L: tl.constexpr, BLOCK: tl.constexpr, LAYERS: tl.constexpr, ROWS: tl.constexpr):
    """A block of lines of layer L in a room."""
    return room + (LAYERS[LAYER * L + SLOPES] + BLOCK * LAYERS[LAYER * L + OUTPUTS]) * ROWS


@triton.jit
def _forward_layer(
    room, params, columns, biases, bias_rows, L: tl.constexpr, CURVED: tl.constexpr, LAYERS: tl.constexpr,
    NET: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    N_IN: tl.constexpr = LAYERS[LAYER * L + INPUTS]
    N_OUT: tl.constexpr = LAYERS[LAYER * L + OUTPUTS]
    h = room
    if L > 0:
        h = _values(room, L - 1, NET, ROWS)
    out = _values(room, L, NET, ROWS)
    weights = columns + LAYERS[LAYER * L + COLUMNS]
    parameter = tl.load(params + LAYERS[LAYER * L + PARAMETER])
    for first in range(0, N_OUT, _AT_ONCE):
        column = first + tl.arange(0, _AT_ONCE)
        inside = column < N_OUT
        cells, there = _cells(column, ROWS), tl.broadcast_to(inside[:, None], (_AT_ONCE, ROWS))
        bias = biases + LAYERS[LAYER * L + BIAS] + bias_rows[None, :] + column[:, None]
        total = tl.load(bias, mask=there, other=0)
        total = _add_products(total, h, weights, N_OUT, N_IN, column, inside, ROWS)
        if LAYERS[LAYER * L + SKIP]:
            total = _add_products(total, room, weights + N_IN * N_OUT, N_OUT, NET.dim, column, inside, ROWS)
        value, slope, curve = activated(total, parameter, LAYERS[LAYER * L + ACTIVATION], CURVED)
        if LAYERS[LAYER * L + RESIDUAL]:
            value = value + tl.load(h + cells, mask=there, other=0)
        tl.store(out + cells, value, mask=there)
        if NET.is_energy:
            tl.store(lines_of(room, L, 0, LAYERS, ROWS) + cells, slope, mask=there)
        if CURVED:
            tl.store(lines_of(room, L, CURVES, LAYERS, ROWS) + cells, curve, mask=there)
    tl.debug_barrier()  # the next layer reads what other threads have written


@triton.jit
def forward(
    room, params, columns, biases, bias_rows, COUNT: tl.constexpr, CURVED: tl.constexpr,
    LAYERS: tl.constexpr, NET: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Go forward through the first COUNT layers; CURVED keeps the activations' second derivatives
    too. bias_rows, (ROWS,): where each sample's row of biases begins."""
    for layer in tl.static_range(COUNT):
        _forward_layer(room, params, columns, biases, bias_rows, layer, CURVED, LAYERS, NET, ROWS)


@triton.jit
def _along_layer(room, columns, L: tl.constexpr, LAYERS: tl.constexpr, NET: tl.constexpr, ROWS: tl.constexpr):
    N_IN: tl.constexpr = LAYERS[LAYER * L + INPUTS]
    N_OUT: tl.constexpr = LAYERS[LAYER * L + OUTPUTS]
    v = room + 2 * NET.dim * ROWS
    h = v
    if L > 0:
        h = _values(room, L - 1, NET, ROWS)
    weights = columns + LAYERS[LAYER * L + COLUMNS]
    for first in range(0, N_OUT, _AT_ONCE):
        column = first + tl.arange(0, _AT_ONCE)
        inside = column < N_OUT
        cells, there = _cells(column, ROWS), tl.broadcast_to(inside[:, None], (_AT_ONCE, ROWS))
        total = tl.zeros([_AT_ONCE, ROWS], room.dtype.element_ty)
        total = _add_products(total, h, weights, N_OUT, N_IN, column, inside, ROWS)
        if LAYERS[LAYER * L + SKIP]:
            total = _add_products(total, v, weights + N_IN * N_OUT, N_OUT, NET.dim, column, inside, ROWS)
        curve = tl.load(lines_of(room, L, CURVES, LAYERS, ROWS) + cells, mask=there, other=0)
        tl.store(lines_of(room, L, BENDS, LAYERS, ROWS) + cells, total * curve, mask=there)
        total = total * tl.load(lines_of(room, L, 0, LAYERS, ROWS) + cells, mask=there, other=0)
        if LAYERS[LAYER * L + RESIDUAL]:
            total = total + tl.load(h + cells, mask=there, other=0)
        tl.store(_values(room, L, NET, ROWS) + cells, total, mask=there)
    tl.debug_barrier()


@triton.jit
def forward_along(room, columns, LAYERS: tl.constexpr, NET: tl.constexpr, ROWS: tl.constexpr):
    """Make the change along v of all layers' outputs and slopes."""
    for layer in tl.static_range(NET.layers):
        _along_layer(room, columns, layer, LAYERS, NET, ROWS)


@triton.jit
def _pull(
    room, change, cells, there, L: tl.constexpr, SWEEP: tl.constexpr, LAYERS: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """Store the derivative with respect to the sums of layer L, or its change, where the next layer
    of the sweep finds it; ``change``: that with respect to the outputs."""
    slopes = lines_of(room, L, 0, LAYERS, ROWS) + cells
    pulled = change * tl.load(slopes, mask=there, other=0)
    if SWEEP == PLAIN:
        tl.store(slopes, pulled, mask=there)
    else:
        gradients = lines_of(room, L, GRADIENTS, LAYERS, ROWS) + cells
        bends = lines_of(room, L, BENDS, LAYERS, ROWS) + cells
        if SWEEP == KEPT:
            tl.store(gradients, change, mask=there)
        else:
            gradient = tl.load(gradients, mask=there, other=0)
            pulled = tl.fma(gradient, tl.load(bends, mask=there, other=0), pulled)
        tl.store(bends, pulled, mask=there)


@triton.jit
def _backward_layer(
    room, params, L: tl.constexpr, SWEEP: tl.constexpr, LAYERS: tl.constexpr, NET: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    T: tl.constexpr = room.dtype.element_ty
    N_IN: tl.constexpr = LAYERS[LAYER * L + INPUTS]
    N_OUT: tl.constexpr = LAYERS[LAYER * L + OUTPUTS]
    PITCH: tl.constexpr = N_IN + NET.dim * LAYERS[LAYER * L + SKIP]
    to_x = room + NET.dim * ROWS
    g = lines_of(room, L, 0 if SWEEP == PLAIN else BENDS, LAYERS, ROWS)  # as _pull leaves it
    weights = params + LAYERS[LAYER * L + WEIGHTS]
    above = _values(room, NET.layers - 1 - L, NET, ROWS)  # the derivative by a residual layer's outputs
    below = _values(room, NET.layers - L, NET, ROWS)
    if L > 0 and SWEEP != KEPT and LAYERS[LAYER * L + SKIP]:
        for first in range(0, NET.dim, _AT_ONCE):
            column = first + tl.arange(0, _AT_ONCE)
            inside = column < NET.dim
            cells, there = _cells(column, ROWS), tl.broadcast_to(inside[:, None], (_AT_ONCE, ROWS))
            total = tl.load(to_x + cells, mask=there, other=0)
            total = _add_products(total, g, weights + N_IN, PITCH, N_OUT, column, inside, ROWS)
            tl.store(to_x + cells, total, mask=there)
    for first in range(0, N_IN, _AT_ONCE):
        column = first + tl.arange(0, _AT_ONCE)
        inside = column < N_IN
        cells, there = _cells(column, ROWS), tl.broadcast_to(inside[:, None], (_AT_ONCE, ROWS))
        total = tl.zeros([_AT_ONCE, ROWS], T)
        if L == 0:
            total = tl.load(to_x + cells, mask=there, other=0)
        if LAYERS[LAYER * L + RESIDUAL]:
            total = total + tl.load(above + cells, mask=there, other=0)
        total = _add_products(total, g, weights, PITCH, N_OUT, column, inside, ROWS)
        if L == 0:
            if LAYERS[LAYER * L + SKIP]:
                total = _add_products(total, g, weights + N_IN, PITCH, N_OUT, column, inside, ROWS)
            tl.store(to_x + cells, total, mask=there)
        else:
            if LAYERS[LAYER * (L - 1) + RESIDUAL]:
                tl.store(below + cells, total, mask=there)
            _pull(room, total, cells, there, L - 1, SWEEP, LAYERS, ROWS)
    tl.debug_barrier()


@triton.jit
def backward(
    room, params, COUNT: tl.constexpr, SWEEP: tl.constexpr, LAYERS: tl.constexpr, NET: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """Go back, after a pass forward through the first COUNT layers: all, or all but the last. The
    energies' values are lost."""
    T: tl.constexpr = room.dtype.element_ty
    LAST: tl.constexpr = NET.layers - 1
    row = tl.arange(0, ROWS)
    start = tl.full([ROWS], 0.0 if SWEEP == ALONG else 1.0, T)
    if COUNT == LAST:
        tl.store(lines_of(room, LAST, 0, LAYERS, ROWS) + row, start)
    elif SWEEP != PLAIN:
        _pull(room, start, row, row >= 0, LAST, SWEEP, LAYERS, ROWS)
    if LAYERS[LAYER * LAST + RESIDUAL]:
        tl.store(_values(room, 0, NET, ROWS) + row, start)
    tl.debug_barrier()
    for turn in tl.static_range(NET.layers - (1 if SWEEP == KEPT else 0)):
        _backward_layer(room, params, LAST - turn, SWEEP, LAYERS, NET, ROWS)
