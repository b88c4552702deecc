"""Measures what it costs that a target's score follows its numbers, whoever wrote them
(docs/targets.md).

    python benchmarks/follow.py
"""

from __future__ import annotations

import timeit
from collections.abc import Callable
from typing import Any

import torch

import pyebm


def least(call: Callable[[], Any], number: int) -> float:
    """Microseconds per call, in the fastest of some repetitions."""
    return min(timeit.repeat(call, number=number, repeat=15)) / number * 1e6


def main() -> None:
    print(f"{'':44} {'comparison':>11} {'call':>9}  share")
    small, noise = pyebm.targets.DoubleWell(), pyebm.Noise(0)
    large = pyebm.targets.GaussianMixture(torch.randn(10_000, 64), 0.5)
    x, one, many = torch.randn(64, 2), torch.randn(1, 64), torch.randn(256, 64)
    cases: list[tuple[str, pyebm.targets.Target, Callable[[], Any], int]] = [
        ("two numbers, score of 64 x 2", small, lambda: small.score(x), 20_000),
        (
            "two numbers, 200 steps, 64 x 2",
            small,
            lambda: pyebm.langevin_chain(x, small, 200, 0.01, noise),
            1000,
        ),
        ("10,000 x 64 means, score of 256 samples", large, lambda: large.score(many), 10),
        ("10,000 x 64 means, score of 1 sample", large, lambda: large.score(one), 100),
    ]
    with torch.no_grad():
        for name, target, call, number in cases:
            call()
            kept, tensors = target._kept[torch.float32], target._tensors()
            comparison, whole = (
                least(lambda kept=kept, tensors=tensors: kept.still(tensors), number),
                least(call, number),
            )  # type: ignore[misc]
            print(f"{name:44} {comparison:8.2f} us {whole:6.0f} us  {comparison / whole:.1%}")


if __name__ == "__main__":
    main()
