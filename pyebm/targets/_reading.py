"""The reading of a network, kept from call to call as long as only the network's numbers change."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .._checks import check_plain
from .._modes import in_mode
from .._options import FLOATS
from ._guard import Guard
from ._kept import readable
from ._layers import Layer, read, runs_anyway, unwrapped
from ._wiring import Given, Wiring, wiring_of

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
        self.module, self.dim = self._seen[0].module, dim_of(owner, self.layers, condition, last)
        first = self.layers[0].weight
        self.dtype, self.device = first.dtype, first.device
        self.computes = first.dtype in (torch.float32, torch.float64)
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
        if net is not self.net or unwrapped(net) is not self.module:
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

    def given(self, kind: int, dtype: torch.dtype, quadratic: Tensor) -> Given:
        """The network's arguments for the ops that compute in dtype. kind: as in :meth:`wiring`."""
        wiring = self.wiring(kind, dtype)
        number = self.quadratic_as(dtype, quadratic)
        same = self.dtype is dtype
        if same and wiring.template is not None:
            parts: list[Any] = list(wiring.template)
            tensors = self.tensors()
            biases = tensors[1::2]
            if None in self._shapes:
                there = zip(biases, wiring.zeros, strict=True)
                biases = [zero if bias is None else bias for bias, zero in there]
            parts[:-1:3], parts[1:-1:3], parts[-1] = tensors[::2], biases, number
            whole = self.whole and type(number) is Tensor and number.is_cpu and not number.is_neg()
            return Given(wiring, parts, whole)
        parts = []
        each = iter(self.tensors())
        kept = (wiring.seen, wiring.numbers, wiring.zeros)
        for weight, bias, seen, number_of, zeros in zip(each, each, *kept, strict=True):
            assert weight is not None
            if seen is not None:
                weight = weight[:, :seen]
            part = zeros if bias is None else bias
            assert part is not None
            parts += (weight, part, number_of) if same else (weight.to(dtype), part.to(dtype), number_of)
        parts.append(number)
        return Given(wiring, parts, False)

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
