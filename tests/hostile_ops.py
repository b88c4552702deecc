"""Hostile calls of the registered ops, made from the table of their arguments
(pyebm/_schemas.py)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from pyebm._arguments import Argument, Dtype, Op, Shape

B, ELEMENTS, STEPS, THIN = 4, 6, 4, 2
NUMBERS = {"n_steps": STEPS, "thin": THIN, "target": 1, "warmup": 10}  # the double well, of two parameters
WRONG_DTYPES = (
    torch.bool,
    torch.uint8,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.float64,
    torch.complex64,
    torch.float8_e4m3fn,
)
NO_INTEGERS = (-(2**63), -1, 2**63 - 1, 2**80, 1.5, "2")


def good(op: Op, reduction: int = 1, on_host: bool = True) -> dict[str, Any]:
    """Returns arguments that the op takes, each in memory of its own: all of them, but for those
    that GPUs have no kernel for, if not on_host."""
    work = torch.float64 if op.samples.tensor.dtype is Dtype.DOUBLE else torch.float32
    shape = (B,) if work == torch.float64 else (B, ELEMENTS)
    made = {argument.name: _good(argument, shape, work, reduction) for argument in op.arguments}
    if "layout" in made:  # the layout of an energy with two layers, of 4 outputs and of 1
        numbers = 4 * ELEMENTS + 12
        made["layout"] = torch.tensor([0, ELEMENTS, 2, 4, 1, 0, 0, 1, 0, 0, 0])
        of_network = {"params": torch.full((numbers,), 0.1), "biases": torch.zeros(1, 5)}
        if "grad" in made:
            of_network |= {"biases": torch.zeros(B, 5), "grad_biases": torch.zeros(B, 5)}
            of_network |= {"grad": torch.zeros(numbers), "v": torch.ones(1, ELEMENTS)}
        made |= {name: value for name, value in of_network.items() if name in made}
    if op.name == "langevin_chain":  # CUDA has neither, and network_chain tests the CPU's refusals
        made |= {"mask": None, "score_clip": None}
    if "coefficients" in made:
        made["coefficients"] = torch.ones(1, 5, dtype=torch.float64)
    if op.name == "metropolis_chain":
        tables = {
            "averaging": torch.ones(4, B).double(),
            "reports": torch.ones(4 * STEPS // THIN, B).double(),
        }
        made |= {**tables, "temperature_rows": torch.ones(STEPS).double()}
    if "marginals" in made:
        made["marginals"] = torch.ones(STEPS, 2, dtype=torch.float64)
    if op.name == "predictor_corrector":
        tables = {"coefficients": torch.ones(6, 4).double(), "marginals": torch.ones(6, 2).double()}
        made |= {"n_steps": 6, "thin": 3, **tables}
    if op.name == "network_chain" and not on_host:
        made |= {"mask": None, "score_clip": None, "known": None, "marginals": None}
    return made


def _good(argument: Argument, shape: tuple[int, ...], work: torch.dtype, reduction: int) -> Any:
    if argument.tensor is None:
        numbers = {"float": 0.5, "bool": False, "int": NUMBERS.get(argument.name, reduction)}
        return None if argument.name == "kappa_positive" else numbers[argument.kind]
    loss = (shape, (B,), ())[min(reduction, 2)]
    shapes = {
        **dict.fromkeys((Shape.SAMPLES, Shape.LIKE), shape),
        **dict.fromkeys((Shape.BATCH, Shape.ROWS, Shape.SCHEDULE, Shape.ABOVE_ROWS), (B,)),
        **dict.fromkeys((Shape.LOSS, Shape.ABOVE), loss),
        Shape.STATES: (STEPS // THIN, *shape),
        Shape.NAME: (4,),
        Shape.ONE: (),
        Shape.FLAT: (2,),
        Shape.TABLE: (1, 2),
    }
    dtypes = {Dtype.DOUBLE: torch.float64, Dtype.LONG: torch.int64, Dtype.BOOL: torch.bool}
    return torch.ones(shapes[argument.tensor.shape], dtype=dtypes.get(argument.tensor.dtype, work))


def spoiled(op: Op, argument: Argument, arguments: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (the fault, the spoilt values) for this argument."""
    value, name = arguments[argument.name], argument.name
    if argument.between is not None:
        yield from ((repr(bad), {name: bad}) for bad in NO_INTEGERS)
    if (rule := argument.number) is not None:
        unread = {argument.rows: None} if argument.rows in op.place else {}
        yield from (
            (repr(bad), {name: bad, **unread})
            for bad in (float("nan"), float("inf"), -float("inf"), rule.low - 1.0)
        )
        if rule.low_open:
            yield repr(rule.low), {name: rule.low, **unread}
    for one in argument.where:
        unread = {argument.rows: None} if argument.rows in op.place else {}
        bad = one.number.low if one.number.low_open else one.number.low - 1.0
        yield f"{bad} where {one.flag}", {name: bad, one.flag: True, **unread}
    if (limit := argument.limit) is not None:
        yield "NaN", {name: float("nan")}
        if limit.positive:
            yield from ((repr(bad), {name: bad}) for bad in (0.0, -1.0, -math.inf))
        if limit.at_least is not None:
            yield f"below {limit.at_least}", {name: -1.0, limit.at_least: -0.5}
    if not argument.optional and argument.kind != "bool":  # torch takes None for False
        yield "None", {name: None}
    if argument.partner is not None:
        yield "without its partner", {argument.partner: None}
        yield "missing beside its partner", {name: None}
    if argument.tensor is None or value is None:
        return
    yield "a number", {name: 1.0}
    yield from ((what, {name: bad}) for what, bad in _tensors(argument, value))
    yield from _overlapping(op, argument, arguments)


