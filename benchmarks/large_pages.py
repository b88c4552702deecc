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

SHAPE = (64, 3, 256, 256)
ROUNDS = 11


def main() -> None:
    x, noise = torch.randn(SHAPE), pyebm.Noise(0)
    torch.set_num_threads(1)  # page faults come late, and late threads are left alone for a while
    advise = _memory._advise()
    calls: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "Noise.randn": (lambda: noise.randn(SHAPE), lambda: torch.randn(SHAPE)),
        "perturb": (lambda: pyebm.perturb(x, 0.5, noise), lambda: x + 0.5 * torch.randn_like(x)),
    }
    print(f"| {'x'.join(map(str, SHAPE))}, float32 | large pages | small pages | eager |")
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
