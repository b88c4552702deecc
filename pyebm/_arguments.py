"""An op's arguments as a named tuple: its schema, its checks and its C++ struct all follow from the
fields (_schemas.py)."""

from __future__ import annotations

import dataclasses
import functools
import math
import string
import types
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from torch import Tensor

R = TypeVar("R")


class Shape(Enum):
    """The shapes of tensor arguments; B is the number of samples."""

    SAMPLES = "samples"  # (B, ...): the tensor that the other shapes refer to
    LIKE = "like"  # the shape of the samples
    BATCH = "batch"  # (B,)
    ROWS = "rows"  # (n,) where n divides the number of elements
    SCHEDULE = "schedule"  # (1,), or (n_steps,) where <name>_per_step, else (B,)
    ABOVE_ROWS = "above_rows"  # one value or (B,)
    ABOVE = "above"  # the shape of LOSS; where the loss is one number or (B,), both shapes will do
    LOSS = "loss"  # the shape of the samples, (B,) or one value: the reduction decides
    STATES = "states"  # (n_steps // thin, B, ...)
    NAME = "name"  # (4,)
    ONE = "one"  # one value
    FLAT = "flat"  # (n,); the op itself checks n
    TABLE = "table"  # (n, m); the op itself checks n and m


class Dtype(Enum):
    FLOATS = "float16, bfloat16, float32 or float64"
    SAME = "the samples'"
    WORK = "the one that the samples are computed in"
    REAL = "float32 or float64"
    DOUBLE = "float64"
    LONG = "int64"
    BOOL = "bool"


@dataclasses.dataclass(frozen=True)
class Is:
    """The tensors that an argument takes. They lie on the device of the samples, or, with on_host,
    on the CPU."""

    shape: Shape
    dtype: Dtype
    contiguous: bool = False
    on_host: bool = False


class Written:
    """The op writes into this tensor: it shares memory with no other argument, nor with itself."""


class Apart:
    """This tensor may not share memory with one that is written. Without this mark, a tensor of the
    same shape may be that tensor itself, element by element."""


@dataclasses.dataclass(frozen=True)
class Between:
    """An integer in [low, high). bound: the C++ name of ``high``, if it has one."""

    low: int
    high: int = 2**63 - 1
    bound: str | None = None


@dataclasses.dataclass(frozen=True)
class Number:
    """A number in [low, high), or in (low, high) with low_open. It is not read where <name>_rows is
    given."""

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False

    @property
    def words(self) -> str:
        """The range in the words that the public calls' messages use."""
        if self.high < math.inf:
            return f"in {'(' if self.low_open else '['}{self.low:g}, {self.high:g})"
        return (
            "finite" if self.low == -math.inf else f"{'>' if self.low_open else '>='} {self.low:g} and finite"
        )


@dataclasses.dataclass(frozen=True)
class Limit:
    """A number that may be infinite, but not NaN: a clamp by NaN would do nothing on one backend
    and give NaN on another. It is not below the number named ``at_least``, where both are given."""

    positive: bool = False
    at_least: str | None = None


@dataclasses.dataclass(frozen=True)
class Where:
    """The range of the number in calls that set this flag."""

    flag: str
    number: Number


@dataclasses.dataclass(frozen=True)
class With:
    """This argument is given if and only if the other one is."""

    other: str


@dataclasses.dataclass(frozen=True, eq=False)
class Argument:
    name: str
    path: tuple[str, ...]  # the names that lead to the field, through nested named tuples
    kind: str  # the type in the schema: Tensor, float, int, bool
    optional: bool
    has_default: bool
    tensor: Is | None
    written: bool
    apart: bool
    between: Between | None
    number: Number | None
    where: tuple[Where, ...]
    limit: Limit | None
    partner: str | None

    @property
    def rows(self) -> str:
        """The name of the tensor argument that may be given in place of this number."""
        return f"{self.name}_rows"

    @functools.cached_property
    def label(self) -> str:
        """The name in messages: the rows of a coefficient go by the coefficient's name."""
        return self.name.removesuffix("_rows")


