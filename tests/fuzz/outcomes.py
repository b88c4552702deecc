"""Results and refusals of calls, and their comparison."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from pyebm import _ops

REFUSALS = (TypeError, ValueError, RuntimeError)


def levels_here() -> list[str]:
    """The SIMD levels of this machine."""
    before, found = _ops.simd(), []
    for level in ("baseline", "avx2", "avx512"):
        with suppress(ValueError):
            found.append(_ops.simd(level))
    _ops.simd(before)
    return found


def same_bits(got: Any, want: Any) -> None:
    """Asserts equal bits: NaN equals NaN, and -0 equals only -0."""
    got, want = flat(got), flat(want)
    assert len(got) == len(want), f"{len(got)} results, not {len(want)}"
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype, f"{a.dtype}, not {b.dtype}"
        assert a.shape == b.shape, f"{tuple(a.shape)}, not {tuple(b.shape)}"
        if not a.is_floating_point() or a.dtype.itemsize == 1:
            assert torch.equal(a, b), "values differ"
            continue
        differs = ~((a == b) & (a.signbit() == b.signbit()) | (a.isnan() & b.isnan()))
        if differs.any():
            at = tuple(differs.nonzero()[0].tolist())
            raise AssertionError(
                f"{int(differs.sum())} of {a.numel()} differ; at {at}: {a[at].item()!r}, not {b[at].item()!r}"
            )


def flat(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result.detach()]
    return [tensor for each in result for tensor in flat(each)]


def on_threads(threads: int, level: str, run: Callable[[], Any]) -> Any:
    """The outcome on that many threads and at this SIMD level. Everything else runs on one
    thread, because these tensors gain nothing from more."""
    torch.set_num_threads(threads)
    _ops.simd(level)
    try:
        return outcome(run)
    finally:
        torch.set_num_threads(1)
        _ops.simd(LEVELS[-1])


def outcome(run: Callable[[], Any]) -> Any:
    """Returns the result or the refusal; any other exception passes through."""
    try:
        return run()
    except REFUSALS as refusal:
        if not is_named(refusal):
            raise AssertionError(
                f"a refusal that does not begin with a name: {type(refusal).__name__}: {refusal!s:.300}"
            ) from refusal
        return refusal


def is_named(refusal: Exception) -> bool:
    """True if the message begins with the name of the call that refuses, as in "perturb: sigma
    must be ..."."""
    return re.match(r"[\w.]+: \S", str(refusal)) is not None


LEVELS = levels_here()
