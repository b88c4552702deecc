"""The reading of a network, kept from call to call as long as only the network's numbers change."""

from __future__ import annotations

import ctypes
import functools
import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from .. import _ops
from .._checks import check_plain
from .._modes import in_mode
from .._options import FLOATS
from .._schemas import ACTIVATIONS
from ._guard import Guard
from ._kept import readable
from ._layers import Layer, read, runs_anyway, unwrapped

MAX_WIDTH, MAX_DIM = 512, 4096
_PLAIN = (Tensor, nn.Parameter)


class Reading:
    """The layers of ``net``, checked to fit each other, and a test whether a later call would read
    the same.

    Raises as :func:`read` and :func:`dim_of`.
    """

    def __init__(self, owner: str, net: nn.Module, condition: int, last: int | None) -> None:
        self.net = net
        self.layers, self._seen = read(owner, net)
        self.dim = dim_of(owner, self.layers, condition, last)
        first = self.layers[0].weight
        self.dtype, self.device = first.dtype, first.device
        self._places = [
            (layer.linear._parameters, name) for layer in self.layers for name in ("weight", "bias")
        ]
        self._shapes = [None if tensor is None else tensor.shape for tensor in self.tensors()]
        self._guard = Guard(self.tensors())
        self._wirings: dict[torch.dtype, Wiring] = {}
        self._quadratics: dict[torch.dtype, tuple[float, Tensor]] = {}

    def tensors(self) -> list[Tensor | None]:
        """Each layer's current weight and bias."""
        return [own[name] for own, name in self._places]

    def still(self, net: nn.Module) -> bool:
        """Whether nothing but the numbers has changed. The test takes a fifth of the time of
        reading the network again."""
        if net is not self.net or unwrapped(net) is not self._seen[0].module:
            return False
        tensors = self.tensors()
        if not self._guard.passes(tensors):
            if not self._fit(tensors):
                return False
            self._guard = Guard(tensors)  # of tensors that require a gradient now, or have other strides
        for module, kind, children, names, values in self._seen:
            own = module.__dict__
            if module.__class__ is not kind or "forward" in own:
                return False
            if (
                own["_forward_hooks"]
                or own["_forward_pre_hooks"]
                or own["_backward_hooks"]
                or own["_backward_pre_hooks"]
            ):
                return False
            # != compares modules by identity.
            if own["_modules"] and tuple(own["_modules"].values()) != children:
                return False
            if names and tuple(map(own.get, names)) != values:
                return False
        return True

    def _fit(self, tensors: Sequence[Tensor | None]) -> bool:
        """Whether these tensors are like those that were read."""
        dtype, device = self.dtype, self.device
        for tensor, shape in zip(tensors, self._shapes, strict=True):
            if tensor is None or shape is None:
                if not (tensor is None and shape is None):
                    return False
            elif (
                tensor.shape != shape
                or tensor.dtype is not dtype
                or tensor.device != device
                or type(tensor) not in _PLAIN
            ):
                return False
        return True

    @property
    def whole(self) -> bool:
        """Whether the tensors of the last call are known to be such as :attr:`Guard.whole` says."""
        return self._guard.whole

    def wiring(self, kind: int, dtype: torch.dtype) -> Wiring:
        """The ops' arguments beside the weights. They are kept, since they take longer to make than
        the rest of a small call.

        kind: 0 for an energy, 1 for a score.
        """
        kept = self._wirings.get(dtype)
        if kept is None:
            if not readable((self.layers[0].weight,)):
                return wiring_of(kind, self.dim, self.layers, dtype)
            make = partial(wiring_of, kind, self.dim, self.layers, dtype)
            self._wirings[dtype] = kept = in_mode(make, grad=False)
        return kept

    def quadratic_as(self, dtype: torch.dtype, quadratic: Tensor) -> Tensor:
        """The coefficient in this dtype. The copy is kept as long as the number stays the same,
        since a look at the number takes a tenth of a conversion."""
        if quadratic.dtype is dtype:
            return quadratic
        if quadratic.requires_grad or not readable((quadratic,)):
            return quadratic.to(dtype)
        value = quadratic.item()
        kept = self._quadratics.get(dtype)
        if kept is None or kept[0] != value:
            self._quadratics[dtype] = kept = (value, in_mode(lambda: quadratic.to(dtype), grad=False))
        return kept[1]


