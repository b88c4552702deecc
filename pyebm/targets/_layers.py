"""Reads a torch module as the layers that the network kernels run, or says which part of it they can't."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn, cast

import torch
from torch import Tensor, nn

from .._checks import FLOATS, check_plain
from .._schemas import ACTIVATIONS
from .blocks import InputSkip, Residual

MAX_LAYERS, MAX_WIDTH, MAX_DIM = 9, 512, 4096
SOFTPLUS_THRESHOLD = 20.0  # torch's default, the kernels' too: beyond it softplus is the line

# Each gives the activation's name and its number; 0 where it has none.
_FUNCTIONS: dict[Callable[..., Any], Callable[[Any], tuple[str, float]]] = {
    nn.Identity.forward: lambda _: ("identity", 0.0),
    nn.SiLU.forward: lambda _: ("silu", 0.0),
    nn.Tanh.forward: lambda _: ("tanh", 0.0),
    nn.Softplus.forward: lambda module: ("softplus", float(module.beta)),
    nn.Sigmoid.forward: lambda _: ("sigmoid", 0.0),
    nn.GELU.forward: lambda module: ("gelu" if module.approximate == "none" else "gelu_tanh", 0.0),
    nn.ELU.forward: lambda module: ("elu", float(module.alpha)),
    nn.ReLU.forward: lambda _: ("relu", 0.0),
    nn.LeakyReLU.forward: lambda module: ("leaky_relu", float(module.negative_slope)),
}
# The attributes that a module is read by.
_ATTRIBUTES: dict[Callable[..., Any], tuple[str, ...]] = {
    nn.Softplus.forward: ("beta", "threshold"),
    nn.GELU.forward: ("approximate",),
    nn.ELU.forward: ("alpha",),
    nn.LeakyReLU.forward: ("negative_slope",),
    nn.Dropout.forward: ("training", "p"),
    nn.Flatten.forward: ("start_dim", "end_dim"),
}
_PLAIN = (Tensor, nn.Parameter)


class Layer(NamedTuple):
    """``act(W h + b)``, or ``h + act(W h + b)``, of ``[h; x]`` in place of h where it skips."""

    name: str
    linear: nn.Linear
    activation: str = "identity"
    number: float = 0.0
    residual: bool = False
    skip: bool = False

    @property
    def weight(self) -> Tensor:
        return cast(Tensor, self.linear._parameters["weight"])  # by torch's __getattr__ it takes twice as long

    @property
    def bias(self) -> Tensor | None:
        return self.linear._parameters["bias"]

    @property
    def shown(self) -> str:
        return f"layer {self.name!r} of net, Linear({self.weight.shape[1]}, {self.weight.shape[0]}),"


class Reading:
    """The layers of ``net``, in their order, and a way to see that a later call would read the same.

    Raises TypeError for a module that the kernels don't know or that is more than its type says (hooks,
    parametrizations, a forward of its own), ValueError for an order or a number that they don't take.
    """

    def __init__(self, owner: str, net: nn.Module) -> None:
        reader = _Reader(owner)
        reader.take("", unwrapped(net))
        if not reader.layers:
            raise ValueError(f"{owner}: net must have at least one Linear, got {type(net).__name__}")
        if len(reader.layers) > MAX_LAYERS:
            raise ValueError(
                f"{owner}: net must have at most {MAX_LAYERS} Linear layers, got {len(reader.layers)}; {runs_anyway(owner)}"
            )
        self.net, self.layers, self._seen = net, reader.layers, reader.seen

    def still(self, net: nn.Module) -> bool:
        """Whether every module is as it was, but for its numbers: a third of the time of reading it again."""
        if net is not self.net or unwrapped(net) is not self._seen[0].module:
            return False
        for module, kind, children, names, values in self._seen:
            own = module.__dict__
            if module.__class__ is not kind or "forward" in own:
                return False
            if own["_forward_hooks"] or own["_forward_pre_hooks"] or own["_backward_hooks"] or own["_backward_pre_hooks"]:
                return False
            if own["_modules"] and tuple(own["_modules"].values()) != children:  # modules are equal where they are the same
                return False
            if names and tuple(map(own.get, names)) != values:
                return False
        return True


class _Seen(NamedTuple):
    """A module as it was read."""

    module: nn.Module
    kind: type
    children: tuple[nn.Module | None, ...]
    names: tuple[str, ...]
    """Of the attributes that say what it does."""
    values: tuple[Any, ...]


def unwrapped(net: nn.Module) -> nn.Module:
    """The network inside of DistributedDataParallel, DataParallel and torch.compile."""
    while True:
        if isinstance(net, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            net = net.module
        elif type(net).__name__ == "OptimizedModule":
            net = net._orig_mod  # type: ignore[assignment]
        else:
            return net


def runs_anyway(owner: str) -> str:
    """The way that is left to a network which the kernels don't take."""
    score = "net" if owner == "MLPScore" else "functools.partial(pyebm.energy_score, net)"
    return f"pyebm.samplers.Langevin({score}, ...) runs any network"


