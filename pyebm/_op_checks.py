"""Checks an op's arguments against the table of them before the op touches any memory. These are
the checks of csrc/common/op_checks.h, for the backends written in Python and for fake tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._C import _functorch

from ._arguments import Argument, Dtype, Limit, Op, Shape
from ._op_fits import DTYPES, fits
from ._options import MAX_ELEMENTS
from ._overlap import overlaps_itself, reach, same, share_memory

_NUMBERS: dict[str, Any] = {
    "float": (float, int, torch.SymFloat, torch.SymInt),
    "int": (int, torch.SymInt),
    "bool": (bool, torch.SymBool),
}
_ELEMENTWISE = (Shape.SAMPLES, Shape.LIKE)


def checked(op: Op, implementation: Callable[..., None]) -> Callable[..., None]:
    """The op with its checks first. Compiled code skips them, since it has made its own."""

    plainly_right = fits(op)

    def run(*args: Any, **kwargs: Any) -> None:
        if not torch.compiler.is_compiling():
            values = op.flat(args, kwargs)
            if not plainly_right(values):
                check(op, values)
        implementation(*args, **kwargs)

    return run


def fake(op: Op) -> Callable[..., None]:
    """The op for fake tensors: it only checks. Every result is an argument, so there is no shape to
    work out."""

    def run(*args: Any, **kwargs: Any) -> None:
        check(op, op.flat(args, kwargs), real=False)

    return run


def check(op: Op, values: tuple[Any, ...], real: bool = True) -> None:
    """Raise ValueError, naming the argument, where one is not what the table says.

    Args:
        real: False for fake tensors: they have no memory, and sizes that are not known are taken to
            fit.
    """
    _Checks(op, values).run(real)


class _Checks:
    def __init__(self, op: Op, values: tuple[Any, ...]) -> None:
        self.op, self.values = op, values
        self.x: Tensor = self._tensor(op.samples, values[op.place[op.samples.name]])
        self.x_name, self.shape, self.device = op.samples.label, self.x.shape, self.x.device
        self.same = (self.x.dtype,)
        self.work = (torch.float64 if self.x.dtype == torch.float64 else torch.float32,)

    def run(self, real: bool) -> None:
        self._kind(self.op.samples, self.x, Shape.SAMPLES)
        self._samples()
        given = []
        for argument, value in zip(self.op.arguments, self.values, strict=True):
            if argument.partner is not None and (value is None) != (self._value(argument.partner) is None):
                self._fail(argument.name, f"and {argument.partner} must both be given, or neither")
            if argument.tensor is None:
                if value is not None or not argument.optional:
                    self._number(argument, value)
            elif value is not None or not argument.optional:
                tensor = self._tensor(argument, value)
                shape = self._by_reduction(argument.tensor.shape)
                given.append((argument, tensor, shape))
                self._kind(argument, tensor, shape)
        for argument, tensor, shape in given:
            self._shape(argument, tensor, shape)
        if real and all(_has_memory(tensor) for _, tensor, _ in given):
            self._memory(given)

    def _fail(self, name: str, what: str) -> None:
        raise ValueError(f"{self.op.name}: {name} {what}")

    def _value(self, name: str) -> Any:
        return self.values[self.op.place[name]]

    def _given(self, name: str) -> Any:
        """The value of an argument that not every op has; None for an op without it."""
        return self.values[self.op.place[name]] if name in self.op.place else None

    def _tensor(self, argument: Argument, value: Any) -> Tensor:
        if not isinstance(value, Tensor):
            raise TypeError(f"{self.op.name}: {argument.label} must be a tensor, got {type(value).__name__}")
        return value

    def _samples(self) -> None:
        x, name = self.x, self.x_name
        if x.dim() == 0:
            self._fail(name, "must have a first dimension of samples, got a 0-dim tensor")
        if _known(x.shape[0] > 0) and _known(x.numel() // x.shape[0] > MAX_ELEMENTS):
            self._fail(name, f"must have at most 2**34 elements a sample, got {x.numel() // x.shape[0]}")

    def _number(self, argument: Argument, value: Any) -> None:
        if not isinstance(value, _NUMBERS[argument.kind]):
            raise TypeError(
                f"{self.op.name}: {argument.name} must be of type {argument.kind}, got {type(value).__name__}"
            )
        if argument.limit is not None:
            self._limit(argument.name, argument.limit, value)
        if self._given(argument.rows) is None:
            self._range(argument, value)
        if argument.between is None:
            return
        low, high = argument.between.low, argument.between.high
        if _known(value < low) or _known(value >= high):
            self._fail(
                argument.name,
                f"must be {f'>= {low}' if high == 2**63 - 1 else f'in [{low}, {high})'}, got {value}",
            )

    def _limit(self, name: str, rule: Limit, value: Any) -> None:
        if _known(value != value):
            self._fail(name, "must not be NaN")
        if rule.positive and _known(value <= 0):
            self._fail(name, f"must be > 0, got {value:g}")
        least = None if rule.at_least is None else self._value(rule.at_least)
        if least is not None and _known(value < least):
            self._fail(name, f"must be >= {rule.at_least}, {least:g}, got {value:g}")

    def _range(self, argument: Argument, value: Any) -> None:
        flagged = (one.number for one in argument.where if self._value(one.flag))
        for rule in (argument.number, *flagged):
            if rule is None:
                continue
            below = _known(value < rule.low) or (
                (rule.low_open or rule.low == -math.inf) and _known(value == rule.low)
            )
            if below or _known(value >= rule.high) or _known(value != value):
                self._fail(argument.name, f"must be {rule.words}, got {value:g}")

    def _kind(self, argument: Argument, tensor: Tensor, shape: Shape) -> None:
        """Checks device, layout and dtype."""
        rule = argument.tensor
        assert rule is not None
        if rule.on_host and tensor.device.type != "cpu":
            self._fail(argument.label, f"must be on the CPU, got {tensor.device}")
        if not rule.on_host and tensor.device != self.device:
            self._fail(
                argument.label, f"must be on {self.x_name}'s device, {self.device}, got {tensor.device}"
            )
        if tensor.layout is not torch.strided:
            self._fail(argument.label, f"must be a dense tensor, got layout {tensor.layout}")
        # An elementwise loss, or the gradient of one, has the dtype of the arithmetic.
        wanted = Dtype.WORK if rule.dtype is Dtype.REAL and shape in _ELEMENTWISE else rule.dtype
        allowed = self.same if wanted is Dtype.SAME else self.work if wanted is Dtype.WORK else DTYPES[wanted]
        if tensor.dtype not in allowed:
            words = [str(dtype).removeprefix("torch.") for dtype in (*allowed, tensor.dtype)]
            expected = " or ".join(filter(None, (", ".join(words[:-2]), words[-2])))
            self._fail(argument.label, f"must be {expected}, got {words[-1]}")
        if rule.contiguous and not tensor.is_contiguous():
            self._fail(argument.label, f"must be contiguous, got strides {tuple(tensor.stride())}")

    def _shape(self, argument: Argument, tensor: Tensor, wanted: Shape) -> None:
        shape, whole = tensor.shape, self.shape
        if wanted is Shape.LIKE:
            if _unlike(shape, whole):
                self._wrong(argument, shape, f"must have {self.x_name}'s shape {tuple(whole)}")
            return
        if wanted is Shape.NAME:
            if _unlike(shape, (4,)):
                self._wrong(argument, shape, "must have shape (4,)")
            return
        if wanted is Shape.STATES:
            if _unlike(shape, (self._value("n_steps") // self._value("thin"), *whole)):
                self._wrong(argument, shape, "must have shape (n_steps // thin, ...), ... being the samples'")
            return
        if wanted in (Shape.FLAT, Shape.TABLE):
            dims, words = (1, "one dimension") if wanted is Shape.FLAT else (2, "two dimensions")
            if len(shape) != dims:
                self._wrong(argument, shape, f"must have {words}")
            return
        batch, count, flat = whole[0], tensor.numel(), len(shape) == 1
        if wanted is Shape.BATCH:
            if not flat or _differ(count, batch):
                self._wrong(argument, shape, f"must have one value for each of {batch} samples")
        elif wanted is Shape.ROWS:
            elements = self.x.numel()
            bad = _differ(elements, 0) if _known(count == 0) else _known(elements % count != 0)
            if not flat or bad:
                one = (
                    "must have one value for all, or for each sample, token or element: a number of them that"
                    " divides"
                )
                self._wrong(argument, shape, f"{one} {elements}, got {count} in")
        elif wanted is Shape.SCHEDULE:
            by_step = bool(self._value(f"{argument.label}_per_step"))
            expected = self._value("n_steps") if by_step else batch
            if not flat or (_differ(count, 1) and _differ(count, expected)):
                rows = "steps" if by_step else "samples"
                self._wrong(argument, shape, f"must have one value, or one for each of {expected} {rows}")
        elif wanted is Shape.ABOVE_ROWS:
            if _differ(count, 1) and (not flat or _differ(count, batch)):
                self._wrong(argument, shape, f"must have one value, or one for each of {batch} samples")
        elif wanted is Shape.ONE and _differ(count, 1):
            self._wrong(argument, shape, "must have one element")

    def _by_reduction(self, shape: Shape) -> Shape:
        if shape is not Shape.LOSS and shape is not Shape.ABOVE:
            return shape
        reduction = self._value("reduction")
        if reduction == 0:
            return Shape.LIKE
        if shape is Shape.ABOVE:
            return Shape.ABOVE_ROWS
        return Shape.BATCH if reduction == 1 else Shape.ONE

    def _wrong(self, argument: Argument, shape: torch.Size, expected: str) -> None:
        self._fail(argument.label, f"{expected}, got shape {tuple(shape)}")

    def _memory(self, given: list[tuple[Argument, Tensor, Shape]]) -> None:
        spans = []
        for argument, tensor, _ in given:
            begin, count = tensor.data_ptr(), tensor.numel()
            if count and not tensor.is_contiguous():
                count = reach(tensor) + 1
            end = begin + count * tensor.itemsize
            if end > begin:
                available = tensor.untyped_storage().nbytes()
                if not begin or tensor.storage_offset() * tensor.itemsize + end - begin > available:
                    self._fail(
                        f"{argument.label}'s",
                        f"storage must hold its {tensor.numel()} elements, got {available} bytes",
                    )
                if argument.written and not tensor.is_contiguous() and overlaps_itself(tensor):
                    strides = tuple(tensor.stride())
                    self._fail(
                        argument.label,
                        f"must not be expanded or overlap itself, got strides {strides}; clone it",
                    )
            spans.append((begin, end))
        for i, (a, a_tensor, a_shape) in enumerate(given):
            if not a.written:
                continue
            for j, (b, b_tensor, b_shape) in enumerate(given):
                meet = spans[i][0] < spans[j][1] and spans[j][0] < spans[i][1]
                if i == j or not meet or (b.written and j < i):
                    continue
                part = (
                    a_shape in _ELEMENTWISE
                    and b_shape in _ELEMENTWISE
                    and not (b.written or a.apart or b.apart)
                )
                if (part and same(a_tensor, b_tensor)) or not share_memory(a_tensor, b_tensor):
                    continue
                self._fail(
                    b.label, f"must not overlap {a.label}{' in part' if part else ''}; clone one of them"
                )


def _known(wrong: Any) -> bool:
    """Whether this is true. A symbolic condition counts as true only if it holds without any
    assumption."""
    if isinstance(wrong, bool):
        return wrong
    from torch.fx.experimental import symbolic_shapes  # a symbol exists, so this is imported already

    return bool(symbolic_shapes.statically_known_true(wrong))


def _differ(a: Any, b: Any) -> bool:
    return _known(a != b)


def _unlike(shape: Any, expected: Any) -> bool:
    return len(shape) != len(expected) or any(map(_differ, shape, expected))


def _has_memory(tensor: Tensor) -> bool:
    """Whether addresses can be compared: no subclass, transform or tracer hides them."""
    plain = type(tensor) in (Tensor, torch.nn.Parameter) and not tensor.is_meta
    return (
        plain
        and not _functorch.is_functorch_wrapped_tensor(tensor)
        and not torch._is_functional_tensor(tensor)
    )
