"""Predicts the kernels' speed on GPUs by a model, for machines without one. Nothing here was
measured, and the report says so.

The compilers' output gives each kernel's bytes and instructions per element (tests/gpuless); the
maker publishes each GPU's bandwidth and float32 rate. The prediction is the slower of the two.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from .records import Row

SOURCES = Path(__file__).resolve().parents[1]
CUDA = "tests/gpuless/cuda_limits.json"
TRITON = "docs/gpu-kernels.md"


@dataclass(frozen=True)
class GPU:
    """NVIDIA's own figures: bytes a second, float32 operations a second (a multiply-add is two),
    and the lanes that its schedulers issue to, as a multiple of its float32 lanes."""

    name: str
    bandwidth: float
    flops: float
    code: str  # the architecture whose code is counted
    issue: int = 1
    doubles: bool = True  # float64 runs at half the float32 rate; else it is not modelled

    @property
    def lanes(self) -> float:
        return self.flops / 2


GPUS = (
    GPU("A100 SXM 80 GB", 2.039e12, 19.5e12, "80", issue=2),
    GPU("H100 SXM", 3.35e12, 67e12, "90"),
    GPU("H200 SXM", 4.8e12, 67e12, "90"),
    GPU("B200 (HGX)", 8.0e12, 80e12, "100"),
    GPU(
        "RTX 4090", 1.008e12, 82.6e12, "80", doubles=False
    ),  # the gates don't compile for 8.9; 8.0 is the nearest
)
PUBLISHED = (
    "NVIDIA's published figures: data sheets of the A100 80GB, H100, H200 and HGX B200, and the Ada GPU"
    " architecture white paper for the RTX 4090"
)


@dataclass(frozen=True)
class Kernel:
    """Bytes, instructions and issue slots per element; an instruction of half rate counts as two
    slots, and so on."""

    name: str
    dtype: str
    bytes: float
    instructions: float
    slots: float

    def seconds(self, gpu: GPU) -> tuple[float, float]:
        """Seconds of an element's instructions: with all units one after the other, and with all
        of them side by side."""
        return self.slots / gpu.lanes, self.instructions / (gpu.lanes * gpu.issue)

    def shares(self, gpu: GPU) -> tuple[float, float]:
        """Predicted shares of the memory's floor, by both estimates of ``seconds``."""
        floor = self.bytes / gpu.bandwidth
        serial, concurrent = self.seconds(gpu)
        return floor / max(floor, serial), floor / max(floor, concurrent)


def cuda_kernels(text: str, code: str) -> list[Kernel]:
    """Reads the limits that the gate of the CUDA kernels enforces. Dense targets have limits
    there too, but no bytes: they are left out."""
    found = []
    for key, row in json.loads(text).items():
        name, dtype, architecture = key.rsplit(", ", 2)
        if architecture == f"sm_{code}" and "bytes" in row:
            found.append(Kernel(name, dtype, row["bytes"], row["instructions"], row["slots"]))
    return found


def triton_kernels(text: str) -> list[Kernel]:
    """Reads the table that the gate of the Triton kernels writes, for sm_90 and samples that
    vectors divide."""
    rows = [
        [cell.strip() for cell in line.strip("| \n").split(" | ")]
        for line in text.splitlines()
        if line.startswith("| ")
    ]
    head = next((row for row in rows if "case" in row and "slots" in row), None)
    if head is None:
        return []
    found = []
    for row in rows:
        named = dict(zip(head, row, strict=False))
        if named.get("sample") == "3072" and re.fullmatch(r"[\d.]+", named.get("bytes", "")):
            found.append(
                Kernel(
                    named["case"],
                    named["dtype"],
                    float(named["bytes"]),
                    float(named["instructions"]),
                    float(named["slots"]),
                )
            )
    return found


def _table(title: str, kernels: dict[str, list[Kernel]]) -> str:
    gpus = [gpu for gpu in GPUS if gpu.code in kernels]
    shown = kernels["90"]
    lines = [f"**{title}**", ""]
    lines.append(
        "| kernel, dtype | bytes, instructions an element (9.0) | "
        + " | ".join(gpu.name for gpu in gpus)
        + " |"
    )
    lines.append("|---|---|" + "---|" * len(gpus))
    for k, kernel in enumerate(shown):
        cells = []
        for gpu in gpus:
            if kernel.dtype in ("double", "float64") and not gpu.doubles:
                cells.append("not modelled")
                continue
            if not kernel.bytes:  # a chain's step, whose state stays in registers
                serial, concurrent = kernels[gpu.code][k].seconds(gpu)
                cells.append(f"{concurrent * 1e12:.2f} to {serial * 1e12:.2f} ps, instructions")
                continue
            serial, concurrent = kernels[gpu.code][k].shares(gpu)
            bound = "memory" if serial == 1 else "instructions" if concurrent < 1 else "either"
            cells.append(f"{serial:.0%} / {concurrent:.0%}, {bound}")
        lines.append(
            f"| {kernel.name}, {kernel.dtype} | {kernel.bytes:g}, {kernel.instructions:.0f} |"
            f" {' | '.join(cells)} |"
        )
    return "\n".join(lines)


def section(rows: list[Row], sources: Path = SOURCES) -> str:
    """The report's part on GPUs: empty if a GPU was measured; otherwise the model, or the reason
    why there is none."""
    if any(row.info["device"] == "cuda" for row in rows):
        return ""
    head = "## GPUs: a model, not a measurement"
    try:
        text = (sources / CUDA).read_text()
        by_code = {gpu.code: cuda_kernels(text, gpu.code) for gpu in GPUS}
        tables = [_table("CUDA C++, compiled for each (RTX 4090: the code for 8.0)", by_code)]
        triton = triton_kernels((sources / TRITON).read_text())
        if triton:
            tables.append(_table("Triton, compiled for 9.0", {"90": triton}))
    except (OSError, LookupError, ValueError) as error:
        return (
            f"{head}\n\nLeft out: what the compilers made of the kernels is in the source tree, and not here"
            f" ({error})."
        )
    return "\n\n".join([head, EXPLAINED, *tables])


EXPLAINED = f"""\
No GPU was here. Bytes and instructions an element are those of the compiled kernels; bandwidths and float32 rates are
{PUBLISHED}. Each cell: the predicted share of the time that the bytes alone take at that bandwidth, first with the instructions'
issue slots one after the other (pessimistic: a half-rate instruction counts twice, by compute capability 9.0's table for all), then
with all units side by side, one instruction a lane and clock (optimistic); and what bounds it, *either* where the two disagree.
A step inside a chain moves no bytes: its cells are the time of an element.
docs/gpu-kernels.md predicts with a clock of 1.755 GHz for the H100, 11 % below the data sheet's, so its shares are lower."""
