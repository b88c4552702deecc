"""Checks that two sides of a benchmark do the same work: equal results from the same noise, or
equal laws."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor

import pyebm

Draws = Callable[[int], tuple[int, int]]


def in_turn(n: int) -> tuple[int, int]:
    """One draw a step, all from one stream, as most loops draw."""
    return n, 0


def tensors(result: object) -> list[Tensor]:
    values = result if isinstance(result, (tuple, list)) else [result]
    return [value.detach().clone() for value in values if isinstance(value, Tensor)]


def assert_near(ours: Tensor, theirs: Tensor, tolerance: float, strays: float = 0.0) -> None:
    """Fails if ours and theirs are apart by more than ``tolerance`` times the largest of theirs
    (at least 1e-6), except in a share ``strays`` of the samples."""
    assert ours.shape == theirs.shape, (
        f"shapes differ: ours {tuple(ours.shape)}, theirs {tuple(theirs.shape)}"
    )
    if not theirs.numel():
        return
    ours, theirs = ours.double(), theirs.double()
    size = max(float(theirs.abs().max()), 1e-6)
    apart = (ours - theirs).abs()
    if strays:
        far = float((apart.flatten(1).amax(1) > tolerance * size).double().mean())
        assert far <= strays, f"{far:.2%} of the samples are apart by more than {tolerance:g} of {size:.3g}"
        return
    assert float(apart.max()) <= tolerance * size, (
        f"apart by {float(apart.max()):.3g}, where values reach {size:.3g}"
    )


def assert_same_law(ours: Tensor, theirs: Tensor) -> None:
    """Fails unless means and deviations agree within 6 standard errors of independent elements;
    single numbers must agree within 10 %."""
    assert ours.shape == theirs.shape, (
        f"shapes differ: ours {tuple(ours.shape)}, theirs {tuple(theirs.shape)}"
    )
    ours, theirs = ours.double(), theirs.double()
    if ours.numel() == 1:
        assert abs(float(ours) - float(theirs)) <= 0.1 * abs(float(ours)), (
            f"{float(ours):.4g} is not {float(theirs):.4g}"
        )
        return
    count = ours.numel()
    deviation = float(ours.std())
    means = abs(float(ours.mean()) - float(theirs.mean()))
    assert means <= 6 * deviation * math.sqrt(2 / count), (
        f"means differ by {means:.3g}, deviation {deviation:.3g}"
    )
    ratio = float(theirs.std()) / deviation
    assert abs(ratio - 1) <= 6 * math.sqrt(2 / count), f"deviations differ by a factor of {ratio:.4f}"


@contextlib.contextmanager
def given(noise: pyebm.Noise, draws: Draws = in_turn) -> Iterator[None]:
    """Inside this context, code that asks torch for random numbers gets ours.

    The n-th draw of normals is at the step and stream ``draws(n)``, counted from the noise's own.
    The n-th draw of uniforms is n steps later on stream + 1, where our Metropolis tests take
    theirs.
    """
    normals = uniforms = 0

    def next_normals() -> pyebm.Noise:
        nonlocal normals
        step, stream = draws(normals)
        normals += 1
        return noise.at(step=noise.step + step, stream=noise.stream + stream)

    def next_uniforms() -> pyebm.Noise:
        nonlocal uniforms
        uniforms += 1
        return noise.at(step=noise.step + uniforms - 1, stream=noise.stream + 1)

    def options(like: Tensor | None, asked: dict[str, Any]) -> dict[str, Any]:
        device = asked.get("device") or (like.device if like is not None else "cpu")
        dtype = asked.get("dtype") or (like.dtype if like is not None else torch.get_default_dtype())
        return {"dtype": dtype, "device": device}

    def shape_of(shape: tuple[Any, ...]) -> tuple[int, ...]:
        return tuple(shape[0]) if shape and not isinstance(shape[0], int) else shape

    replaced = {
        "randn_like": lambda like, **asked: next_normals().randn(tuple(like.shape), **options(like, asked)),
        "randn": lambda *shape, **asked: next_normals().randn(shape_of(shape), **options(None, asked)),
        "rand_like": lambda like, **asked: next_uniforms().rand(tuple(like.shape), **options(like, asked)),
        "rand": lambda *shape, **asked: next_uniforms().rand(shape_of(shape), **options(None, asked)),
    }

    def normal_(into: Tensor, **_: Any) -> Tensor:
        return into.copy_(next_normals().randn(tuple(into.shape), **options(into, {})))

    with contextlib.ExitStack() as patches:
        for name, function in replaced.items():
            patches.enter_context(mock.patch.object(torch, name, function))
        patches.enter_context(mock.patch.object(Tensor, "normal_", normal_))
        yield
