"""Every op's work before its launch, apart from cutting the tensors into tiles (layout.py): checks
and coefficients."""

from __future__ import annotations

import contextlib
import ctypes
import math
from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton import knobs
from triton.runtime.driver import driver

from .coefficients import BLOCK, BY_CELL, BY_ELEMENT
from .layout import ELEMENTS, shape_of

_WORD = 2**32
FAST = {"num_warps": 4, "enable_fp_fusion": False}  # bits are promised


def work_type(dtype: torch.dtype) -> tl.dtype:
    """The type of the arithmetic: half precisions are computed in float32, and rounded once, at the
    store."""
    return tl.float64 if dtype == torch.float64 else tl.float32


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def on(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Make ``device`` current, because Triton launches on the current device."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def amd() -> bool:
    """Whether kernels are compiled for an AMD device."""
    return not knobs.runtime.interpret and driver.active.get_current_target().backend == "hip"


def check_noise(
    name: Tensor | None, seeds: Tensor | None, ids: Tensor | None, samples: int, steps: int = 1
) -> None:
    """Check shapes and dtypes; on the CPU, where a read waits for nothing, the numbers too."""
    if name is None:
        raise ValueError("noise: a name must be given where there is no noise tensor")
    for label, tensor, count in (("name", name, 4), ("seed", seeds, samples), ("sample_ids", ids, samples)):
        if tensor is not None and (
            tensor.dtype != torch.int64 or not tensor.is_contiguous() or tensor.numel() != count
        ):
            raise ValueError(
                f"noise: {label} must be a contiguous int64 tensor of {count}, got {tensor.numel()} elements"
            )
    if not name.is_cpu:
        return
    _, first, step, stream = name.tolist()
    for label, word in (("first_sample", first), ("step", step), ("stream", stream)):
        if not 0 <= word < _WORD:
            raise ValueError(f"noise: {label} must be in [0, 2**32), got {word}")
    if not step + steps <= _WORD:
        raise ValueError(f"noise: steps must stay below 2**32, got {step} and {steps} more")
    low, high = (first, first + samples - 1) if ids is None else (ids.min(), ids.max()) if samples else (0, 0)
    if not 0 <= low <= high + 1 <= _WORD:
        raise ValueError(f"noise: sample ids must be in [0, 2**32), got {int(low)} to {int(high)}")


def require(op: str, name: str, rows: Tensor | None, positive: bool, what: str = "sample") -> None:
    """Public calls check numbers. Tensors are checked here, on the CPU only: on a GPU the check
    would wait for the device."""
    if rows is None or not rows.is_cpu:
        return
    bad = ~(torch.isfinite(rows) & ((rows > 0) if positive else (rows >= 0)))
    if bad.any():
        worst = int(bad.nonzero()[0])
        bound = ">" if positive else ">="
        raise ValueError(
            f"{op}: {name} must be {bound} 0 and finite, got {float(rows[worst]):g} for {what} {worst}"
        )


def run_of(op: str, rows: dict[str, Tensor | None], x: Tensor) -> int:
    """The number of neighbouring elements that share their values, where coefficients change within
    a sample of ``x``; 0 where none changes.

    A coefficient of n values has one for each n-th part of x, in logical order.
    """
    samples, elements = shape_of(x)
    run = elements
    for name, row in rows.items():
        count = 1 if row is None else row.numel()
        if count not in (1, samples):
            if count % samples or elements % (count // samples):
                raise ValueError(
                    f"{op}: {name} must have 1 value, one per sample, or one for each of the equal parts of a"
                    f" sample; got {count} for {samples} samples of {elements} elements"
                )
            run = math.gcd(run, elements // (count // samples))
    return run if run < elements else 0


def most_of(run: int, crowded: bool = False) -> int:
    """The most elements of a tile. Coefficients that change within a sample need more registers
    than 16 elements a thread leave, and so do the operands of a ``crowded`` kernel."""
    return ELEMENTS >> (int(run > 0) + int(crowded))


def rounded(number: float, dtype: torch.dtype) -> float:
    return number if dtype == torch.float64 else ctypes.c_float(number).value


class Table:
    """Coefficients as the kernels take them: numbers rounded to float32, or a table with a line for
    each coefficient, of one value per sample or one for all.

    Numbers travel as float32 launch arguments, so float64 arithmetic takes the table too. Where
    coefficients change within a sample, a line has a value for each run of ``stride`` whole cells
    of a tile. Where a run cuts cells, a line has a value for each element, and the table moves the
    most memory of all operands.
    """

    def __init__(
        self,
        numbers: Sequence[float],
        rows: Sequence[Tensor | None],
        lines: int,
        x: Tensor,
        run: int = 0,
        vec: int = 1,
    ) -> None:
        """run: from run_of(). vec: the elements of a cell."""
        self.numbers = numbers
        self.per_sample = sum((row is not None and row.numel() > 1) << k for k, row in enumerate(rows))
        self.stride = int(self.per_sample != 0)
        self.count = x.shape[0] if self.stride else 1
        self.fine = 0
        if run:
            self.fine, run, self.stride = (
                (BY_ELEMENT.value, 1, 0) if run % vec else (BY_CELL.value, run, run // vec)
            )
            self.count = x.numel() // run
        self.rows = [None if row is None else _repeated(row, self.count) for row in rows]
        self.tensor: Tensor | None = None
        if x.dtype == torch.float64 or any(row is not None for row in rows):
            dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
            self.tensor = torch.empty((lines, self.count), dtype=dtype, device=x.device)

    def fill(self, kernel: Any, *more: Any, **constants: Any) -> None:
        """Launch the small kernel that makes the table; ``more`` and ``constants`` are its further
        arguments."""
        grid = (triton.cdiv(self.count, BLOCK),)
        kernel[grid](
            self.tensor, *self.numbers, *self.rows, self.per_sample, *more, self.count, **constants, **FAST
        )

    @property
    def arguments(self) -> dict[str, Any]:
        return {"table": self.tensor, "count": self.count, "stride": self.stride}


def rows_arguments(name: str, rows: Tensor | None) -> dict[str, Any]:
    """A kernel's arguments for the values of a coefficient, one per sample or one for all, that it
    reads itself (coefficients.coefficient)."""
    count = 1 if rows is None else rows.numel()
    return {
        f"{name}_rows": None if rows is None else rows.contiguous(),
        "count": count,
        "stride": int(count > 1),
    }


def _repeated(rows: Tensor, count: int) -> Tensor:
    """The values, contiguous: one, or ``count`` of which each given value fills an equal share."""
    many = rows.numel()
    return (
        rows.contiguous()
        if many in (1, count)
        else rows.reshape(many, 1).expand(many, count // many).reshape(count)
    )
