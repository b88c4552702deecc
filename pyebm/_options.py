"""Checks of the arguments that are neither tensors nor coefficients: counts, flags, names, shapes,
dtypes, devices. The messages are as in _checks.py."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
MAX_COUNT = 2**32  # the counter holds a sample's id and a step in 32 bits each
MAX_ELEMENTS = 2**34  # the counter holds the element's index div 4 in 32 bits


def check_elements(op: str, name: str, elements: int) -> None:
    if elements > MAX_ELEMENTS:
        raise ValueError(f"{op}: {name} must have at most 2**34 elements a sample, got {shown(elements)}")


def as_float(value: Any) -> float:
    """``value`` as a float. An int beyond the range of floats becomes infinite, as a float that
    overflows does."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def checked_count(op: str, name: str, value: Any, least: int = 0, alternative: str = "") -> int:
    """Checks a whole number from least to 2**32. alternative: words for the message that say what
    else it may be."""
    count = checked_int(op, name, value, alternative)
    if count < least:
        raise ValueError(f"{op}: {name} must be >= {least}{alternative}, got {shown(count)}")
    if count > MAX_COUNT:
        raise ValueError(f"{op}: {name} must be at most 2**32, got {shown(count)}")
    return count


def checked_int(op: str, name: str, value: Any, alternative: str = "") -> int:
    if type(value) is not int:  # operator.index would make torch.compile trace again for every number
        try:
            value = operator.index(value)
        except (TypeError, RuntimeError):
            raise TypeError(f"{op}: {name} must be an int{alternative}, got {shown(value)}") from None
    return cast(int, value)


def checked_shape(op: str, name: str, shape: Any) -> tuple[int, ...]:
    """Checks a shape (samples, ...)."""
    if not isinstance(shape, (tuple, list)):
        raise TypeError(f"{op}: {name} must be a sequence (samples, ...), got {shown(shape)}")
    sizes = tuple(shape)
    for n in sizes:
        if type(n) is not int and not isinstance(n, (int, torch.SymInt)):
            sizes = tuple(checked_count(op, name, one) for one in sizes)
            break
    if len(sizes) == 0 or min(sizes) < 0:
        raise ValueError(f"{op}: {name} must be (samples, ...) without negative sizes, got {shown(sizes)}")
    if not is_dynamo_compiling() and sizes[0] > MAX_COUNT:
        raise ValueError(f"{op}: {name} must have at most 2**32 samples, got {shown(sizes[0])}")
    check_elements(op, name, math.prod(sizes[1:]))
    return sizes


def checked_flag(op: str, name: str, value: Any) -> bool:
    """Checks a flag: True or False. Other types have a truth value too, but there it is a mistake
    more often than not."""
    # numpy's bool_ and a tracer's SymBool are flags too.
    if type(value) is not bool and type(value).__name__ not in (
        "bool",
        "bool_",
        "SymBool",
    ):
        raise TypeError(f"{op}: {name} must be True or False, got {shown(value)}")
    return bool(value)


def check_choice(op: str, name: str, value: Any, choices: Iterable[Any]) -> None:
    """Checks that the value is one of a few names (None may be one of them)."""
    if not (value is None or isinstance(value, str)) or value not in choices:
        raise ValueError(f"{op}: {name} must be one of {', '.join(map(repr, choices))}, got {shown(value)}")


def checked_keys(op: str, name: str, value: Any, keys: Iterable[str], version: int) -> dict[str, Any]:
    """Checks that ``value`` is a state_dict of this version with exactly these keys."""
    if not isinstance(value, dict):
        raise TypeError(f"{op}: {name} must be a dict as state_dict() gives it, got {type(value).__name__}")
    found = value.get("version")
    if type(found) is not int or found != version:
        raise ValueError(f"{op}: {name} must be a state_dict of version {version}, got {shown(found)}")
    if set(value) != set(keys):
        raise ValueError(
            f"{op}: {name} must have the keys {', '.join(sorted(keys))}, got"
            f" {', '.join(sorted(map(str, value)))}"
        )
    return value


def check_callable(op: str, name: str, value: Any, must: str = "a function") -> None:
    if not callable(value):
        raise TypeError(f"{op}: {name} must be {must}, got {type(value).__name__}")


def check_dtype(op: str, dtype: Any) -> None:
    if not isinstance(dtype, torch.dtype) or dtype not in FLOATS:
        raise TypeError(f"{op}: dtype must be float16, bfloat16, float32 or float64, got {shown(dtype)}")


def checked_device(op: str, device: Any) -> torch.device:
    try:
        return torch.device(device)
    except (TypeError, RuntimeError, ValueError, OverflowError):
        raise ValueError(f"{op}: device must be a torch.device or its name, got {shown(device)}") from None


def empty(op: str, shape: Sequence[int], dtype: torch.dtype, device: Any) -> Tensor:
    """``torch.empty`` with an error that names the device; torch's own errors don't all do so."""
    check_dtype(op, dtype)
    if is_dynamo_compiling():
        return torch.empty(shape, dtype=dtype, device=device)
    try:
        return torch.empty(shape, dtype=dtype, device=device)
    except (
        TypeError,
        ValueError,
        OverflowError,
        AssertionError,
        RuntimeError,
    ) as error:  # AssertionError comes from a torch that was built without the device
        where = checked_device(op, device)
        raise RuntimeError(f"{op}: {shown(tuple(shape))} can't be made on device {where}: {error}") from None


def shown(value: object) -> str:
    """``value`` in a message: short, whatever it is."""
    if isinstance(value, Tensor):
        return (
            "a nested tensor" if value.is_nested else f"a {value.dtype} tensor of shape {tuple(value.shape)}"
        )
    if type(value) is int and value.bit_length() > 128:
        return f"an int of {value.bit_length()} bits"
    try:
        text = repr(value)
    except Exception:
        return f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."
