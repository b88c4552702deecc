"""Checks the tensors that a State carries beyond x: their names, and the values that each may
have."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._checks import check_plain, check_tensor
from .._derivatives import checkable
from .._options import FLOATS, shown

_ANY, _FINITE, _POSITIVE = "any", "finite", "> 0 and finite"
_NUMBERS, _ROWS = "shape of x", "one per sample"
_COUNT = "an int64 number in [0, 2**32]"

# Groups of names: either all names of a group are there, or none. Velocity and window may be
# infinite or NaN, since a chain that diverges leaves them so.
_GROUPS: tuple[dict[str, tuple[str, str]], ...] = (
    {"velocity": (_NUMBERS, _ANY)},
    {
        "step_size": (_ROWS, _POSITIVE),
        "log_step_size_average": (_ROWS, _FINITE),
        "acceptance_gap": (_ROWS, _FINITE),
        "adapted_steps": (_COUNT, _ANY),
    },
    {"restarted_at": (_COUNT, _ANY), "step_size_middle": (_ROWS, _FINITE)},
    {
        "inverse_mass": (_NUMBERS, _POSITIVE),
        "window_mean": (_NUMBERS, _ANY),
        "window_square": (_NUMBERS, _ANY),
    },
)
_KINDS = {name: kind for group in _GROUPS for name, kind in group.items()}


def check_extra(extra: Any, x: Tensor) -> None:
    """Checks names, types and shapes, which needs no look at the numbers."""
    if not isinstance(extra, dict):
        raise TypeError(f"State: extra must be a dict of tensors, got {type(extra).__name__}")
    if not extra:
        return
    for name, value in extra.items():
        if name not in _KINDS:
            raise ValueError(f"State: extra must have names among {', '.join(_KINDS)}, got {shown(name)}")
        kind = _KINDS[name][0]
        check_tensor("State", f"extra's {name}", value)
        check_plain("State", f"extra's {name}", value)
        if value.is_meta and not x.is_meta:
            raise ValueError(
                f"State: extra's {name} must hold numbers, got a tensor on the meta device, which holds none"
            )
        if kind == _COUNT:
            if value.dtype is not torch.int64 or value.dim():
                raise ValueError(
                    f"State: extra's {name} must be {_COUNT}, got {tuple(value.shape)} of {value.dtype}"
                )
            continue
        if value.dtype not in FLOATS:
            raise TypeError(
                f"State: extra's {name} must be float16, bfloat16, float32 or float64, got {value.dtype}"
            )
        shape = x.shape if kind == _NUMBERS else x.shape[:1]
        if value.shape != shape:
            raise ValueError(
                f"State: the State's {name} must have the shape {tuple(shape)}, got {tuple(value.shape)}"
            )
    for group in _GROUPS:
        missing = [name for name in group if name not in extra]
        if missing and len(missing) < len(group):
            raise ValueError(
                f"State: extra must have {', '.join(group)} together, got none for {', '.join(missing)}"
            )
    if "adapted_steps" not in extra and ("restarted_at" in extra or "inverse_mass" in extra):
        raise ValueError(
            "State: extra must have adapted_steps beside what was learned in a warm-up, got none"
        )


def check_numbers(call: str, extra: dict[str, Tensor]) -> None:
    """Checks the numbers, if the host can read them without a wait."""
    for name, value in extra.items():
        must = _KINDS[name][1]
        if not checkable(value):
            continue
        if _KINDS[name][0] == _COUNT:
            if not 0 <= int(value) <= 2**32:
                raise ValueError(f"{call}: extra's {name} must be {_COUNT}, got {int(value)}")
        elif must != _ANY:
            fine = value.isfinite() & (value > 0) if must == _POSITIVE else value.isfinite()
            if not fine.all():
                raise ValueError(
                    f"{call}: extra's {name} must be {must}, got {float(value[~fine].flatten()[0]):g}"
                )
    if "restarted_at" in extra and all(checkable(extra[name]) for name in ("restarted_at", "adapted_steps")):
        restarted, steps = int(extra["restarted_at"]), int(extra["adapted_steps"])
        if restarted > steps:
            raise ValueError(
                f"{call}: extra's restarted_at must be at most adapted_steps, {steps}, got {restarted}"
            )
