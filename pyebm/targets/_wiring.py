"""A network's arguments for the ops: its layout, and its parameters in one tensor."""

from __future__ import annotations

import ctypes
import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .. import _ops, _small_calls
from .._options import FLOATS
from .._schemas import ACTIVATIONS
from ._kept import readable
from ._layers import Layer


class Wiring(NamedTuple):
    """The ops' arguments for a network beside its weights; valid as long as no module changes."""

    layout: Tensor
    numbers: tuple[Tensor, ...]
    """Each layer's activation's."""
    zeros: tuple[Tensor | None, ...]
    """Each layer's that has no bias."""
    seen: tuple[int | None, ...]
    """The columns of each weight that are not a condition's, where there are others."""
    sizes: tuple[int, ...]
    """Of the parts of params in their order."""
    places: tuple[tuple[tuple[int, ...], tuple[int, ...], int], ...]
    """Of the same parts in params: shape, strides and the first number's place."""
    total: int
    template: tuple[Tensor | None, ...] | None
    """The parts of params without the weights, the biases and q; None where a layer has columns for
    a condition."""
    idle: int | None
    """The place of the bias that an energy's score does not depend on: the last one's, where no
    activation follows it. As in autograd it then has no derivative."""


def wiring_of(kind: int, dim: int, layers: Sequence[Layer], dtype: torch.dtype) -> Wiring:
    """Makes the Wiring of a network. kind: 0 for an energy, 1 for a score."""
    each = (
        (layer.weight.shape[0], ACTIVATIONS.index(layer.activation), int(layer.residual), int(layer.skip))
        for layer in layers
    )
    layout = torch.tensor(
        [kind, dim, len(layers), *(number for layer in each for number in layer)], device="cpu"
    )
    device = layers[0].weight.device
    numbers = torch.tensor([layer.number for layer in layers], dtype=dtype, device=device)
    seen: list[int | None] = []
    zeros: list[Tensor | None] = []
    sizes: list[int] = []
    shapes: list[tuple[int, ...]] = []
    width = 0
    for layer in layers:
        outputs, inputs = layer.weight.shape
        columns = width + dim if layer.skip or not width else width
        seen.append(None if columns == inputs else columns)
        zeros.append(torch.zeros(outputs, dtype=dtype, device=device) if layer.bias is None else None)
        sizes += [outputs * columns, outputs, 1]
        shapes += [(outputs, columns), (outputs,), (1,)]
        width = outputs
    numbers_of = numbers.split(1)
    strides = [*((shape[1], 1) if len(shape) == 2 else (1,) for shape in shapes), ()]
    template = (*(part for number in numbers_of for part in (None, None, number)), None)
    idle = len(sizes) - 2 if kind == 0 and layers[-1].activation == "identity" else None
    return Wiring(
        layout,
        numbers_of,
        tuple(zeros),
        tuple(seen),
        (*sizes, 1),
        tuple(zip((*shapes, ()), strides, itertools.accumulate((0, *sizes)), strict=True)),
        sum(sizes) + 1,
        template if all(columns is None for columns in seen) else None,
        idle,
    )


X, BIASES, PARAMS = 1, 2, 4  # the gradients that are wanted, to be added up


class Given(NamedTuple):
    """A network's arguments for the ops in one call."""

    wiring: Wiring
    parts: Sequence[Tensor]
    """The parts of params, in their order and in params' dtype: each layer's weight, without the
    columns for the condition, its bias and its activation's parameter; last q."""
    whole: bool
    """Whether the parts are known to be such as :attr:`Guard.whole` says."""
    biases: Tensor | None = None

    def fits(self, x: Tensor, dim: int) -> bool:
        """Whether x, of torch's own type, passes at a glance all checks of samples of dim
        elements for these parts."""
        wide = self.parts[0].dtype is torch.float64
        same = x.dtype in FLOATS and (x.dtype is torch.float64) is wide
        dense = x.is_cpu and x.layout is torch.strided
        return same and dense and x.dim() > 0 and x.numel() == x.shape[0] * dim

    def needs(self, x: Tensor) -> int:
        """The sum of X, BIASES and PARAMS for the gradients that autograd will ask for."""
        if not torch.is_grad_enabled():
            return 0
        needs = X if x.requires_grad else 0
        if self.biases is not None and self.biases.requires_grad:
            return needs + BIASES + PARAMS  # the kernel sums both together
        for part in self.parts:
            if part.requires_grad:
                return needs + PARAMS
        return needs

    @property
    def readable(self) -> bool:
        return readable(() if self.whole else self.parts)


def packed(given: Given) -> Tensor:
    """The parts concatenated, with their derivatives."""
    parts = given.parts
    if (
        not given.readable
        or (torch.is_grad_enabled() and any(part.requires_grad for part in parts))
        or forward_ad._current_level >= 0
    ):
        return torch.cat([part.reshape(-1) for part in parts])
    return copied(given)


def copied(given: Given) -> Tensor:
    """The parts concatenated without their derivatives, in a third of the time; they must be
    :func:`readable`.

    Raises RuntimeError for a part whose storage was made too small for it.
    """
    wiring, parts = given.wiring, given.parts
    made: Tensor | None = _in_one_step(parts) if given.whole else None
    if made is not None:
        return made
    if _ops._why_no_cpu is not None:
        return torch.cat([part.detach().reshape(-1) for part in parts])
    for part in parts:
        if part.untyped_storage().nbytes() < (part.storage_offset() + _reach(part)) * part.itemsize:
            raise RuntimeError("net must have its parameters in memory, got a storage too small for one")
    out = parts[0].new_empty(wiring.total)
    if not given.whole:
        parts = [part.contiguous().resolve_neg() for part in parts]  # memory without torch's minus sign
    entry, addresses_of, sizes = _entry(wiring.sizes, out.itemsize)
    entry(addresses_of(*[part.data_ptr() for part in parts]), sizes, len(parts), out.data_ptr())
    return out


def _reach(tensor: Tensor) -> int:
    """How many numbers lie from the tensor's first one to its last."""
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return reach + 1 if tensor.numel() else 0


_in_one_step = _small_calls.step_of("packed")


@functools.lru_cache(maxsize=64)
def _entry(sizes: tuple[int, ...], itemsize: int) -> tuple[Any, Any, Any]:
    """The library's function, the ctypes type of an array of addresses with one for each part, and
    the array of the parts' sizes."""
    entry = _ops.library().pyebm_pack
    entry.argtypes, entry.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p], None
    count = len(sizes)
    return entry, ctypes.c_void_p * count, (ctypes.c_int64 * count)(*(size * itemsize for size in sizes))
