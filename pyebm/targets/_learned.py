"""The targets on networks share this: every call reads the module, and runs it in the kernel or as
it is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling
from torch.func import functional_call

from .. import _composed, _ops
from .._checks import check_samples
from .._derivatives import BySample, exactly, launched, reverse_alone, wanted
from .._options import shown
from ._condition import biases_of, rows_of
from ._gradients import Evaluation, apply, evaluated, exact
from ._kept import has_operations
from ._layers import unwrapped
from ._numbers import Numbers
from ._reading import Reading
from ._target import Target
from ._wiring import Given, packed

Embedding = Callable[[Tensor], Tensor]
_Self = TypeVar("_Self", bound="Learned")


class Learned(Target):
    """A target that is a network."""

    net: nn.Module
    condition: int
    embedding: Embedding | None

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
                f"{cls.__name__}: {changed.pop()} can't be another one than the network's, which is what the"
                " kernels run; write a function around the target, for pyebm.samplers.Langevin"
            )

    def __init__(self, net: nn.Module, quadratic: float, condition: int, embedding: Embedding | None) -> None:
        super().__init__()
        own = type(self).__name__
        if not isinstance(net, nn.Module):
            raise TypeError(f"{own}: net must be a torch.nn.Module, got {type(net).__name__}")
        if not isinstance(condition, int) or condition < 0:
            raise ValueError(
                f"{own}: condition must be how many of the net's inputs are a condition, >= 0, got"
                f" {condition!r}"
            )
        if embedding is not None and not (condition and callable(embedding)):
            raise ValueError(
                f"{own}: embedding must be a function of c, beside condition > 0, got {shown(embedding)}"
            )
        self.net, self.condition, self.embedding = net, condition, embedding
        reading = Reading(own, net, condition, self.width)
        self.dim = reading.dim
        self._register("quadratic", quadratic, like=reading.layers[0].weight)
        self.register_buffer("c", None)
        self._reading: Reading | None = reading

    def __getstate__(self) -> dict[str, Any]:
        """The state without the reading of the modules, since a copy has other modules."""
        return super().__getstate__() | {"_reading": None}

    def given(self: _Self, c: float | Tensor) -> _Self:
        """The target at the condition c, which shares this one's network.

        Args:
            c: (C,), one for all samples, or (B, C), one per sample; if C is 1, also a number or
                (B,). With an ``embedding`` it is any argument that the embedding takes. Both are
                read in every call, as the network's parameters are; the part of the layers that
                depends on c alone is computed once per call, for all of its steps.

        Raises ValueError for a target without a condition and for another shape, TypeError for a c
        that is no number or tensor.
        """
        given = self._condition(f"{type(self).__name__}.given", c)
        made = copy.copy(self)
        made._buffers, made._modules = {**self._buffers, "c": given}, dict(self._modules)
        return made

    def extra_repr(self) -> str:
        shown = (
            [] if self.quadratic.is_meta or not self.quadratic else [f"quadratic={self.quadratic.item():g}"]
        )
        if self.condition:
            shown.append(f"condition={self.condition}")
        if self.c is not None:
            shown.append(f"c=<{tuple(self.c.shape)}>")
        return ", ".join(shown)

    # --- one evaluation ---

    def _evaluate(self, call: str, x: Tensor, c: Any, backend: str | None, energy: bool) -> Tensor:
        """The energy (B,) or the score, by the kernel. If a derivative is wanted that no kernel
        makes, it is that of torch's operations."""
        if c is None and backend is None:
            given = self._as_before(x)
            if given is not None and reverse_alone(x, *given.parts) and not x.is_inference():
                kernels, layout = _ops.kernels(None, x), given.wiring.layout
                if not given.needs(x):
                    return evaluated(kernels, x, layout, packed(given), None, energy)
                return cast(Tensor, apply(x, None, given, kernels, energy, *given.parts))
        # self._buffers is read directly, since torch's __getattr__ would take a microsecond.
        c = self._buffers["c"] if c is None else self._condition(call, c)
        reading = self._fitting(call, x, c)
        with exact(x):
            if not self._has_chain(backend, x) or has_operations(x):
                return self._composed(x, c, energy)
            kernels = _ops.kernels(backend, x)
            given = self._given_at(call, x, c, reading)
            layout, biases = given.wiring.layout, given.biases
            if not wanted(x, biases, *given.parts):
                return evaluated(kernels, x, layout, packed(given), biases, energy)
            if self._goes_back(x, given) and "network_grad" in kernels:
                made: Tensor = Evaluation.apply(x, biases, given, kernels, energy, *given.parts)  # type: ignore[no-untyped-call]
                return made

            def launch(x: Tensor, params: Tensor, biases: Tensor | None) -> Tensor:
                return evaluated(kernels, x, layout, params, biases, energy)

            by_sample = biases is not None and biases.shape[0] > 1
            value = BySample(launch, shared=(1,) if by_sample else (1, 2))
            return exactly(lambda: launched(value, x, packed(given), biases), self._composed(x, c, energy))

    def _goes_back(self, x: Tensor, given: Given) -> bool:
        """Whether a kernel may make the backward pass. It may not if the module is wrapped, as by
        DDP, whose backward relies on its own forward."""
        net = self._modules["net"]
        plain = given.readable and not (x.is_inference() and torch.is_grad_enabled())
        alone = plain and reverse_alone(x, given.biases, *given.parts)
        return alone and net is not None and unwrapped(net) is net

    def _composed(self, x: Tensor, c: Tensor | None, energy: bool) -> Tensor:
        """The energy or the score by the module itself, on any device."""
        work = _composed.work_of(x).reshape(x.shape[0], self.dim)
        return self._energy(work, c) if energy else self._score(work, c).reshape(x.shape).to(x.dtype)

    def _energy(self, work: Tensor, c: Tensor | None) -> Tensor:
        """The energies (B,) of work (B, D), in its dtype."""
        raise NotImplementedError

    def _score(self, work: Tensor, c: Tensor | None) -> Tensor:
        raise NotImplementedError

    def _run(self, work: Tensor, c: Tensor | None) -> Tensor:
        """The module's output for ``work``, in the dtype of ``work``."""
        inputs = work
        if c is not None:
            rows = self._rows(type(self).__name__, work, c, work.shape[0])
            inputs = torch.cat((work, rows.expand(work.shape[0], -1)), 1)
        net = unwrapped(self.net)
        parameters = dict(net.named_parameters())
        if all(tensor.dtype is work.dtype for tensor in parameters.values()):
            return cast(Tensor, self.net(inputs))  # the wrapper too: DDP's backward relies on its forward
        return cast(
            Tensor,
            functional_call(
                net, {name: tensor.to(work.dtype) for name, tensor in parameters.items()}, (inputs,)
            ),
        )

    # --- the condition ---

    def _condition(self, call: str, c: Any) -> Tensor:
        """The caller's c as a tensor."""
        if not self.condition:
            raise ValueError(
                f"{call}: the target has no condition; make it with condition=C for a net of [x; c]"
            )
        if not isinstance(c, Tensor):
            c = torch.tensor(float(c), dtype=torch.float64, device=self.quadratic.device)
        if self.embedding is None:
            rows_of(call, c, self.condition)
        return cast(Tensor, c)

    def _rows(self, call: str, x: Tensor, c: Tensor, count: int) -> Tensor:
        """The condition's inputs to the layers, in the dtype that x is computed in: (1, C) or
        (count, C)."""
        rows = rows_of(call, c if self.embedding is None else self.embedding(c), self.condition, count)
        if rows.device != x.device:
            raise ValueError(f"{call}: c must be on x's device {x.device}, got {rows.device}")
        return rows.to(_dtype(x))

    # --- as the ops take it ---

    def _numbers_for(self, call: str, x: Tensor) -> Numbers:
        given = self._as_before(x)
        if given is None:
            return self._numbers_at(call, x, self.c, self._fitting(call, x, self.c))
        return Numbers("network_chain", given.wiring.layout, packed(given))

    def _at_levels(self, call: str, x: Tensor, levels: Tensor) -> Numbers:
        """The target's numbers with one row of biases for each of the levels (L,), which replace
        c."""
        levels = self._condition(call, levels)
        return self._numbers_at(call, x, levels, self._fitting(call, x, levels), levels.shape[0])

    def _numbers_at(
        self, call: str, x: Tensor, c: Tensor | None, reading: Reading, count: int | None = None
    ) -> Numbers:
        """The target's numbers at the condition c. count: the rows that the condition has, if it is
        not one per sample."""
        given = self._given_at(call, x, c, reading, count)
        return Numbers("network_chain", given.wiring.layout, packed(given), given.biases)

    def _given_at(
        self, call: str, x: Tensor, c: Tensor | None, reading: Reading, count: int | None = None
    ) -> Given:
        given = reading.given(1 if self.width is None else 0, _dtype(x), self.quadratic)
        if c is None:
            return given
        with exact(x):
            rows = self._rows(call, x, c, x.shape[0] if count is None else count)
            return given._replace(biases=biases_of(reading.layers, rows))

    def _as_before(self, x: Tensor) -> Given | None:
        """The arguments for the ops, without a condition and as they lie in memory; None if the
        network or x has to be looked at closely, to find them or to say what is wrong."""
        if type(x) is not Tensor or is_compiling():
            return None
        reading, net, quadratic = self._reading, self._modules["net"], self._buffers.get("quadratic")
        if reading is None or net is None or quadratic is None or self.condition:
            return None
        same = reading.module is net and reading.dim == self.dim and reading.computes
        if not same or not reading.still(net):
            return None
        given = reading.given(1 if self.width is None else 0, reading.dtype, quadratic)
        return given if given.whole and given.fits(x, self.dim) else None

    def _has_chain(self, backend: str | None, x: Tensor, limited: bool = False) -> bool:
        """Whether the chain's kernel runs, which takes a mask and a score_clip on all devices. A
        backend that was asked for has it, or raises an error; without one, devices that lack the
        kernel run the module."""
        del limited
        return backend is not None or _ops.has("network_chain", x)

    def _has_score_kernel(self, backend: str | None, x: Tensor) -> bool:
        return self._has_chain(backend, x)

    @property
    def _has_energy_kernel(self) -> bool:
        return self.has_energy

    @property
    def _has_energy_on_gpus(self) -> bool:
        return self.has_energy

    def _fitting(self, call: str, x: Tensor, c: Tensor | None) -> Reading:
        """Reads the network as it is now and checks that x fits it."""
        batch = check_samples(call, "x", x)
        own = type(self).__name__
        reading = self._read_again(own)
        if reading.dim != self.dim:
            raise ValueError(
                f"{call}: net must take samples of {self.dim} elements, as when the target was made"
            )
        if batch and x.numel() // batch != self.dim:
            raise ValueError(
                f"{call}: x must have samples of {self.dim} elements, the network's dimension, got"
                f" {tuple(x.shape)}"
            )
        if reading.device != x.device:
            must = f"x must be on the network's device {reading.device}, got {x.device}"
            raise ValueError(f"{call}: {must}; move it with target.to(x.device)")
        if self.condition and c is None:
            raise ValueError(
                f"{call}: the network takes a condition beside x; take target.given(c), or give c"
            )
        return reading

    def _read_again(self, own: str) -> Reading:
        if is_compiling():
            return Reading(own, self.net, self.condition, self.width)
        net = cast(nn.Module, self._modules["net"])
        reading = self._reading
        if reading is None or not reading.still(net):
            self._reading = reading = Reading(own, net, self.condition, self.width)
        return reading


def _dtype(x: Tensor) -> torch.dtype:
    """The dtype that x is computed in."""
    return torch.float64 if x.dtype is torch.float64 else torch.float32