@dataclasses.dataclass(frozen=True)
class Op:
    """An op's name, its arguments in order, and the named tuple that holds them."""

    name: str
    record: type[Any]

    @functools.cached_property
    def arguments(self) -> tuple[Argument, ...]:
        return tuple(arguments_of(self.record))

    @functools.cached_property
    def samples(self) -> Argument:
        """The argument that the shapes of the others refer to."""
        (found,) = (a for a in self.arguments if a.tensor is not None and a.tensor.shape is Shape.SAMPLES)
        return found

    @functools.cached_property
    def place(self) -> dict[str, int]:
        return {argument.name: place for place, argument in enumerate(self.arguments)}

    @functools.cached_property
    def schema(self) -> str:
        written = iter(string.ascii_lowercase)
        return f"({', '.join(_declared(argument, written) for argument in self.arguments)}) -> ()"

    def flat(self, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """The values of all arguments in order, None for those that are not given."""
        if not kwargs and len(args) == len(self.arguments):
            return tuple(args)
        values = list(args) + [None] * (len(self.arguments) - len(args))
        for name, value in kwargs.items():
            values[self.place[name]] = value
        return tuple(values)


def entry(record: Callable[..., R]) -> Callable[[Callable[[R], None]], Callable[..., None]]:
    """Decorates an implementation that takes the named tuple, so that it can be called like the op,
    with the arguments one after the other."""
    fields = _fields(record)

    def decorate(implementation: Callable[[R], None]) -> Callable[..., None]:
        @functools.wraps(implementation)
        def op(*args: Any, **kwargs: Any) -> None:
            implementation(_filled(record, fields, args, kwargs))

        return op

    return decorate


# (name, the field's named tuple, the fields of that tuple, how many arguments they hold). For a
# field that is an argument itself the last three are None, () and 1.
_Field = tuple[str, Any, tuple[Any, ...], int]


def _fields(record: Any) -> tuple[_Field, ...]:
    found = []
    for name, hint in get_type_hints(record).items():
        inner = hint if hasattr(hint, "_fields") else None
        found.append(
            (name, inner, _fields(inner), len(arguments_of(inner))) if inner else (name, None, (), 1)
        )
    return tuple(found)


def _filled(
    record: Callable[..., R], fields: tuple[_Field, ...], args: Sequence[Any], kwargs: dict[str, Any]
) -> R:
    values, at = {}, 0
    for name, inner, inner_fields, count in fields:
        if inner is not None:
            values[name] = _filled(inner, inner_fields, args[at : at + count], kwargs)
        elif at < len(args):
            values[name] = args[at]
        elif name in kwargs:
            values[name] = kwargs[name]
        at += count
    return record(**values)


def _declared(argument: Argument, written: Any) -> str:
    mark = f"({next(written)}!)" if argument.written else ""
    default = "=None" if argument.has_default else ""
    return f"{argument.kind}{mark}{'?' if argument.optional else ''} {argument.name}{default}"


def arguments_of(record: Any, path: tuple[str, ...] = ()) -> list[Argument]:
    """The arguments in a named tuple and in the named tuples nested in it."""
    found = []
    hints = get_type_hints(record, include_extras=True)
    for name in record._fields:
        hint, rules = hints[name], ()
        if hasattr(hint, "__metadata__"):
            hint, rules = get_args(hint)[0], hint.__metadata__
        if hasattr(hint, "_fields"):
            found += arguments_of(hint, (*path, name))
            continue
        optional = get_origin(hint) in (Union, types.UnionType)
        kind = next(one for one in get_args(hint) if one is not type(None)) if optional else hint
        argument = Argument(
            name,
            (*path, name),
            "Tensor" if kind is Tensor else kind.__name__,
            optional,
            name in record._field_defaults,
            _one(rules, Is),
            Written in rules,
            Apart in rules,
            _one(rules, Between),
            _one(rules, Number),
            _all(rules, Where),
            _one(rules, Limit),
            getattr(_one(rules, With), "other", None),
        )
        found.append(argument)
    return found


def _one(rules: tuple[Any, ...], kind: type[R]) -> R | None:
    return next(iter(_all(rules, kind)), None)


def _all(rules: tuple[Any, ...], kind: type[R]) -> tuple[R, ...]:
    return tuple(rule for rule in rules if isinstance(rule, kind))
