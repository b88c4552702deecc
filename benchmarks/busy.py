"""Measures what a second thread costs beside other work: the time of a call on two threads over its
time on one, while other processes keep the processors busy (docs/performance.md).

    python -m pyebm.benchmarks.busy [--processes 2] [--seconds 2]
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import pyebm

CALLS = 3  # of one side, before the other side has its turn


def _keep_busy() -> None:
    while True:
        pass


def _cases() -> dict[str, Callable[[], Any]]:
    noise, well = pyebm.Noise(0), pyebm.targets.DoubleWell()
    net = nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))
    energy = pyebm.targets.MLPEnergy(net)
    cases: dict[str, Callable[[], Any]] = {}
    for shape in ((64, 2), (4096, 2), (1024, 32), (4096, 32), (256, 3072)):
        x = torch.randn(shape)
        size = f"{shape[0]}x{shape[1]}"
        cases[f"perturb, {size}"] = lambda x=x: pyebm.perturb(x, 0.5, noise)  # type: ignore[misc]
        if shape[1] <= 32:
            name = f"langevin_chain, 50 steps, {size}"
            cases[name] = lambda x=x: pyebm.langevin_chain(x, well, 50, 0.01, noise)  # type: ignore[misc]
    x = torch.randn(64, 2)
    cases["langevin_chain of a network, 50 steps, 64x2"] = lambda: pyebm.langevin_chain(
        x, energy, 50, 0.01, noise
    )
    cases["denoising_score_matching of a network, 64x2"] = lambda: pyebm.denoising_score_matching(
        energy, x, 0.3, noise
    )
    return cases


def medians(call: Callable[[], Any], seconds: float) -> tuple[float, float]:
    """The median seconds of a call on one thread and on two, in turns."""
    times: dict[int, list[float]] = {1: [], 2: []}
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or not times[2]:
        for threads, found in times.items():
            torch.set_num_threads(threads)
            for _ in range(CALLS):
                begin = time.perf_counter()
                call()
                found.append(time.perf_counter() - begin)
    return statistics.median(times[1]), statistics.median(times[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--processes", type=int, default=2, help="how many other processes are busy")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each call")
    args = parser.parse_args()
    others = [multiprocessing.Process(target=_keep_busy, daemon=True) for _ in range(args.processes)]
    for other in others:
        other.start()
    try:
        print(f"| call, beside {args.processes} busy processes | one thread | two threads | ratio |")
        print("|---|---|---|---|")
        for name, call in _cases().items():
            call()
            one, two = medians(call, args.seconds)
            print(f"| {name} | {one * 1e6:.0f} us | {two * 1e6:.0f} us | {two / one:.2f} |")
    finally:
        for other in others:
            other.terminate()


if __name__ == "__main__":
    main()
