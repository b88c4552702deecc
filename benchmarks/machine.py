"""The limits of this machine, measured in the same run as the figures that are held against
them, and the facts about it that a reader must know."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import pyebm
from pyebm import _ops

from .timing import Run, clock, take_turns

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h


@functools.cache
def peak(device: str, threads: int, dtype: torch.dtype) -> float:
    """Operations a second of the machine's best code: a matrix product of float32 (or float64),
    torch's or, on the CPU, our networks', with a multiply-add counted as two. (MKL, which makes
    torch's, leaves half of AVX-512's speed unused on AMD's Zen 5.)

    The product is in full float32, not in the reduced precisions of a GPU's tensor cores: the peak
    is that of the ordinary pipes.
    """
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    products: list[tuple[Run, int]] = []  # with their operations
    for size in (4096, 8192) if device == "cuda" else (384, 768):
        a, b = (torch.randn(size, size, dtype=compute, device=device) for _ in range(2))
        products.append((functools.partial(torch.mm, a, b, out=torch.empty_like(a)), 2 * size**3))
    if device == "cpu" and pyebm.backends()["cpu"] is True:
        width, depth, batch = 256, 3, 512 * threads
        layers = [torch.nn.Linear(width, width, dtype=compute).requires_grad_(False) for _ in range(depth)]
        net = torch.nn.Sequential(*(part for layer in layers for part in (layer, torch.nn.ReLU())))
        score = pyebm.targets.MLPScore(net).score
        x = torch.randn(batch, width, dtype=compute)
        products.append((functools.partial(score, x), 2 * width * width * depth * batch))
    with threads_set_to(threads):
        runs = {str(k): run for k, (run, _) in enumerate(products)}
        taken = take_turns(runs, 0.3 * len(runs), clock(device)).values()
    return max(
        operations * repeat / min(samples)
        for (_, operations), (repeat, samples) in zip(products, taken, strict=True)
    )


# How torch, oneDNN and XLA are told to use no more than a SIMD level. MKL goes by the processor.
HELD = {
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
    },
    "baseline": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2",
    },
}


def hold_to(level: str) -> None:
    """Holds every side to a SIMD level of this machine: our kernels, and those of torch, the
    inductor, oneDNN and XLA.

    Raises ValueError when this machine does not have the level, RuntimeError when torch has
    computed before, and so has chosen its own.
    """
    _ops.simd(level)
    if level not in HELD:  # the machine's best, which all choose by themselves
        return
    os.environ.update(HELD[level])
    # Each level has an inductor cache of its own, since the inductor takes up any code that it
    # finds in its cache, at whatever level that was made.
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{tempfile.gettempdir()}/pyebm-inductor-{level}"
    chosen = torch.backends.cpu.get_cpu_capability()
    if chosen.lower() != HELD[level]["ATEN_CPU_CAPABILITY"]:
        raise RuntimeError(f"torch has computed before, and keeps to {chosen}; begin with a fresh process")


def keep_memory() -> None:
    """Lets the process keep the memory that it frees (glibc only), so that no side meets the page
    faults of fresh memory.

    Whether a tensor of megabytes gets fresh memory depends on the accidental state of the heap, and
    can double a time. Code that makes more temporaries gains the most from this.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 2**28)):
            mallopt(parameter, value)


def normal_operations(device: str) -> int:
    """Lane operations of one normal, integer and floating point: 459 instructions of AVX-512 make
    eight vectors of normals, 279 of AVX2 make four (docs/performance.md).

    NEON and the baseline, whose instructions are like AVX2's, are held to its number, the GPU
    kernels, which have exclusive ors of three words, to that of AVX-512.
    """
    level = _ops.simd() if device == "cpu" and pyebm.backends()["cpu"] is True else ""
    return 70 if level and level != "avx512" else 58


def limits(device: str) -> dict[str, float]:
    """Other limits that a reader may hold figures against: copies larger than all caches, our
    own generator in the cache, and the import time."""
    found = {}
    counts = (1,) if device == "cuda" else (1, torch.get_num_threads())
    for threads in dict.fromkeys(counts):
        of = f", {threads} thread{'s' * (threads > 1)}" if device == "cpu" else ""
        found[f"a copy beyond all caches{of}, GB/s"] = _copy_speed(device, threads) / 1e9
        found[f"a float32 matrix product{of}, Gop/s"] = peak(device, threads, torch.float32) / 1e9
    if device == "cpu" and pyebm.backends()["cpu"] is True:
        best = _ops.simd()
        for level in ("baseline", "avx2", "avx512"):
            with contextlib.suppress(ValueError):  # a level that this machine doesn't have
                _ops.simd(level)
                found[f"a normal in the cache, {level}, 1 thread, ns"] = _normal() * 1e9
        _ops.simd(best)
    found["import pyebm beyond import torch, ms"] = _import_time() * 1e3
    return {name: float(f"{value:.4g}") for name, value in found.items()}


def _copy_speed(device: str, threads: int) -> float:
    count = (1024 if device == "cuda" else 128) * 2**20
    with threads_set_to(threads):
        source = torch.zeros(count, dtype=torch.uint8, device=device)
        target = torch.empty_like(source)
        repeat, samples = take_turns({"copy": lambda: target.copy_(source)}, 0.3, clock(device))["copy"]
    return 2 * count * repeat / min(samples)


def _normal() -> float:
    with threads_set_to(1):
        out, name = torch.empty(64, 1024), pyebm.Noise(0)._name
        repeat, samples = take_turns(
            {"normals": lambda: torch.ops.pyebm.normal_(out, name)}, 0.2, clock("cpu")
        )["normals"]
    return min(samples) / repeat / out.numel()


def _import_time() -> float:
    code = "import time, torch; t = time.perf_counter(); import pyebm; print(time.perf_counter() - t)"
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(3)
    ]
    return statistics.median(map(float, runs))


@contextlib.contextmanager
def threads_set_to(threads: int) -> Iterator[None]:
    """Sets torch's number of threads, and restores it afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def load() -> float | None:
    """The load average of the last minute; None where the system has none."""
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


@functools.cache
def _commit() -> str:
    """The commit of the source tree that this package is imported from, marked if the tree has
    changes."""
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def provenance(device: str) -> dict[str, Any]:
    """The machine, versions and commit that every record carries."""
    from .rivals import DISTRIBUTIONS

    rivals = {name: version for name, (_, found) in DISTRIBUTIONS.items() if (version := _version(found))}
    return {
        "machine": torch.cuda.get_device_name() if device == "cuda" else f"{_cpu()}, {os.cpu_count()} cores",
        "device": device,
        "simd": _ops.simd() if pyebm.backends()["cpu"] is True else "none",
        "versions": {
            "pyebm": pyebm.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            **rivals,
        },
        "commit": _commit(),
    }
