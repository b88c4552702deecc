"""The checks of an op's arguments before it touches any memory, from the table of them: those of csrc/common/op_checks.h, for
the backends written in Python and for fake tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._C import _functorch

from ._arguments import Argument, Dtype, Op, Shape
from ._checks import MAX_ELEMENTS
from ._overlap import overlaps_itself, reach, same, share_memory

_NUMBERS: dict[str, Any] = {
    "float": (float, int, torch.SymFloat, torch.SymInt),
    "int": (int, torch.SymInt),
    "bool": (bool, torch.SymBool),
}
_REAL = (torch.float32, torch.float64)
_ELEMENTWISE = (Shape.SAMPLES, Shape.LIKE)


def checked(op: Op, implementation: Callable[..., None]) -> Callable[..., None]:
    """The op with its checks first; compiled code has made its own."""

    def run(*args: Any, **kwargs: Any) -> None:
        if not torch.compiler.is_compiling():
            check(op, op.flat(args, kwargs))
        implementation(*args, **kwargs)

    return run


def fake(op: Op) -> Callable[..., None]:
    """For fake tensors: every result is an argument, so there is no shape to work out."""

    def run(*args: Any, **kwargs: Any) -> None:
        check(op, op.flat(args, kwargs), real=False)

    return run


def check(op: Op, values: tuple[Any, ...], real: bool = True) -> None:
    """Raise ValueError, naming the argument, where one is not what the table says.

    Args:
        real: False for fake tensors: they have no memory, and what is not known of their sizes is taken to fit.
    """
    _Checks(op, values).run(real)


class _Checks:
    def __init__(self, op: Op, values: tuple[Any, ...]) -> None:
        self.op, self.values = op, values
        self.x: Tensor = self._tensor(op.samples, values[op.place[op.samples.name]])
        self.x_name = op.samples.label

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
                given.append((argument, tensor, shape in _ELEMENTWISE))
                self._kind(argument, tensor, shape)
        for argument, tensor, _ in given:
            self._shape(argument, tensor)
        if real and all(_has_memory(tensor) for _, tensor, _ in given):
            self._memory(given)

    def _fail(self, name: str, what: str) -> None:
        raise ValueError(f"{self.op.name}: {name} {what}")

    def _value(self, name: str) -> Any:
        return self.values[self.op.place[name]]

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
            raise TypeError(f"{self.op.name}: {argument.name} must be of type {argument.kind}, got {type(value).__name__}")
        if argument.between is None:
            return
        low, high = argument.between.low, argument.between.high
        if _known(value < low) or _known(value >= high):
            self._fail(argument.name, f"must be {f'>= {low}' if high == 2**63 - 1 else f'in [{low}, {high})'}, got {value}")

    def _kind(self, argument: Argument, tensor: Tensor, shape: Shape) -> None:
        """Device, layout and dtype."""
        assert argument.tensor is not None
        if tensor.device != self.x.device:
            self._fail(argument.label, f"must be on {self.x_name}'s device, {self.x.device}, got {tensor.device}")
        if tensor.layout is not torch.strided:
            self._fail(argument.label, f"must be a dense tensor, got layout {tensor.layout}")
        # A loss, or the gradient of one, is of the dtype of the arithmetic where it goes element by element.
        allowed = self._dtypes(
            Dtype.WORK if shape in _ELEMENTWISE and argument.tensor.dtype is Dtype.REAL else argument.tensor.dtype
        )
        if tensor.dtype not in allowed:
            words = [str(dtype).removeprefix("torch.") for dtype in (*allowed, tensor.dtype)]
            expected = " or ".join(filter(None, (", ".join(words[:-2]), words[-2])))
            self._fail(argument.label, f"must be {expected}, got {words[-1]}")
        if argument.tensor.contiguous and not tensor.is_contiguous():
            self._fail(argument.label, f"must be contiguous, got strides {tuple(tensor.stride())}")

    def _dtypes(self, dtype: Dtype) -> tuple[torch.dtype, ...]:
        same = self.x.dtype
        return {
            Dtype.FLOATS: (torch.float16, torch.bfloat16, *_REAL),
            Dtype.SAME: (same,),
            Dtype.WORK: (torch.float64 if same == torch.float64 else torch.float32,),
            Dtype.REAL: _REAL,
            Dtype.DOUBLE: (torch.float64,),
            Dtype.LONG: (torch.int64,),
            Dtype.BOOL: (torch.bool,),
        }[dtype]

    def _shape(self, argument: Argument, tensor: Tensor) -> None:
        assert argument.tensor is not None
        x, shape, wanted = self.x, tensor.shape, self._by_reduction(argument.tensor.shape)
        batch, count = x.shape[0], tensor.numel()
        if wanted is Shape.LIKE:
            self._require(argument, tensor, _unlike(shape, x.shape), f"must have {self.x_name}'s shape {tuple(x.shape)}")
        elif wanted is Shape.BATCH:
            self._require(argument, tensor, _unlike(shape, (batch,)), f"must have one value for each of {batch} samples")
        elif wanted is Shape.ROWS:
            bad = len(shape) != 1 or (_known(count == 0) and _known(x.numel() != 0))
            bad = bad or (not _known(count == 0) and _known(x.numel() % count != 0))
            one = "must have one value for all, or for each sample, token or element: a number of them that divides"
            self._require(argument, tensor, bad, f"{one} {x.numel()}, got {count} in")
        elif wanted is Shape.SCHEDULE:
            by_step = bool(self._value(f"{argument.label}_per_step"))
            expected = self._value("n_steps") if by_step else batch
            bad = len(shape) != 1 or (_known(count != 1) and _known(count != expected))
            of = "steps" if by_step else "samples"
            self._require(argument, tensor, bad, f"must have one value, or one for each of {expected} {of}")
        elif wanted is Shape.ABOVE_ROWS:
            bad = _known(count != 1) and (len(shape) != 1 or _known(count != batch))
            self._require(argument, tensor, bad, f"must have one value, or one for each of {batch} samples")
        elif wanted is Shape.STATES:
            kept = (self._value("n_steps") // self._value("thin"), *x.shape)
            self._require(argument, tensor, _unlike(shape, kept), "must have shape (n_steps // thin, ...), ... being the samples'")
        elif wanted is Shape.NAME:
            self._require(argument, tensor, _unlike(shape, (4,)), "must have shape (4,)")
        elif wanted is Shape.ONE:
            self._require(argument, tensor, _known(count != 1), "must have one element")
        elif wanted is Shape.FLAT:
            self._require(argument, tensor, len(shape) != 1, "must have one dimension")

    def _by_reduction(self, shape: Shape) -> Shape:
        if shape not in (Shape.LOSS, Shape.ABOVE):
            return shape
        reduction = self._value("reduction")
        if reduction == 0:
            return Shape.LIKE
        if shape is Shape.ABOVE:
            return Shape.ABOVE_ROWS
        return Shape.BATCH if reduction == 1 else Shape.ONE

    def _require(self, argument: Argument, tensor: Tensor, wrong: bool, expected: str) -> None:
        if wrong:
            self._fail(argument.label, f"{expected}, got shape {tuple(tensor.shape)}")

    def _memory(self, given: list[tuple[Argument, Tensor, bool]]) -> None:
        spans = []
        for argument, tensor, _ in given:
            begin = tensor.data_ptr()
            end = begin + (reach(tensor) + 1) * tensor.itemsize if tensor.numel() else begin
            if end > begin:
                held = tensor.untyped_storage().nbytes()
                if not begin or tensor.storage_offset() * tensor.itemsize + end - begin > held:
                    self._fail(f"{argument.label}'s", f"storage must hold its {tensor.numel()} elements, got {held} bytes")
                if argument.written and not tensor.is_contiguous() and overlaps_itself(tensor):
                    strides = tuple(tensor.stride())
                    self._fail(argument.label, f"must not be expanded or overlap itself, got strides {strides}; clone it")
            spans.append((begin, end))
        for i, (a, a_tensor, a_elementwise) in enumerate(given):
            if not a.written:
                continue
            for j, (b, b_tensor, b_elementwise) in enumerate(given):
                meet = spans[i][0] < spans[j][1] and spans[j][0] < spans[i][1]
                if i == j or not meet or (b.written and j < i):
                    continue
                part = a_elementwise and b_elementwise and not (b.written or a.apart or b.apart)
                if (part and same(a_tensor, b_tensor)) or not share_memory(a_tensor, b_tensor):
                    continue
                self._fail(b.label, f"must not overlap {a.label}{' in part' if part else ''}; clone one of them")


def _known(wrong: Any) -> bool:
    """Whether this is true; of a symbol only where nothing has to be assumed."""
    if isinstance(wrong, bool):
        return wrong
    from torch.fx.experimental import symbolic_shapes  # sympy and all, which are here when a symbol is

    return bool(symbolic_shapes.statically_known_true(wrong))


def _unlike(shape: Any, expected: Any) -> bool:
    return len(shape) != len(expected) or any(_known(n != m) for n, m in zip(shape, expected, strict=True))


def _has_memory(tensor: Tensor) -> bool:
    """Whether addresses can be compared: no subclass, transform or tracer hides them."""
    plain = type(tensor) in (Tensor, torch.nn.Parameter) and not tensor.is_meta
    return plain and not _functorch.is_functorch_wrapped_tensor(tensor) and not torch._is_functional_tensor(tensor)