def _tensors(argument: Argument, value: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    yield "meta", value.to("meta")
    for dtype in WRONG_DTYPES:
        real = argument.tensor.dtype in (Dtype.REAL, Dtype.FLOATS) and dtype in (torch.float64, torch.float16)
        if dtype != value.dtype and not (
            real and (dtype == torch.float64 or argument.tensor.dtype is Dtype.FLOATS)
        ):
            yield str(dtype), value.to(dtype)
    yield "sparse", value.to_sparse()
    if argument.tensor.shape is not Shape.SAMPLES:
        yield "empty", value.new_empty(0)
        if value.dim():
            yield "a sample more", torch.cat((value, value[:1]))
        if value.dim() and argument.tensor.shape is not Shape.ROWS:
            yield "3 samples", value.new_ones(3, *value.shape[1:])
        if argument.tensor.shape is not Shape.ABOVE_ROWS:
            yield "one more dimension", torch.ones_like(value).expand(2, *value.shape).clone()
        if value.dim() == 2 and value.shape != value.shape[::-1]:
            yield "as many elements", value.reshape(value.shape[::-1])
    if value.numel() > 1:
        if argument.tensor.contiguous:
            yield "strided", torch.stack((value, value), -1)[..., 0]
        if argument.written:
            yield "expanded", value[:1].expand_as(value)
    small = value.clone()
    small.untyped_storage().resize_(value.nbytes - 1)
    yield "too little memory", small


def _overlapping(
    op: Op, argument: Argument, arguments: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields calls in which this tensor's first element overlaps a written tensor's last, or all
    of its memory is shared."""
    value = arguments[argument.name]
    for other in op.arguments:
        if not other.written or other.name == argument.name:
            continue
        written = arguments[other.name]
        size = max(value.itemsize, written.itemsize)
        memory = torch.ones(written.nbytes + value.nbytes, dtype=torch.uint8)
        begin = (written.nbytes - 1) // size * size
        ours = memory[begin : begin + value.nbytes].view(value.dtype).view(value.shape)
        theirs = memory[: written.nbytes].view(written.dtype).view(written.shape)
        yield f"over {other.name}'s end", {argument.name: ours, other.name: theirs}
        if value.dtype != written.dtype or value.nbytes > written.nbytes or argument.written:
            yield (
                f"over {other.name}",
                {
                    argument.name: memory[: value.nbytes].view(value.dtype).view(value.shape),
                    other.name: theirs,
                },
            )
