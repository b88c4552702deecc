"""Measures what large pages save where a call's result lies in fresh memory (docs/performance.md).

python -m pyebm.benchmarks.large_pages
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch

import pyebm
from pyebm import _memory

LARGE, MIDDLING = (64, 3, 256, 256), (256, 3, 64, 64)
ROUNDS = 11


def main() -> None:
    x, y, noise = torch.randn(LARGE), torch.randn(MIDDLING), pyebm.Noise(0)
    torch.set_num_threads(1)  # page faults come late, and late threads are left alone for a while
    advise = _memory._advise()
    calls: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "Noise.randn, 64x3x256x256": (lambda: noise.randn(LARGE), lambda: torch.randn(LARGE)),
        "perturb, 64x3x256x256": (
            lambda: pyebm.perturb(x, 0.5, noise),
            lambda: x + 0.5 * torch.randn_like(x),
        ),
        # malloc keeps one such result for the next call, and gives the memory of three back.
        "perturb three times, 256x3x64x64": (
            lambda: [pyebm.perturb(y, 0.5, noise) for _ in range(3)],
            lambda: [y + 0.5 * torch.randn_like(y) for _ in range(3)],
        ),
    }
    print("| float32, one thread | large pages | small pages | eager |")
    print("|---|---|---|---|")
    for name, (ours, eager) in calls.items():
        times: list[list[float]] = [[], [], []]
        for _ in range(ROUNDS):
            for found, call, asks in zip(times, (ours, ours, eager), (advise, None, advise), strict=True):
                with patch.object(_memory, "_advise", lambda asks=asks: asks):
                    begin = time.perf_counter()
                    call()
                    found.append(time.perf_counter() - begin)
        row = " | ".join(f"{statistics.median(found) * 1e3:.1f} ms" for found in times)
        print(f"| {name} | {row} |")


if __name__ == "__main__":
    main()
