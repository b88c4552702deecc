"""Spoils one argument of a good call of a registered op, torch.ops.pyebm.*, as export, AOTInductor
and other languages call them.

The op must refuse the call in words, or run and write only to its outputs; every tensor lies beside
pages that may not be touched.
"""

from __future__ import annotations

import random
from typing import Any

import torch
from good_calls import Good
from guarded import note
from outcomes import LEVELS, same_bits
from torch import Tensor

from pyebm import _ops, reference
from pyebm._schemas import SCHEMAS

# The compiled op and the reference give the same bits for these ops; the others add in their own
# order.
EXACT = (
    "normal_",
    "uniform_",
    "perturb",
    "langevin_step",
    "affine_step",
    "predicted_step",
    "leapfrog",
    "denoising_grad",
    "scale_",
)


def case(rng: random.Random) -> None:
    torch.set_num_threads(1)
    _ops.simd(rng.choice(LEVELS))
    op = rng.choice(list(SCHEMAS))
    good = Good(op, rng)
    fine = rng.random() < 0.1
    what = f"{op}: as it should be" if fine else good.spoil()
    note(what)
    may = [argument.name for argument in good.schema.arguments if argument.alias_info is not None]
    written = [value for name, value in good.named.items() if name in may and isinstance(value, Tensor)]
    copies = {name: value.clone() if _dense(value) else value for name, value in good.named.items()}
    try:
        getattr(torch.ops.pyebm, op)(**good.named)
    except (RuntimeError, ValueError, TypeError) as refusal:
        if fine or "INTERNAL ASSERT" in str(refusal):
            raise AssertionError(f"{what}: refused: {refusal!s:.300}") from refusal
        return
    if any(tensor.is_meta for tensor in good.named.values() if isinstance(tensor, Tensor)):
        return  # the fake ran, which computes nothing
    for name, value in good.named.items():
        if name not in may and _dense(value) and not any(_overlap(value, each) for each in written):
            assert _same(value, copies[name]), f"{what}: it wrote to {name}"
    shared = any(_overlap(a, b) for a in written for b in good.named.values() if b is not a)
    if not shared:
        good.arena.check(*written)
    if (
        op in EXACT
        and not shared
        and all(_dense(value) or not isinstance(value, Tensor) for value in good.named.values())
    ):
        try:
            reference.OPS[op](*copies.values())
        except Exception as refusal:
            if fine:
                raise AssertionError(
                    f"{what}: the reference raised {type(refusal).__name__}: {refusal!s:.300}"
                ) from refusal
            return
        for name in may:
            if good.named[name] is not None:
                _explained(f"{what}: {name}", good.named[name], copies[name])


def _explained(what: str, got: Tensor, want: Tensor) -> None:
    try:
        same_bits(got, want)
    except AssertionError as wrong:
        raise AssertionError(f"{what}: {wrong}") from wrong


def _dense(value: Any) -> bool:
    if not isinstance(value, Tensor) or value.is_nested or value.layout is not torch.strided or value.is_meta:
        return False
    return value.untyped_storage().nbytes() > 0 and not value._is_zerotensor()


def _overlap(a: Any, b: Any) -> bool:
    return _dense(a) and _dense(b) and a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def _same(a: Tensor, b: Tensor) -> bool:
    one, other = (
        torch.empty(t.numel(), dtype=t.dtype).copy_(t.detach().reshape(-1)).view(torch.uint8) for t in (a, b)
    )
    return torch.equal(one, other)