def dim_of(owner: str, layers: Sequence[Layer], condition: int, last: int | None) -> int:
    """Checks that each layer takes the outputs of the one before it; returns D, the elements of a
    sample.

    condition: the number of inputs after x, in every layer that sees x.
    last: the outputs that the last layer must have; None for D.

    Raises TypeError for weights that are no dense floating-point tensors, or not of the first
    layer's dtype; ValueError for another device, or a shape that does not fit.
    """
    first = layers[0].weight
    inputs = first.shape[-1]
    dim, width = inputs - condition, 0
    if not 1 <= dim <= MAX_DIM:
        raise ValueError(
            f"{owner}: {layers[0].shown} must take 1 to {MAX_DIM} elements of x and {condition} of a"
            " condition"
        )
    for layer in layers:
        weight, bias = layer.weight, layer.bias
        _check(owner, layer, weight, first)
        shape = weight.shape
        expected = width + inputs if layer.skip or not width else width
        if len(shape) != 2 or shape[1] != expected:
            raise ValueError(f"{owner}: {layer.shown} must have {expected} inputs")
        if layer.residual and shape[0] != (width or inputs):
            raise ValueError(
                f"{owner}: {layer.shown} must leave the width {width or inputs} as it is, in a Residual"
            )
        width = shape[0]
        if bias is not None:
            _check(owner, layer, bias, first)
            if bias.shape != shape[:1]:
                raise ValueError(
                    f"{owner}: {layer.shown} must have a bias ({width},), got {tuple(bias.shape)}"
                )
        if width > MAX_WIDTH and layer is not layers[-1]:
            raise ValueError(
                f"{owner}: {layer.shown} must have at most {MAX_WIDTH} outputs; {runs_anyway(owner)}"
            )
    if width != (dim if last is None else last):
        raise ValueError(
            f"{owner}: {layers[-1].shown} must have {dim if last is None else last} outputs, as the last"
            " layer"
        )
    return dim


def _check(owner: str, layer: Layer, tensor: Tensor, first: Tensor) -> None:
    if type(tensor) not in _PLAIN:
        check_plain(owner, f"{layer.shown} its number", tensor)
    dtype = tensor.dtype
    if dtype is not first.dtype or dtype not in FLOATS:
        expected = (
            "a floating-point dtype" if dtype is first.dtype else f"the first layer's dtype {first.dtype}"
        )
        raise TypeError(f"{owner}: {layer.shown} must have {expected}, got {dtype}; {runs_anyway(owner)}")
    if tensor.device != first.device:
        must = f"must be on {first.device} like the first layer, got {tensor.device}"
        raise ValueError(f"{owner}: {layer.shown} {must}; {runs_anyway(owner)}")


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
    """The parts of params without the weights, the biases and q; None where a layer has no bias, or
    has columns for a condition."""
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
    each_whole = all(columns is None for columns in seen) and all(zero is None for zero in zeros)
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
        template if each_whole else None,
        idle,
    )


class Given(NamedTuple):
    """A network's arguments for the ops in one call."""

    wiring: Wiring
    parts: Sequence[Tensor]
    """The parts of params, in their order and in params' dtype: each layer's weight, without the
    columns for the condition, its bias and its activation's parameter; last q."""
    whole: bool
    """Whether the parts are known to be such as :attr:`Guard.whole` says."""
    biases: Tensor | None = None

    @property
    def readable(self) -> bool:
        return readable(() if self.whole else self.parts)


def given_of(reading: Reading, wiring: Wiring, quadratic: Tensor) -> Given:
    dtype = wiring.numbers[0].dtype
    number = reading.quadratic_as(dtype, quadratic)
    same = reading.dtype is dtype
    if same and wiring.template is not None:
        parts: list[Any] = list(wiring.template)
        tensors = reading.tensors()
        parts[:-1:3], parts[1:-1:3], parts[-1] = tensors[::2], tensors[1::2], number
        whole = reading.whole and type(number) is Tensor and number.is_cpu and not number.is_neg()
        return Given(wiring, parts, whole)
    parts = []
    each = iter(reading.tensors())
    for weight, bias, seen, number_of, zeros in zip(each, each, wiring.seen, wiring.numbers, wiring.zeros):  # noqa: B905 (strict costs as much as a comparison)
        assert weight is not None
        if seen is not None:
            weight = weight[:, :seen]
        part = zeros if bias is None else bias
        assert part is not None
        parts += (weight, part, number_of) if same else (weight.to(dtype), part.to(dtype), number_of)
    parts.append(number)
    return Given(wiring, parts, False)


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


def copied(given: Given, out: Tensor | None = None) -> Tensor:
    """The parts concatenated without their derivatives, in a third of the time; they must be
    :func:`readable`. out: a new tensor for them."""
    wiring, parts = given.wiring, given.parts
    if out is None:
        out = parts[0].new_empty(wiring.total)
    if _ops._why_no_cpu is not None:
        return torch.cat([part.detach().reshape(-1) for part in parts], out=out)
    if not given.whole:
        parts = [part.contiguous().resolve_neg() for part in parts]  # memory without torch's minus sign
    entry, addresses_of, sizes = _entry(wiring.sizes, out.itemsize)
    addresses = [part.data_ptr() for part in parts]
    if not all(addresses):
        raise RuntimeError("net must have its parameters in memory, got one whose storage has no bytes")
    entry(addresses_of(*addresses), sizes, len(parts), out.data_ptr())
    return out


@functools.lru_cache(maxsize=64)
def _entry(sizes: tuple[int, ...], itemsize: int) -> tuple[Any, Any, Any]:
    """The library's function, the ctypes type of an array of addresses with one for each part, and
    the array of the parts' sizes."""
    entry = _ops.library().pyebm_pack
    entry.argtypes, entry.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p], None
    count = len(sizes)
    return entry, ctypes.c_void_p * count, (ctypes.c_int64 * count)(*(size * itemsize for size in sizes))
