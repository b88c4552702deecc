"""The checks that every public call makes before it touches any memory. A message names the
argument, what was expected and what came."""

from __future__ import annotations

import math
import numbers
import sys
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling

from ._options import FLOATS, MAX_ELEMENTS, as_float, check_elements, shown

PLAIN = (Tensor, torch.nn.Parameter)

Coefficient = float | Tensor


def check_samples(op: str, name: str, x: Tensor) -> int:
    """Checks that x is a dense tensor of real floating-point samples; returns the batch size."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{op}: {name} must be a tensor, got {type(x).__name__}")
    if x.dtype not in FLOATS:
        raise TypeError(f"{op}: {name} must be float16, bfloat16, float32 or float64, got {x.dtype}")
    check_dense(op, name, x)
    if x.dim() == 0:
        raise ValueError(f"{op}: {name} must have a first dimension of samples, got a 0-dim tensor")
    batch = x.shape[0]
    if x.numel() > MAX_ELEMENTS and batch:
        check_elements(op, name, x.numel() // batch)
    return batch


def check_like(op: str, name: str, value: Tensor, x_name: str, x: Tensor) -> Tensor:
    """Checks that ``value`` goes elementwise with ``x``: it has the same shape and device, and the
    same dtype or a narrower one, which is then widened, exactly."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: {name} must be a tensor, got {type(value).__name__}")
    if type(value) is not Tensor:
        check_plain(op, name, value)
    check_dense(op, name, value)
    if value.shape != x.shape:
        raise ValueError(
            f"{op}: {name} must have {x_name}'s shape {tuple(x.shape)}, got {tuple(value.shape)}"
        )
    if value.device != x.device:
        raise ValueError(f"{op}: {name} must be on {x_name}'s device {x.device}, got {value.device}")
    if value.dtype != x.dtype:
        if value.dtype not in FLOATS or torch.promote_types(value.dtype, x.dtype) != x.dtype:
            raise TypeError(
                f"{op}: {name} must have {x_name}'s dtype {x.dtype} or a narrower one, got {value.dtype}"
            )
        value = value.to(x.dtype)
    return value


def coefficient(
    op: str, name: str, value: Coefficient, x: Tensor, low: float = -math.inf, open_low: bool = False
) -> tuple[float, Tensor | None]:
    """A coefficient as the ops take it: ``(number, None)`` for one number, ``(nan, rows)`` for
    values of parts of ``x``.

    Numbers are checked against ``low`` here, and CPU tensors by the kernel before it writes.
    Tensors on a GPU are not checked, since the check would wait for the device.
    """
    if isinstance(value, Tensor):
        rows = rows_for(op, name, value, x)
        # An empty batch has no values, so the number is used: 1, since NaN would make its sum NaN.
        return (math.nan if rows.numel() else 1.0), rows
    if type(value) is float and low < value < math.inf and not is_dynamo_compiling():
        return value, None
    return as_rows(checked_number(op, name, value, low, open_low), x)


def as_rows(value: float, x: Tensor) -> tuple[float, Tensor | None]:
    """A number as :func:`coefficient` gives it; a tensor where compiled code treats the number as
    one that changes.

    A number among an op's arguments would make torch.compile compile again for each new value; a
    tensor is compiled once.
    """
    if is_dynamo_compiling() and not has_static_value(value):
        return math.nan, torch.ones(1, dtype=torch.float64, device=x.device) * value
    return value, None


def checked_number(op: str, name: str, value: float, low: float = -math.inf, open_low: bool = False) -> float:
    """A coefficient that must be one number, checked."""
    if not isinstance(value, numbers.Real):
        raise TypeError(
            f"{op}: {name} must be a number or a floating-point tensor, got {type(value).__name__}"
        )
    value = as_float(value)
    # Only comparisons: under torch.compile they become guards that every valid number passes, while
    # math.isfinite would specialise the code to this one.
    if not -math.inf < value < math.inf or value < low or (open_low and value == low):
        bound = "finite" if low == -math.inf else f"{'>' if open_low else '>='} {low:g} and finite"
        raise ValueError(f"{op}: {name} must be {bound}, got {value}")
    return value


def checked_list(op: str, name: str, values: Any) -> list[float]:
    """The numbers in a list, an array or a tensor of one dimension. Infinity and NaN pass."""
    given = values
    if isinstance(values, Tensor):
        check_tensor(op, name, values)
        given = None if values.dim() != 1 or values.is_meta else values.tolist()
    elif not isinstance(values, (list, tuple)):
        given = values.tolist() if hasattr(values, "tolist") else None  # a numpy array has tolist
    if not isinstance(given, (list, tuple)) or not all(
        isinstance(one, (numbers.Real, Tensor)) for one in given
    ):
        raise TypeError(
            f"{op}: {name} must be a list of numbers or a tensor of one dimension, got {shown(values)}"
        )
    return [bound(op, name, one) for one in given]


def bound(op: str, name: str, value: Any, alternative: str = "") -> float:
    """A number that may be infinite, or a tensor that is one."""
    if isinstance(value, Tensor):
        check_tensor(op, name, value)
    if not isinstance(value, numbers.Real) and not (
        isinstance(value, Tensor) and value.numel() == 1 and not value.is_meta
    ):
        raise TypeError(f"{op}: {name} must be a number{alternative}, got {shown(value)}")
    return as_float(value)


