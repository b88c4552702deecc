"""What this machine can do, measured in the same run as the figures that are held against it; and what a reader must know of it."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import pyebm
from pyebm import _ops

from .timing import clock, take_turns

# Lane operations of one normal, integer and floating point: 58 AVX-512 instructions of Philox and 66 of Box-Muller make 32
# (docs/performance.md), 16 lanes each. The GPU kernels need about as many.
NORMAL = 62


@functools.cache
def peak(device: str, threads: int, dtype: torch.dtype) -> float:
    """Operations a second of the machine's best code, a matrix product of float32 (or float64), a multiply-add counted as two.

    Pipes are what is measured here: a product in full float32, not in the reduced precisions of a GPU's tensor cores.
    """
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    size = 8192 if device == "cuda" else 1024
    with _threads(threads):
        a, b = (torch.randn(size, size, dtype=compute, device=device) for _ in range(2))
        out = torch.empty_like(a)
        repeat, samples = take_turns({"product": lambda: torch.mm(a, b, out=out)}, 0.3, clock(device))["product"]
    return 2 * size**3 * repeat / min(samples)


@functools.cache
def normals_a_second(threads: int) -> float:
    """Our own generator into a cache-resident tensor: what a normal costs before anything is done with it. CPU only."""
    with _threads(threads):
        out, name = torch.empty(64 * threads, 1024), pyebm.Noise(0)._name
        repeat, samples = take_turns({"normals": lambda: torch.ops.pyebm.normal_(out, name)}, 0.3, clock("cpu"))["normals"]
    return out.numel() * repeat / min(samples)


@functools.cache
def copy_speed(device: str, threads: int) -> float:
    """Bytes a second of a copy that no cache holds. (Each case is held against a copy of its own size.)"""
    count = (512 if device == "cuda" else 64) * 2**20
    with _threads(threads):
        source = torch.zeros(count, dtype=torch.uint8, device=device)
        target = torch.empty_like(source)
        repeat, samples = take_turns({"copy": lambda: target.copy_(source)}, 0.3, clock(device))["copy"]
    return 2 * count * repeat / min(samples)


class _threads:
    def __init__(self, threads: int) -> None:
        self.threads, self.before = threads, torch.get_num_threads()

    def __enter__(self) -> None:
        torch.set_num_threads(self.threads)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self.before)


threads_set_to = _threads


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
    """The commit of the source tree that this package is imported from, marked where something in it was changed."""
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
    """Machine, versions and commit, as every record has them."""
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
