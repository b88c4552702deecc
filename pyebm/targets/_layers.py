"""Reads a torch module as the layers that the network kernels run, or says which part of it they
can't run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn, cast

from torch import Tensor, nn

from .blocks import InputSkip, Residual

MAX_LAYERS = 9
SOFTPLUS_THRESHOLD = 20.0  # torch's default, and the kernels': beyond it softplus(x) is x

# Each function gives the activation's name and its parameter; 0 if it has none.
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
# The attributes that are read from each kind of module.
_ATTRIBUTES: dict[Callable[..., Any], tuple[str, ...]] = {
    nn.Softplus.forward: ("beta", "threshold"),
    nn.GELU.forward: ("approximate",),
    nn.ELU.forward: ("alpha",),
    nn.LeakyReLU.forward: ("negative_slope",),
    nn.Dropout.forward: ("training", "p"),
    nn.Flatten.forward: ("start_dim", "end_dim"),
}


class Layer(NamedTuple):
    """``act(W h + b)``, or ``h + act(W h + b)`` if it is residual. With a skip W is multiplied by
    ``[h; x]`` in place of h."""

    name: str
    linear: nn.Linear
    activation: str = "identity"
    number: float = 0.0
    residual: bool = False
    skip: bool = False

    @property
    def weight(self) -> Tensor:
        return cast(Tensor, self.linear._parameters["weight"])  # torch's __getattr__ would take twice as long

    @property
    def bias(self) -> Tensor | None:
        return self.linear._parameters["bias"]

    @property
    def shown(self) -> str:
        return f"layer {self.name!r} of net, Linear({self.weight.shape[1]}, {self.weight.shape[0]}),"


class Seen(NamedTuple):
    """A module and the attributes that it had when it was read."""

    module: nn.Module
    kind: type
    children: tuple[nn.Module | None, ...]
    names: tuple[str, ...]
    """The attributes that say what it does."""
    values: tuple[Any, ...]


def unwrapped(net: nn.Module) -> nn.Module:
    """The network inside of DistributedDataParallel, DataParallel and torch.compile."""
    while type(net) is not nn.Sequential:
        if isinstance(net, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            net = net.module
        elif type(net).__name__ == "OptimizedModule":
            net = net._orig_mod  # type: ignore[assignment]
        else:
            break
    return net


def runs_anyway(owner: str) -> str:
    """The part of a message that says how to run a network which the kernels don't take."""
    score = "net" if owner == "MLPScore" else "functools.partial(pyebm.energy_score, net)"
    return f"pyebm.samplers.Langevin({score}, ...) runs any network"


def read(owner: str, net: nn.Module) -> tuple[list[Layer], list[Seen]]:
    """The layers of ``net`` in their order, and all modules from which they were read, the network
    itself first.

    Raises TypeError for a module that the kernels don't know or that does more than its type says
    (hooks, parametrizations, a forward of its own), ValueError for an order or a number that the
    kernels don't take.
    """
    reader = _Reader(owner)
    reader.take("", unwrapped(net))
    if not reader.layers:
        raise ValueError(f"{owner}: net must have at least one Linear, got {type(net).__name__}")
    if len(reader.layers) > MAX_LAYERS:
        raise ValueError(
            f"{owner}: net must have at most {MAX_LAYERS} Linear layers, got {len(reader.layers)};"
            f" {runs_anyway(owner)}"
        )
    return reader.layers, reader.seen


class _Reader:
    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.layers: list[Layer] = []
        self.takes_activation = False  # whether the last layer has no activation yet
        self.ended = ""  # the name of a module that may come only at the end, once it was read
        self.seen: list[Seen] = []

    def take(self, name: str, module: nn.Module, skip: bool = False) -> None:
        self._check_own(name, module)
        own, names = module.__dict__, _ATTRIBUTES.get(type(module).forward, ())
        self.seen.append(
            Seen(module, type(module), tuple(own["_modules"].values()), names, tuple(map(own.get, names)))
        )
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
            self._refuse(
                name, module, "is no layer that the kernels take (docs/learned.md has the list)", TypeError
            )

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
            self._refuse(
                name,
                module,
                f"must hold one Linear and its activation, got {len(self.layers) - before} Linear layers",
            )
        self.layers[-1] = self.layers[-1]._replace(residual=True)
        self.takes_activation = False

    def _take_flatten(self, name: str, module: nn.Flatten) -> None:
        if module.end_dim != -1 or module.start_dim not in (0, 1) or (module.start_dim == 1 and self.layers):
            self._refuse(
                name,
                module,
                "must flatten a sample, before the first Linear, or an energy (B, 1), after the last",
            )
        if module.start_dim == 0:
            if not self.layers:
                self._refuse(name, module, "must not mix the samples")
            self.ended = name

    def _take_activation(self, name: str, module: nn.Module, activation: str, number: float) -> None:
        if activation == "identity":
            return
        if activation == "softplus" and not (
            number > 0 and cast(float, module.threshold) == SOFTPLUS_THRESHOLD
        ):
            self._refuse(
                name,
                module,
                f"must have beta > 0 and the threshold {SOFTPLUS_THRESHOLD:g}, as the kernels do",
            )
        if not self.takes_activation:
            self._refuse(name, module, "must follow a Linear")
        self.layers[-1] = self.layers[-1]._replace(activation=activation, number=number)
        self.takes_activation = False

    def _check_own(self, name: str, module: nn.Module) -> None:
        """Checks that the module does what its type says, and no more."""
        own = module.__dict__
        if (
            own["_forward_hooks"]
            or own["_forward_pre_hooks"]
            or own["_backward_hooks"]
            or own["_backward_pre_hooks"]
        ):
            self._refuse(name, module, "has hooks, which a kernel does not call", TypeError)
        if "parametrizations" in own["_modules"]:
            self._refuse(
                name,
                module,
                "has parametrizations; remove_parametrizations(..., leave_parametrized=True)",
                TypeError,
            )
        if "forward" in own:
            self._refuse(name, module, "has a forward of its own", TypeError)

    def _refuse(
        self, name: str, module: nn.Module, why: str, error: type[Exception] = ValueError
    ) -> NoReturn:
        raise error(
            f"{self.owner}: layer {name!r} of net, {type(module).__name__}, {why}; {runs_anyway(self.owner)}"
        )
