"""Times several ways of doing the same work, which take turns in one process; measures what a call
allocates and how many operations it dispatches.

pytest-benchmark times one callable to its end before the next begins. On a shared machine, whose
speed drifts within seconds, that compares two machines. Here the sides take turns, sample by
sample, each round beginning with another side, and the samples are given to pytest-benchmark's own
statistics (:mod:`pyebm.benchmarks.suite`).
"""

from __future__ import annotations

import gc
import math
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

Run = Callable[[], object]

SAMPLE = 2e-3  # seconds: shorter work is repeated within a sample, so that the clock's own cost disappears
FEWEST = 5  # samples of each side, however long they take
SCATTER, ATTEMPTS = (
    0.25,
    3,
)  # repeat a case while a side's times scatter by more than SCATTER, at most ATTEMPTS times


class HostClock:
    """Seconds that a number of calls take on the CPU.

    Every turn begins with a pause, in which the last side's threads (XLA's and OpenMP's keep a core
    busy for a while) leave the cores, and with a call that is not timed, which wakes this side's.
    """

    PAUSE = 2e-3  # seconds

    def __call__(self, run: Run, repeat: int) -> float:
        time.sleep(self.PAUSE)
        run()
        start = time.perf_counter()
        for _ in range(repeat):
            run()
        return time.perf_counter() - start


class DeviceClock:
    """The same on a CUDA device, by its own events; it first flushes what earlier work left in
    the L2 cache."""

    FLUSH = 256 * 2**20  # more than any L2 cache of today

    def __init__(self) -> None:
        self.flushed = torch.empty(self.FLUSH, dtype=torch.uint8, device="cuda")

    def __call__(self, run: Run, repeat: int) -> float:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        self.flushed.zero_()
        start.record()
        for _ in range(repeat):
            run()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) * 1e-3


def clock(device: str) -> HostClock | DeviceClock:
    return DeviceClock() if device == "cuda" else HostClock()


def slowed(run: Run, share: float) -> Run:
    """``run``, made slower by this share of its time, to test what notices it."""

    def slow() -> object:
        begin = time.perf_counter()
        result = run()
        now = time.perf_counter()
        end = now + share * (now - begin)
        while time.perf_counter() < end:
            pass
        return result

    return slow


def take_turns(
    sides: dict[str, Run], seconds: float, timer: Callable[[Run, int], float]
) -> dict[str, tuple[int, list[float]]]:
    """Returns ``{side: (calls a sample, seconds of each sample)}``; all sides together take
    ``seconds``, not counting the warm-up."""
    repeat = {}
    for name, run in sides.items():
        timer(run, 1)  # the set-up of a first call is not part of the work
        repeat[name] = max(1, round(SAMPLE / max(timer(run, 2) / 2, 1e-9)))
    samples: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    collecting = gc.isenabled()
    gc.disable()
    try:
        deadline, rounds = time.perf_counter() + seconds, 0
        while rounds < FEWEST or time.perf_counter() < deadline:
            for k in range(len(names)):
                name = names[(rounds + k) % len(names)]
                samples[name].append(timer(sides[name], repeat[name]))
            rounds += 1
    finally:
        if collecting:
            gc.enable()
    return {name: (repeat[name], samples[name]) for name in names}


def steady_turns(
    sides: dict[str, Run], seconds: float, timer: Callable[[Run, int], float]
) -> tuple[dict[str, tuple[int, list[float]]], int]:
    """:func:`take_turns`, repeated while the times are scattered, as they are when others use the
    machine; also returns the number of attempts.

    It keeps the attempt in which the times of ours and eager, whose ratio is compared, scattered
    least.
    """
    best: dict[str, tuple[int, list[float]]] = {}
    attempts, least = 0, math.inf
    while attempts < ATTEMPTS and least > SCATTER:
        samples = take_turns(sides, seconds, timer)
        attempts += 1
        judged = [side for side in ("pyebm", "eager") if side in samples] or list(samples)
        scatter = max(_scatter(samples[side][1]) for side in judged)
        if scatter < least:
            best, least = samples, scatter
    return best, attempts


def _scatter(times: list[float]) -> float:
    """The interquartile range divided by the median."""
    first, median, third = statistics.quantiles(times, n=4)
    return (third - first) / median


def extra_bytes(run: Run, device: str) -> int:
    """The most memory that one call holds at a time, its result included, beyond what was
    allocated before it."""
    run()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler logs on every call
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        run()
    held = most = 0
    events = (event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]")
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


class _Counter(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def dispatched(run: Run) -> int:
    """How many operations a call sends through torch's dispatcher, below autograd: on a GPU,
    about one launch each."""
    with _Counter() as counter:
        run()
    return counter.count


def captured(run: Run) -> Run:
    """A replay of ``run`` as a CUDA graph."""
    side_stream = torch.cuda.Stream()
    side_stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side_stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side_stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay
