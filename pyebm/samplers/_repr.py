"""The repr of samplers, in the form of a constructor's call."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn


def shown(made: Any, *inside: str) -> str:
    """``Name(first, name=value)``, from the attributes that are named like the constructor's
    arguments; values equal to the defaults are left out.

    inside: attributes whose own attributes are searched too.
    """
    homes = [made, *(getattr(made, name) for name in inside if hasattr(made, name))]
    parts: list[str] = []
    for name, parameter in list(inspect.signature(type(made)).parameters.items()):
        values = [getattr(home, name) for home in homes if hasattr(home, name)]
        value = next((value for value in values if value is not None), None)
        default = parameter.default
        if default is not inspect.Parameter.empty and (
            value is default or (_plain(value) and value == default)
        ):
            continue
        first = default is inspect.Parameter.empty and not parts
        parts.append(_short(value) if first else f"{name}={_short(value)}")
    return f"{type(made).__name__}({', '.join(parts)})"


def _plain(value: Any) -> bool:
    return isinstance(value, (int, float, str))


def _short(value: Any) -> str:
    if isinstance(value, Tensor):
        return (
            f"{value.item():g}" if value.numel() == 1 and value.is_cpu else f"<tensor {tuple(value.shape)}>"
        )
    if isinstance(value, nn.Module):
        text = repr(value)
        return text if len(text) <= 60 and "\n" not in text else f"{type(value).__name__}(...)"
    if isinstance(value, (tuple, list)):
        if len(value) > 4:
            return f"<{len(value)} numbers>"
        inner = ", ".join(map(_short, value))
        return f"({inner})" if isinstance(value, tuple) else f"[{inner}]"
    if isinstance(value, float):
        return f"{value:g}"
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    return repr(value)