class _Reader:
    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.layers: list[Layer] = []
        self.takes_activation = False  # the last layer has none yet
        self.ended = ""  # the name of what only the end of a network may have
        self.seen: list[_Seen] = []

    def take(self, name: str, module: nn.Module, skip: bool = False) -> None:
        self._check_own(name, module)
        own, names = module.__dict__, _ATTRIBUTES.get(type(module).forward, ())
        self.seen.append(_Seen(module, type(module), tuple(own["_modules"].values()), names, tuple(map(own.get, names))))
        forward = type(module).forward
        if self.ended:
            self._refuse(name, module, f"comes after {self.ended!r}, which must be the last")
        if forward is nn.Linear.forward:
            self.layers.append(Layer(name, cast(nn.Linear, module), skip=skip))
            self.takes_activation = True
        elif forward is nn.Sequential.forward:
            self._take_all(name, module)
        elif forward is Residual.forward:
            self._take_residual(name, module)
        elif forward is InputSkip.forward:
            if self.layers:
                self._refuse(name, module, "must come first, since its input is the network's")
            self._take_all(name, module, skip=True)
        elif forward is nn.Dropout.forward:
            if module.training and cast(float, module.p) > 0:
                self._refuse(name, module, "draws at random in training mode; call net.eval(), or set p to 0")
        elif forward is nn.Flatten.forward:
            self._take_flatten(name, cast(nn.Flatten, module))
        elif forward in _FUNCTIONS:
            self._take_activation(name, module, *_FUNCTIONS[forward](module))
        else:
            self._refuse(name, module, "is no layer that the kernels take (docs/learned.md has the list)", TypeError)

    def _take_all(self, name: str, module: nn.Module, skip: bool = False) -> None:
        for key, child in module._modules.items():
            if child is not None:
                linear = type(child).forward is nn.Linear.forward
                self.take(f"{name}.{key}" if name else key, child, skip and linear and bool(self.layers))

    def _take_residual(self, name: str, module: nn.Module) -> None:
        before = len(self.layers)
        self.takes_activation = False
        self._take_all(name, module)
        if len(self.layers) != before + 1:
            self._refuse(name, module, f"must hold one Linear and its activation, got {len(self.layers) - before} Linear layers")
        self.layers[-1] = self.layers[-1]._replace(residual=True)
        self.takes_activation = False

    def _take_flatten(self, name: str, module: nn.Flatten) -> None:
        if module.end_dim != -1 or module.start_dim not in (0, 1) or (module.start_dim == 1 and self.layers):
            self._refuse(name, module, "must flatten a sample, before the first Linear, or an energy (B, 1), after the last")
        if module.start_dim == 0:
            if not self.layers:
                self._refuse(name, module, "must not mix the samples")
            self.ended = name

    def _take_activation(self, name: str, module: nn.Module, activation: str, number: float) -> None:
        if activation == "identity":
            return
        if activation == "softplus" and not (number > 0 and cast(float, module.threshold) == SOFTPLUS_THRESHOLD):
            self._refuse(name, module, f"must have beta > 0 and the threshold {SOFTPLUS_THRESHOLD:g}, as the kernels do")
        if not self.takes_activation:
            self._refuse(name, module, "must follow a Linear")
        self.layers[-1] = self.layers[-1]._replace(activation=activation, number=number)
        self.takes_activation = False

    def _check_own(self, name: str, module: nn.Module) -> None:
        """That the module does what its type says, and no more."""
        own = module.__dict__
        if own["_forward_hooks"] or own["_forward_pre_hooks"] or own["_backward_hooks"] or own["_backward_pre_hooks"]:
            self._refuse(name, module, "has hooks, which a kernel does not call", TypeError)
        if "parametrizations" in own["_modules"]:
            self._refuse(name, module, "has parametrizations; remove_parametrizations(..., leave_parametrized=True)", TypeError)
        if "forward" in own:
            self._refuse(name, module, "has a forward of its own", TypeError)

    def _refuse(self, name: str, module: nn.Module, why: str, error: type[Exception] = ValueError) -> NoReturn:
        raise error(f"{self.owner}: layer {name!r} of net, {type(module).__name__}, {why}; {runs_anyway(self.owner)}")


