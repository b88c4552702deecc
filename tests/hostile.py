"""Values that no caller should give, and the kinds of arguments: a kind says which plain value
such a value may stand for."""

from __future__ import annotations

import dataclasses
import fractions
import math
import numbers
import operator

import numpy as np
import torch
from torch import Tensor

import pyebm
from pyebm._options import FLOATS


class Unprintable:
    def __repr__(self):
        raise KeyError("no repr")


def nested():
    return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])


# Each is made anew for each call, because a call may change it.
HOSTILE = {
    "None": lambda: None,
    "object": object,
    "unprintable": Unprintable,
    "str": lambda: "abc",
    "number as str": lambda: "0.5",
    "bytes": lambda: b"1",
    "list": list,
    "list of str": lambda: ["a", "b"],
    "list of a list": lambda: [[0.5]],
    "dict": dict,
    "set": lambda: {1.0},
    "complex": lambda: 0.5j,
    "nan": lambda: math.nan,
    "inf": lambda: math.inf,
    "-inf": lambda: -math.inf,
    "10**400": lambda: 10**400,
    "-10**400": lambda: -(10**400),
    "10**5000": lambda: 10**5000,
    "1.5": lambda: 1.5,
    "True": lambda: True,
    "False": lambda: False,
    "Fraction": lambda: fractions.Fraction(1, 2),
    "np.float32": lambda: np.float32(0.5),
    "np.float64 nan": lambda: np.float64("nan"),
    "np.int64": lambda: np.int64(2),
    "np.bool": lambda: np.bool_(True),
    "np.str": lambda: np.str_("abc"),
    "np.array": lambda: np.array([0.5, 0.5]),
    "np.array of object": lambda: np.array([None, "a"], dtype=object),
    "0-dim": lambda: torch.tensor(0.5),
    "0-dim int": lambda: torch.tensor(1),
    "0-dim bool": lambda: torch.tensor(True),
    "nan tensor": lambda: torch.tensor([math.nan]),
    "empty tensor": lambda: torch.empty(0),
    "int tensor": lambda: torch.ones(3, 4, dtype=torch.int32),
    "bool tensor": lambda: torch.ones(3, 4, 7, dtype=torch.bool),
    "complex tensor": lambda: torch.ones(3, 4, dtype=torch.complex64),
    "0-dim complex": lambda: torch.tensor(0.5j),
    "float8": lambda: torch.ones(3, 4).to(torch.float8_e4m3fn),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(3, 4), 1.0, 0, torch.quint8),
    "sparse": lambda: torch.ones(3, 4).to_sparse(),
    "sparse csr": lambda: torch.ones(3, 4).to_sparse_csr(),
    "nested": nested,
    "meta": lambda: torch.ones(3, 4, device="meta"),
    "0-dim meta": lambda: torch.ones((), device="meta"),
    "device": lambda: "cuda:99",
}

UNNAMED = (
    "INTERNAL",
    "Internal error",
    "please report a bug",
)  # torch's own words for a failed internal check


# --- kinds of arguments: each function makes one that, given a value, returns [] where it must be
# refused and [the plain value that it stands for] elsewhere


def count(least=0, most=2**32, none=False):
    def plain(value):
        if value is None:
            return [None] * none
        try:
            value = operator.index(value)
        except (TypeError, RuntimeError):
            return []
        return [value] * (least <= value <= most)

    return plain


def number(
    low=-math.inf,
    open_low=False,
    high=math.inf,
    none=False,
    tensors=False,
    infinite=False,
    integers=False,
    meta=False,
):
    """tensors: a tensor of one number is fine too; integers: so is a tensor of an int or a bool;
    meta: so is a tensor without data."""

    def plain(value):
        if value is None:
            return [None] * none
        if isinstance(value, Tensor):
            if not tensors or value.is_nested or value.dim() or value.is_complex():
                return []
            if value.is_meta:
                return [value] * meta
            if not (value.is_floating_point() or integers):
                return []
            value = value.item()
        if not isinstance(value, numbers.Real):
            return []
        try:
            value = float(value)
        except OverflowError:
            value = math.inf if value > 0 else -math.inf
        fine = (
            (value > low or (value == low and not open_low))
            and (value < high or infinite)
            and (infinite or math.isfinite(value))
        )
        return [value] * fine

    return plain


def flag(value):
    return [bool(value)] if isinstance(value, (bool, np.bool_)) else []


def samples(value):
    """A batch: any dense floating-point tensor of one dimension or more."""
    fine = (
        isinstance(value, Tensor)
        and value.dtype in FLOATS
        and value.layout is torch.strided
        and not value.is_nested
    )
    return [value] if fine and value.dim() and value.numel() <= 2**34 else []


def pair(value):
    """A clamp: of the hostile values, None and an array of two numbers are fine."""
    if value is None or (isinstance(value, np.ndarray) and value.dtype == float):
        return [value if value is None else tuple(value.tolist())]
    return []


def refused(_):
    return []


def optional(_):
    """None is the only hostile value that is fine."""
    return [None] if _ is None else []


def mask(value):
    fine = isinstance(value, Tensor) and value.dtype is torch.bool and not value.dim()
    return [value] if value is None or fine else []


def dense():
    """A tensor of real numbers of any dtype; some of the hostile values have the shape (3, 4)."""

    def plain(value):
        fine = isinstance(value, Tensor) and not (value.is_complex() or value.is_quantized or value.is_nested)
        fine = (
            fine
            and value.layout is torch.strided
            and value.dim() > 1
            and value.dtype is not torch.float8_e4m3fn
        )
        return [value if value.is_meta else value.double()] if fine else []

    return plain


def seed(value):
    return [None] if value is None else count(-(2**63), 2**64 - 1)(value)


def same(a, b):
    """True if two results of any kind hold the same numbers, to the bit."""
    if isinstance(a, Tensor):
        return (
            isinstance(b, Tensor)
            and a.dtype is b.dtype
            and (a.is_meta or torch.equal(a.nan_to_num(), b.nan_to_num()))
        )
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (pyebm.samplers.State, pyebm.samplers.Trajectory)):
        return all(same(getattr(a, one.name), getattr(b, one.name)) for one in dataclasses.fields(a))
    return a == b
