"""Writes csrc/common/op_args.h from pyebm/_schemas.py: run it after a change there;
tests/ops/test_op_args.py fails until then."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, get_type_hints

from pyebm import _plain_args, _schemas
from pyebm._arguments import Argument, Dtype, Number, Op, Shape, arguments_of

HEADER = Path(__file__).resolve().parents[1] / "csrc/common/op_args.h"

_TOP = """\
// Written by tools/op_args.py from pyebm/_schemas.py: change it there. Each op's arguments as a
// struct, which takes them from torch's stack and says what op_checks.h should check. Unlike the
// other headers of this folder it needs torch's stable ABI.
// clang-format off
#pragma once

#include <torch/csrc/stable/library.h>

#include <cmath>
#include <cstdint>
#include <optional>

#include "targets.h"

namespace pyebm {

using torch::stable::Tensor;
using MaybeTensor = std::optional<Tensor>;

// pyebm/_arguments.py says what they mean.
enum class Dtype { %s };
enum : int { kContiguous = 1, kWritten = 2, kApart = 4, kOnHost = 16 };

namespace args {

template <class T>
T taken(StableIValue value) {
  return torch::stable::detail::to<T>(value);
}
"""

_TYPES = {"Tensor": "Tensor", "float": "double", "int": "int64_t", "bool": "bool"}
_EXTRA = {
    Shape.SCHEDULE: ("{label}_per_step", "n_steps"),
    Shape.STATES: ("n_steps", "thin"),
    Shape.LOSS: ("reduction",),
    Shape.ABOVE: ("reduction",),
}  # further arguments on which a shape depends


def text() -> str:
    """Returns the text of the header."""
    parts = [_TOP % ", ".join(map(_dtype, Dtype))]
    structs: dict[str, str] = {}
    for op in _schemas.OPS.values():
        _add_structs(op.record, structs)
    parts += structs.values()
    parts += ["}  // namespace args\n", "namespace op {\n"]
    parts += [_tag(op) for op in _schemas.OPS.values()]
    parts += ["\n}  // namespace op\n", "namespace plain {\n"]
    parts += [_plain(name, fields) for name, fields in _plain_args.STRUCTS.items()]
    parts += [f'constexpr const char* kLayout =\n    "{_plain_args.LAYOUT}";\n']
    return "\n".join([*parts, "}  // namespace plain", "}  // namespace pyebm"]) + "\n"


def _plain(name: str, fields: _plain_args.Fields) -> str:
    call = [] if name == "call" else ["  plain::call call;"]
    numbers = [f"  {'double' if kind == 'float' else 'int64_t'} {field};" for field, kind in fields]
    return "\n".join([f"struct {name} {{", *call, *numbers, "};\n"])


def _tag(op: Op) -> str:
    return (
        f"struct {op.name} {{ using Args = args::{op.record.__name__}; static constexpr const char* kName ="
        f' "{op.name}"; }};'
    )


def _add_structs(record: Any, structs: dict[str, str]) -> None:
    if record.__name__ in structs:
        return
    arguments = {argument.name: argument for argument in arguments_of(record) if len(argument.path) == 1}
    fields, taken, at = [], [], 0
    for name in record._fields:
        if name in arguments:
            kind = _type(arguments[name])
            fields.append(f"  {kind} {name};")
            taken.append(f"{name}(taken<{kind}>(stack[{at}]))")
            at += 1
        else:
            inner = get_type_hints(record)[name]
            _add_structs(inner, structs)
            fields.append(f"  {inner.__name__} {name};")
            taken.append(f"{name}(stack + {at})")
            at += len(arguments_of(inner))
    inits = ",\n        ".join(taken)
    structs[record.__name__] = "\n".join(
        [
            f"struct {record.__name__} {{",
            *fields,
            "",
            f"  static constexpr uint64_t kCount = {at};",
            f"  explicit {record.__name__}(StableIValue* stack)\n      : {inits} {{}}",
            "",
            "  template <class Checks>",
            "  void check(Checks& is) const {",
            *(f"    {line}" for line in _checks(record, list(arguments.values()))),
            "  }",
            "};\n",
        ]
    )


def _checks(record: Any, own: list[Argument]) -> list[str]:
    everywhere = {argument.name: ".".join(argument.path) for argument in arguments_of(record)}
    first = [a for a in own if a.tensor is not None and a.tensor.shape is Shape.SAMPLES]
    lines = []
    for argument in [*first, *(a for a in own if a not in first)]:
        name, label = argument.name, argument.label
        if argument.tensor is not None:
            flags = [
                flag
                for flag, given in (
                    ("kContiguous", argument.tensor.contiguous),
                    ("kWritten", argument.written),
                    ("kApart", argument.apart),
                    ("kOnHost", argument.tensor.on_host),
                )
                if given
            ]
            extra = [everywhere[other.format(label=label)] for other in _EXTRA.get(argument.tensor.shape, ())]
            given = [
                f'"{label}"',
                name,
                f"Dtype::{_dtype(argument.tensor.dtype)}",
                " | ".join(flags) or "0",
                *extra,
            ]
            lines.append(f"is.{argument.tensor.shape.value}({', '.join(given)});")
        if argument.between is not None:
            high = "INT64_MAX" if argument.between.high == 2**63 - 1 else argument.between.high
            high = argument.between.bound or high
            lines.append(f'is.between("{name}", {name}, {argument.between.low}, {high});')
        unread = f"{argument.rows}.has_value() || " if argument.rows in everywhere else ""
        if argument.number is not None:
            lines.append(_number(name, argument.number, unread))
        for one in argument.where:
            optional = next(a.optional for a in own if a.name == one.flag)
            flag = f"{one.flag}.value_or(false)" if optional else one.flag
            lines.append(_number(name, one.number, f"{unread}!{flag} || "))
        if (limit := argument.limit) is not None:
            lines.append(f'is.limit("{name}", {name}, {"true" if limit.positive else "false"});')
            if limit.at_least is not None:
                lines.append(f'is.at_least("{name}", {name}, "{limit.at_least}", {limit.at_least});')
        if argument.partner is not None:
            lines.append(
                f'is.together("{name}", {name}.has_value(), "{argument.partner}",'
                f" {argument.partner}.has_value());"
            )
    lines += [f"{name}.check(is);" for name in record._fields if name not in {a.name for a in own}]
    # Check the numbers first: the shapes of states depend on them.
    return sorted(
        lines, key=lambda line: line.startswith(("is.states", "is.schedule", "is.loss", "is.above("))
    )


def _number(name: str, rule: Number, unless: str) -> str:
    low = f"{name} {'>' if rule.low_open or rule.low == -math.inf else '>='} {_literal(rule.low)}"
    return f'is.number("{name}", {name}, {unless}({low} && {name} < {_literal(rule.high)}), "{rule.words}");'


def _literal(number: float) -> str:
    return f"{number:g}" if math.isfinite(number) else "INFINITY" if number > 0 else "-INFINITY"


def _dtype(dtype: Dtype) -> str:
    return f"k{dtype.name.title()}"


def _type(argument: Argument) -> str:
    kind = _TYPES[argument.kind]
    if argument.optional:
        return "MaybeTensor" if kind == "Tensor" else f"std::optional<{kind}>"
    return kind


if __name__ == "__main__":
    HEADER.write_text(text())
