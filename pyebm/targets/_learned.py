"""What the targets on networks share: the module is read in every call, and runs in the kernel or as it is."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling
from torch.func import functional_call

from .. import _ops, reference
from .._checks import check_plain, check_samples
from .._derivatives import BySample, exactly, launched, wanted
from ._condition import biases_of, rows_of
from ._layers import unwrapped
from ._reading import Reading, packed
from ._target import Numbers, Target

Embedding = Callable[[Tensor], Tensor]
_Self = TypeVar("_Self", bound="Learned")


class Learned(Target):
    """A target that is a network."""

    kind = "network"
    follows = False
    width: int | None = None
    """Outputs of the last layer; None for as many as a sample has elements."""
    dim: int
    quadratic: Tensor
    c: Tensor | None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        changed = {"energy", "score", "forward"} & vars(cls).keys()
        if changed and not cls.__module__.startswith(f"{__package__}."):
            raise TypeError(
                f"{cls.__name__}: {changed.pop()} can't be another one than the network's, which is what the kernels run; "
                "write a function around the target, for pyebm.samplers.Langevin"
            )

    def __init__(self, net: nn.Module, quadratic: float, condition: int, embedding: Embedding | None) -> None:
        super().__init__()
        own = type(self).__name__
        if not isinstance(net, nn.Module):
            raise TypeError(f"{own}: net must be a torch.nn.Module, got {type(net).__name__}")
        if not isinstance(condition, int) or condition < 0:
            raise ValueError(f"{own}: condition must be how many of the net's inputs are a condition, >= 0, got {condition!r}")
        if embedding is not None and not (condition and callable(embedding)):
            raise ValueError(f"{own}: embedding must be a function of c, beside condition > 0, got {embedding!r}")
        self.net, self.condition, self.embedding = net, condition, embedding
        reading = Reading(own, net, condition, self.width)
        self.dim = reading.dim
        self._register("quadratic", quadratic, like=reading.layers[0].weight)
        self.register_buffer("c", None)
        self._reading: Reading | None = None

    def __getstate__(self) -> dict[str, Any]:
        """A copy's modules are others."""
        return super().__getstate__() | {"_reading": None}

    def given(self: _Self, c: float | Tensor) -> _Self:
        """The target at the condition c, which shares this one's network.

        Args:
            c: (C,), one for all samples, or (B, C), one a sample. Where C is 1, a number and (B,) too. With an ``embedding``,
                whatever that takes. Both are read in every call, as the network's parameters are; what the layers make of c
                alone is computed once a call, for all of its steps.

        Raises ValueError for a target without a condition and for another shape, TypeError for what is no number.
        """
        own = f"{type(self).__name__}.given"
        if not self.condition:
            raise ValueError(f"{own}: the target has no condition; make it with condition=C for a net of [x; c]")
        if not isinstance(c, Tensor):
            c = torch.tensor(float(c), dtype=torch.float64, device=self.quadratic.device)
        if self.embedding is None:
            rows_of(own, c, self.condition)
        made = copy.copy(self)
        made._buffers, made._modules = {**self._buffers, "c": c}, dict(self._modules)
        return made

    def extra_repr(self) -> str:
        shown = [] if self.quadratic.is_meta or not self.quadratic else [f"quadratic={self.quadratic.item():g}"]
        if self.condition:
            shown.append(f"condition={self.condition}")
        if self.c is not None:
            shown.append(f"c=<{tuple(self.c.shape)}>")
        return ", ".join(shown)

    # --- one evaluation ---

    def _evaluate(self, call: str, x: Tensor, c: Any, backend: str | None, energy: bool) -> Tensor:
        """The energy (B,) or the score, by the kernel; where a derivative is wanted, with that of torch's operations."""
        if c is not None:
            return self.given(c)._evaluate(call, x, None, backend, energy)
        reading = self._fitting(call, x)
        with exact(x):
            if not wanted(x, *self._tensors_of(reading)):
                if not self._has_chain(backend, x):
                    return self._composed(x, energy)
                launch, params, biases = self._launch(call, x, reading, backend, energy)
                return launch(x, params, biases)
            composed = self._composed(x, energy)
            if not self._has_chain(backend, x):
                return composed
            launch, params, biases = self._launch(call, x, reading, backend, energy)
            shared = (1,) if biases is not None and biases.shape[0] > 1 else (1, 2)
            return exactly(lambda: launched(BySample(launch, shared), x, params, biases), composed)

    def _launch(
        self, call: str, x: Tensor, reading: Reading, backend: str | None, energy: bool
    ) -> tuple[Callable[..., Tensor], Tensor, Tensor | None]:
        kernel = _ops.kernels(backend, x)["network_score"]
        numbers = self._read(call, x, reading)

        def launch(x: Tensor, params: Tensor, biases: Tensor | None) -> Tensor:
            score = torch.empty_like(x)
            value = x.new_empty(x.shape[:1], dtype=params.dtype) if energy else None
            _ops.call(kernel, (score, x, numbers.which, params), (biases, value))
            return score if value is None else value

        return launch, numbers.params, numbers.biases

    def _composed(self, x: Tensor, energy: bool) -> Tensor:
        """By the module itself, on any device."""
        batch = x.shape[0]
        work = reference.work_of(x).reshape(batch, self.dim)
        return self._energy(work) if energy else self._score(work).reshape(x.shape).to(x.dtype)

    def _energy(self, work: Tensor) -> Tensor:
        """Of work (B, D), in its dtype: (B,)."""
        raise NotImplementedError

    def _score(self, work: Tensor) -> Tensor:
        raise NotImplementedError

    def _run(self, work: Tensor) -> Tensor:
        """The module at work, in its dtype."""
        rows = self._rows(work.dtype, work.shape[0])
        inputs = work if rows is None else torch.cat((work, rows.expand(work.shape[0], -1)), 1)
        net = unwrapped(self.net)
        parameters = dict(net.named_parameters())
        if all(tensor.dtype is work.dtype for tensor in parameters.values()):
            return cast(Tensor, self.net(inputs))  # with what wraps it: DDP's backward counts on its forward
        return cast(Tensor, functional_call(net, {name: tensor.to(work.dtype) for name, tensor in parameters.items()}, (inputs,)))

    # --- as the ops take it ---

    def _numbers_for(self, call: str, x: Tensor) -> Numbers:
        with exact(x):
            return self._read(call, x, self._fitting(call, x))

    def _at_levels(self, call: str, x: Tensor, levels: Tensor) -> Numbers:
        """With one row of biases for each of the levels (L,), in place of c."""
        with exact(x):
            given = self.given(levels)
            return given._read(call, x, given._fitting(call, x), levels.shape[0])

    def _has_chain(self, backend: str | None, x: Tensor) -> bool:
        """A backend that was asked for has the kernel or says that it lacks it; else other devices run the module."""
        return backend is not None or x.is_cpu or x.is_meta

    def _has_score_kernel(self, backend: str | None, x: Tensor) -> bool:
        return self._has_chain(backend, x)

    @property
    def _has_energy_kernel(self) -> bool:
        return self.has_energy

    def _read(self, call: str, x: Tensor, reading: Reading, count: int | None = None) -> Numbers:
        """count: rows of the condition, where it is not one a sample."""
        dtype = torch.float64 if x.dtype is torch.float64 else torch.float32
        wiring = reading.wiring(1 if self.width is None else 0, dtype)
        rows = self._rows(dtype, x.shape[0] if count is None else count, call)
        biases = None if rows is None else biases_of(reading.layers, rows)
        return Numbers("network_chain", wiring.layout, packed(reading, wiring, self.quadratic), biases)

    def _rows(self, dtype: torch.dtype, count: int, call: str | None = None) -> Tensor | None:
        """What the layers get of the condition: (1, C) or (count, C)."""
        if not self.condition:
            return None
        assert self.c is not None
        c = self.c if self.embedding is None else self.embedding(self.c)
        return rows_of(call or type(self).__name__, c, self.condition, count).to(dtype)

    def _fitting(self, call: str, x: Tensor) -> Reading:
        """The network as it is now, once x is known to fit it."""
        batch = check_samples(call, "x", x)
        if type(x) is not Tensor:
            check_plain(call, "x", x)
        own = type(self).__name__
        reading = self._read_again(own)
        if reading.dim != self.dim:
            raise ValueError(f"{call}: net must take samples of {self.dim} elements, as when the target was made")
        if batch and x.numel() // batch != self.dim:
            raise ValueError(f"{call}: x must have samples of {self.dim} elements, the network's dimension, got {tuple(x.shape)}")
        if reading.device != x.device:
            must = f"x must be on the network's device {reading.device}, got {x.device}"
            raise ValueError(f"{call}: {must}; move it with target.to(x.device)")
        if self.condition and self.c is None:
            raise ValueError(f"{call}: the network takes a condition beside x; take target.given(c), or give c")
        return reading

    def _read_again(self, own: str) -> Reading:
        net = self.net
        if is_compiling():
            return Reading(own, net, self.condition, self.width)
        reading = self._reading
        if reading is None or not reading.still(net):
            self._reading = reading = Reading(own, net, self.condition, self.width)
        return reading

    def _tensors_of(self, reading: Reading) -> Iterator[Tensor | None]:
        yield from (self.quadratic, self.c)
        yield from reading.tensors()
        if isinstance(self.embedding, nn.Module):
            yield from self.embedding.parameters()


def exact(x: Tensor) -> Any:
    """A context without autocast, which would round what a kernel does not."""
    if x.is_meta or not torch.is_autocast_enabled(x.device.type):
        return _NOTHING
    return torch.autocast(x.device.type, enabled=False)


_NOTHING = nullcontext()
