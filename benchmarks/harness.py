"""Timing two or more ways of doing the same work, alternating in one process, so that both meet the same machine."""

from __future__ import annotations

import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

import pyebm


@dataclass
class Case:
    """One piece of work, done by several sides. ``check`` raises unless they do the same; without it no speed-up is shown."""

    name: str
    sides: dict[str, Callable[[], object]]  # "pyebm" among them
    check: Callable[[], None]
    elements: int = 0
    bytes_per_element: float = 0.0  # what any implementation must move, the normals being free
    normals: int = 0  # how often each element's normal is generated
    threads: int = 2
    memory: bool = False  # report the memory that a call takes beyond its inputs
    asked: dict[str, float] = field(default_factory=dict)  # the speed-up over a side that we promised


@dataclass
class Result:
    name: str
    threads: int
    median_ms: dict[str, float]
    spread: dict[str, float]  # (third - first quartile) / median
    extra_bytes: dict[str, int]
    floor_ms: float | None
    asked: dict[str, float]

    def speedup(self, side: str) -> float:
        return self.median_ms[side] / self.median_ms["pyebm"]


def alternate(sides: dict[str, Callable[[], object]], seconds: float, rounds: int = 200) -> dict[str, list[float]]:
    """Times in ms. Short work is repeated within a sample, so that the clock's own cost disappears."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    repeat = {}
    for name, run in sides.items():
        run()
        start = time.perf_counter()
        run()
        repeat[name] = max(1, int(1e-3 / (time.perf_counter() - start)))
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline or len(times["pyebm"]) < 5:
        for name, run in sides.items():
            start = time.perf_counter()
            for _ in range(repeat[name]):
                run()
            times[name].append((time.perf_counter() - start) * 1e3 / repeat[name])
        if len(times["pyebm"]) >= rounds:
            break
    return times


def extra_bytes(run: Callable[[], object]) -> int:
    """The most memory that one call holds at a time, beyond what was there before it."""
    run()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    held = most = 0
    for event in sorted(
        (e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"), key=lambda e: e.start_ns()
    ):
        held += event.nbytes()
        most = max(most, held)
    return most


def run_case(case: Case, seconds: float, copy_ms_per_byte: float, normal_ms: float) -> Result:
    """``normal_ms``: the time of one normal in the L1 cache on one thread, the arithmetic floor."""
    torch.set_num_threads(case.threads)
    case.check()
    times = alternate(case.sides, seconds)
    quartiles = {name: statistics.quantiles(values, n=4) for name, values in times.items()}
    floor = None
    if case.elements:
        moved = case.elements * case.bytes_per_element * copy_ms_per_byte
        floor = max(moved, case.elements * case.normals * normal_ms / case.threads)
    return Result(
        name=case.name,
        threads=case.threads,
        median_ms={name: q[1] for name, q in quartiles.items()},
        spread={name: (q[2] - q[0]) / q[1] for name, q in quartiles.items()},
        extra_bytes={name: extra_bytes(run) for name, run in case.sides.items()} if case.memory else {},
        floor_ms=floor,
        asked=case.asked,
    )


def measure_floors() -> dict[str, float]:
    """What this machine can do, measured in the same run: the copy speed, and the time of one normal in the cache."""
    torch.set_num_threads(2)
    source = torch.zeros(256 * 3 * 64 * 64)
    target = torch.zeros_like(source)
    small = torch.empty(64, 1024)  # 256 KB: in the cache, and long enough to hide the call
    name = pyebm.Noise(0)._name
    sides = {"pyebm": lambda: target.copy_(source)}
    copy = min(alternate(sides, 1.0)["pyebm"]) / (2 * source.numel() * source.element_size())
    torch.set_num_threads(1)
    normal = min(alternate({"pyebm": lambda: torch.ops.pyebm.normal_(small, name)}, 1.0)["pyebm"]) / small.numel()
    return {"copy_ms_per_byte": copy, "normal_ms": normal}


def provenance() -> dict[str, str]:
    """What a reader needs to judge the figures: machine, versions, commit, load."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as lines:
            model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
        with open("/proc/loadavg") as line:
            load = line.read().split()[0]
    except (OSError, StopIteration):
        load = "unknown"
    return {
        "cpu": model,
        "simd": pyebm._ops.simd(),
        "torch": torch.__version__,
        "pyebm": pyebm.__version__,
        "python": platform.python_version(),
        "commit": commit or "unknown",
        "load average at start": load,
    }
