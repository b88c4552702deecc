"""The arguments of the ops' plain entries (samplers/_plain.py), for ctypes and, through
tools/op_args.py, for C++.

They follow from the ops' records: first the fields that name the samples and their noise, then the
numbers that the op needs. A library built from other sources might read them at other offsets, so
each library carries the text of its own layout, for comparison.
"""

from __future__ import annotations

import ctypes
from typing import Any

from . import _ops
from ._schemas import OPS

Fields = tuple[tuple[str, str], ...]  # (name, "int" or "float"), each of 8 bytes

CALL: Fields = tuple(
    (name, "int") for name in ("samples", "elements", "is_double", "seed", "first_sample", "stream")
)


def numbers(op: str) -> Fields:
    """The numbers that the op needs, as fields; a bool is 0 or 1."""
    given = (argument for argument in OPS[op].arguments if argument.tensor is None and not argument.optional)
    return tuple((argument.name, "float" if argument.kind == "float" else "int") for argument in given)


STRUCTS = {"call": CALL, **{op: numbers(op) for op in ("affine_step", "corrector_step")}}
LAYOUT = "; ".join(
    f"{name}: {', '.join(f'{kind} {field}' for field, kind in fields)}" for name, fields in STRUCTS.items()
)


def _structure(name: str, fields: Any) -> type[ctypes.Structure]:
    return type(name, (ctypes.Structure,), {"_fields_": tuple(fields)})


_TYPES = {"int": ctypes.c_int64, "float": ctypes.c_double}
Call = _structure("Call", ((name, _TYPES[kind]) for name, kind in CALL))


def structure(op: str) -> type[ctypes.Structure]:
    """The ctypes structure of the call's fields and the op's numbers."""
    return _structure(op, (("call", Call), *((name, _TYPES[kind]) for name, kind in STRUCTS[op])))


def entry(op: str) -> Any:
    """The compiled library's plain entry of the op.

    Raises RuntimeError for a library that would read the arguments at other offsets.
    """
    library = _ops.library()
    layout = getattr(library, "pyebm_plain_layout", None)
    if layout is not None:
        layout.restype = ctypes.c_char_p
    if layout is None or layout().decode() != LAYOUT:
        raise RuntimeError(
            f"{op}: the compiled library is of other sources than pyebm's Python; {_ops.HOW_TO_BUILD}"
        )
    found = getattr(library, f"pyebm_{op}")
    found.restype = ctypes.c_bool
    return found