def dim_of(owner: str, layers: Sequence[Layer], condition: int, last: int | None) -> int:
    """D, the elements of a sample, once each layer is known to take what the one before it gives.

    condition: inputs behind x, in every layer that sees x.
    last: outputs of the last layer; None for D.

    Raises TypeError for numbers that are no dense floating-point tensor, or not of the first layer's dtype; ValueError for
    another device, or a shape that does not fit.
    """
    first = layers[0].weight
    inputs = first.shape[-1]
    dim, width = inputs - condition, 0
    if not 1 <= dim <= MAX_DIM:
        raise ValueError(f"{owner}: {layers[0].shown} must take 1 to {MAX_DIM} elements of x and {condition} of a condition")
    for layer in layers:
        weight, bias = layer.weight, layer.bias
        _check(owner, layer, weight, first)
        shape = weight.shape
        expected = width + inputs if layer.skip or not width else width
        if len(shape) != 2 or shape[1] != expected:
            raise ValueError(f"{owner}: {layer.shown} must have {expected} inputs")
        if layer.residual and shape[0] != width:
            raise ValueError(f"{owner}: {layer.shown} must leave the width {width} as it is, in a Residual")
        width = shape[0]
        if bias is not None:
            _check(owner, layer, bias, first)
            if bias.shape != shape[:1]:
                raise ValueError(f"{owner}: {layer.shown} must have a bias ({width},), got {tuple(bias.shape)}")
        if width > MAX_WIDTH and layer is not layers[-1]:
            raise ValueError(f"{owner}: {layer.shown} must have at most {MAX_WIDTH} outputs; {runs_anyway(owner)}")
    if width != (dim if last is None else last):
        raise ValueError(f"{owner}: {layers[-1].shown} must have {dim if last is None else last} outputs, as the last layer")
    return dim


def _check(owner: str, layer: Layer, tensor: Tensor, first: Tensor) -> None:
    if type(tensor) not in _PLAIN:
        check_plain(owner, f"{layer.shown} its number", tensor)
    dtype = tensor.dtype
    if dtype is not first.dtype or dtype not in FLOATS:
        expected = "a floating-point dtype" if dtype is first.dtype else f"the first layer's dtype {first.dtype}"
        raise TypeError(f"{owner}: {layer.shown} must have {expected}, got {dtype}; {runs_anyway(owner)}")
    if tensor.device != first.device:
        must = f"must be on {first.device} like the first layer, got {tensor.device}"
        raise ValueError(f"{owner}: {layer.shown} {must}; {runs_anyway(owner)}")


class Wiring(NamedTuple):
    """What the ops need of a network beside its weights, as long as no module changes."""

    layout: Tensor
    numbers: tuple[Tensor, ...]
    """Each layer's activation's."""


Key = tuple[Any, ...]


def key_of(dim: int, layers: Sequence[Layer], dtype: torch.dtype) -> Key:
    """Equal where the wiring is."""
    device = layers[0].weight.device
    return (dim, dtype, device, *((*layer[2:], layer.weight.shape[0]) for layer in layers))


def wiring_of(kind: int, dim: int, layers: Sequence[Layer], dtype: torch.dtype) -> Wiring:
    """kind: 0 for an energy, 1 for a score."""
    each = ((layer.weight.shape[0], ACTIVATIONS.index(layer.activation), int(layer.residual), int(layer.skip)) for layer in layers)
    layout = torch.tensor([kind, dim, len(layers), *(number for layer in each for number in layer)], device="cpu")
    numbers = torch.tensor([layer.number for layer in layers], dtype=dtype, device=layers[0].weight.device)
    return Wiring(layout, numbers.split(1))


def packed(layers: Sequence[Layer], dim: int, quadratic: Tensor, wiring: Wiring) -> Tensor:
    """The network's numbers as the ops take them, without the columns that a condition is multiplied by."""
    parts: list[Tensor] = []
    dtype = wiring.numbers[0].dtype
    width = 0
    for layer, number in zip(layers, wiring.numbers, strict=True):
        weight, bias = layer.weight, layer.bias
        outputs, inputs = weight.shape
        seen = width + dim if layer.skip or not width else width
        parts.append((weight if inputs == seen else weight[:, :seen]).reshape(-1))
        parts.append(weight.new_zeros(outputs) if bias is None else bias)
        parts.append(number)
        width = outputs
    parts.append(quadratic.reshape(1))
    return torch.cat([part if part.dtype is dtype else part.to(dtype) for part in parts])