def apart(value: Tensor | None, x: Tensor) -> Tensor | None:
    """``value`` for a call that writes to x: a copy if both lie in one storage, since x may cover
    all of that storage."""
    if (
        value is None
        or is_dynamo_compiling()
        or type(x) not in PLAIN
        or type(value) not in PLAIN
        or value.is_meta
    ):
        return value
    shared = value.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    return value.clone() if shared else value


def has_static_value(value: float) -> bool:
    """Whether compiled code knows this number; it does not if it treats the number as one that
    changes."""
    from torch.fx.experimental import symbolic_shapes  # imported late: it brings in sympy

    return bool(symbolic_shapes.has_static_value(value))


def rows_for(op: str, name: str, value: Tensor, x: Tensor) -> Tensor:
    """``value`` as n numbers, float32 or float64. Number k serves the k-th run of
    ``x.numel() / n`` elements of x.

    ``value`` is one number for all; one per sample, (B,) or (B, 1, ...); or a tensor with as many
    dimensions as x that broadcasts to x, such as (B, T, 1) for a noise level of each token, or a
    mask (B, 1, H, W).
    """
    value = _coefficient_tensor(op, name, value, x)
    shape, batch = value.shape, x.shape[0]
    if value.numel() == 1 or (len(shape) and value.numel() == batch == shape[0]):
        return value if value.ndim == 1 else value.reshape(-1)
    leading = shape + (1,) * (x.dim() - len(shape))
    if len(leading) != x.dim() or any(n not in (1, full) for n, full in zip(leading, x.shape, strict=True)):
        raise ValueError(
            f"{op}: {name} must be a number, have one value per sample, shape ({batch},) or ({batch}, 1,"
            f" ...), or one for each of its leading dimensions or elements, broadcasting to {tuple(x.shape)}"
            f" from the left, got {tuple(shape)}"
        )
    parts = max(d for d, n in enumerate(leading) if n > 1 or x.shape[d] == 0) + 1
    return value.reshape(leading[:parts]).expand(x.shape[:parts]).reshape(-1)


def rows_of(op: str, name: str, value: Tensor, x: Tensor, expected: int, one: str) -> Tensor:
    """``value`` as ``expected`` numbers, one per sample or one per step (or a single one), float32
    or float64."""
    value = _coefficient_tensor(op, name, value, x)
    count = value.numel()
    if count != 1 and (count != expected or count != value.shape[0]):
        raise ValueError(
            f"{op}: {name} must be a number or have one value per {one}, shape ({expected},) or ({expected},"
            f" 1, ...), got {tuple(value.shape)}"
        )
    return value if value.ndim == 1 else value.reshape(-1)


def _coefficient_tensor(op: str, name: str, value: Tensor, x: Tensor) -> Tensor:
    if type(value) is not Tensor:
        check_plain(op, name, value)
    if value.dtype not in FLOATS:
        raise TypeError(f"{op}: {name} must be a number or a floating-point tensor, got {value.dtype}")
    check_dense(op, name, value, "a number or a dense tensor")
    if value.device != x.device:
        raise ValueError(f"{op}: {name} must be on {x.device} like the samples, got {value.device}")
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


def check_tensor(op: str, name: str, value: Any) -> None:
    """Checks that ``value`` is a dense tensor of real numbers: a float dtype that the ops take,
    ints or bools."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: {name} must be a dense tensor of real numbers, got {type(value).__name__}")
    real = value.dtype in FLOATS or not (
        value.is_floating_point() or value.is_complex() or value.is_quantized
    )
    if not real or value.is_nested or value.layout is not torch.strided:
        kind = "a nested tensor" if value.is_nested else f"{value.dtype}, {value.layout}"
        raise TypeError(f"{op}: {name} must be a dense tensor of real numbers, got {kind}")


def check_dense(op: str, name: str, value: Tensor, must: str = "a dense tensor") -> None:
    if value.is_nested:
        raise TypeError(f"{op}: {name} must be {must}, got a nested tensor")
    if value.layout is not torch.strided:
        raise TypeError(f"{op}: {name} must be {must}, got layout {value.layout}")


def is_dtensor(x: Any) -> bool:
    """Whether x is a DTensor. The check imports no torch.distributed, which most users don't
    need."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(x, module.DTensor)


def check_plain(op: str, name: str, x: Tensor) -> None:
    """Refuse a subclass with operations of its own, since a kernel can't read its memory."""
    kind = type(x)
    if kind.__torch_dispatch__ is Tensor.__torch_dispatch__ or kind.__module__.startswith(
        "torch._subclasses"
    ):
        return  # a Parameter, a subclass with other methods, a tracer's tensor
    if is_dtensor(x):
        raise TypeError(
            f"{op}: {name} must be a plain tensor here, got a DTensor; give its to_local(), with the noise of"
            " its samples, noise.shard(first_sample=...)"
        )
    raise TypeError(
        f"{op}: {name} must be a plain tensor or a DTensor, got {kind.__name__}, which has operations of"
        " its own"
    )
