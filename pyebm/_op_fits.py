"""A fast test whether a call of an op is plainly right, in the fewest reads: contiguous tensors of
torch's own type that share no memory.

Any other call goes through the full checks of _op_checks.py, which has the rules and the messages.
This test only spares the usual call their cost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ._arguments import Argument, Dtype, Op, Shape
from ._options import FLOATS, MAX_ELEMENTS

_TYPES: dict[str, tuple[type, ...]] = {"float": (float, int), "int": (int,), "bool": (bool,)}
_REAL = (torch.float32, torch.float64)
DTYPES = {
    Dtype.FLOATS: FLOATS,
    Dtype.REAL: _REAL,
    Dtype.DOUBLE: (torch.float64,),
    Dtype.LONG: (torch.int64,),
    Dtype.BOOL: (torch.bool,),
}
_ALIKE, _BATCH, _NAME, _ROWS, _ONE, _ONE_OR_BATCH, _FLAT, _TABLE, _LOSS = range(9)
_SHAPES = {
    **dict.fromkeys((Shape.SAMPLES, Shape.LIKE), _ALIKE),
    Shape.BATCH: _BATCH,
    Shape.NAME: _NAME,
    Shape.ROWS: _ROWS,
    Shape.ONE: _ONE,
    Shape.ABOVE_ROWS: _ONE_OR_BATCH,
    Shape.FLAT: _FLAT,
    Shape.TABLE: _TABLE,
    **dict.fromkeys((Shape.LOSS, Shape.ABOVE), _LOSS),
}


def fits(op: Op) -> Callable[[tuple[Any, ...]], bool]:
    """A test of the values of all arguments, in order. False does not mean that the call is wrong,
    only that the full checks must decide."""
    first, place = op.place[op.samples.name], op.place
    numbers = [_number(op, argument) for argument in op.arguments if argument.tensor is None]
    tensors = [_tensor(op, argument) for argument in op.arguments if argument.tensor is not None]
    partners = [
        (place[argument.name], place[argument.partner])
        for argument in op.arguments
        if argument.partner is not None
    ]
    above = [
        (place[a.name], place[a.limit.at_least])
        for a in op.arguments
        if a.limit is not None and a.limit.at_least is not None
    ]
    flagged = [
        (place[a.name], place[one.flag], place.get(a.rows), one.number.low, one.number.low_open)
        for a in op.arguments
        for one in a.where
    ]
    reduction = place.get("reduction", 0)
    count_of_arguments = len(op.arguments)

    def plainly(values: tuple[Any, ...]) -> bool:
        x = values[first]
        if type(x) is not Tensor or len(values) != count_of_arguments:
            return False
        dtype, on_cpu, device, shape, elements = x.dtype, x.is_cpu, x.device, x.shape, x.numel()
        if not shape or dtype not in FLOATS or elements > MAX_ELEMENTS:
            return False
        batch = shape[:1]
        for at, types, optional, unread, low, high, low_open in numbers:
            value = values[at]
            if value is None:
                if optional:
                    continue
                return False
            if type(value) not in types:
                return False
            beyond = not low <= value < high or (low_open and value == low)
            if beyond and (unread is None or values[unread] is None):
                return False
        for at, other in partners:
            if (values[at] is None) != (values[other] is None):
                return False
        for at, least in above:
            if values[at] is not None and values[least] is not None and values[at] < values[least]:
                return False
        for at, flag, unread, low, low_open in flagged:
            below = values[at] < low or (low_open and values[at] == low)
            if below and values[flag] and (unread is None or values[unread] is None):
                return False
        spans: list[tuple[int, int, bool]] = []
        for at, optional, allowed, kind, written, on_host in tensors:
            tensor = values[at]
            if tensor is None:
                if optional:
                    continue
                return False
            if type(tensor) is not Tensor or tensor.dtype not in allowed[dtype] or not tensor.is_contiguous():
                return False
            if not (tensor.is_cpu if on_cpu or on_host else tensor.device == device):
                return False
            own, count = tensor.shape, tensor.numel()
            if kind is _LOSS:
                kind = (_ALIKE, _BATCH, _ONE)[min(values[reduction], 2)]
            if kind is _ALIKE:
                right = own == shape
            elif kind is _BATCH:
                right = own == batch
            elif kind is _NAME:
                right = own == (4,)
            elif kind is _ROWS:
                right = len(own) == 1 and count > 0 and elements % count == 0
            elif kind is _FLAT:
                right = len(own) == 1
            elif kind is _TABLE:
                right = len(own) == 2
            else:
                right = (count == 1 and kind in (_ONE, _ONE_OR_BATCH)) or (
                    own == batch and kind is _ONE_OR_BATCH
                )
            if not right:
                return False
            begin, size = tensor.data_ptr(), tensor.itemsize
            if count and (
                not begin or tensor.untyped_storage().nbytes() < (tensor.storage_offset() + count) * size
            ):
                return False
            end = begin + count * size
            for other_begin, other_end, other_written in spans:
                if begin < other_end and other_begin < end and (written or other_written):
                    return False
            spans.append((begin, end, written))
        return True

    def careful(values: tuple[Any, ...]) -> bool:
        try:
            return plainly(values)
        except (RuntimeError, TypeError):  # a tensor without an address or sizes, a symbolic number
            return False

    return careful


def _number(op: Op, argument: Argument) -> tuple[Any, ...]:
    """(place, types, whether it may be None, the place of the argument in whose presence it is not
    read, low, high, whether low itself is excluded)."""
    unread, low, high, low_open = op.place.get(argument.rows), float("-inf"), float("inf"), False
    if argument.between is not None:
        low, high = argument.between.low, argument.between.high
    elif argument.number is not None:
        low, high, low_open = (
            argument.number.low,
            argument.number.high,
            argument.number.low_open or argument.number.low == low,
        )
    elif argument.limit is not None and argument.limit.positive:
        low, low_open = 0.0, True
    return op.place[argument.name], _TYPES[argument.kind], argument.optional, unread, low, high, low_open


def _tensor(op: Op, argument: Argument) -> tuple[Any, ...]:
    """(place, whether it may be None, the dtypes allowed for each dtype of x, kind of shape,
    whether it is written, whether it lies on the host)."""
    rule = argument.tensor
    assert rule is not None
    allowed = {}
    for x in FLOATS:
        work = (torch.float64 if x == torch.float64 else torch.float32,)
        elementwise = rule.dtype is Dtype.REAL and rule.shape in (Shape.LOSS, Shape.ABOVE)
        allowed[x] = (
            (x,)
            if rule.dtype is Dtype.SAME
            else work
            if rule.dtype is Dtype.WORK or elementwise
            else DTYPES[rule.dtype]
        )
    kind = _SHAPES.get(rule.shape)
    return op.place[argument.name], argument.optional, allowed, kind, argument.written, rule.on_host
