"""The cost of the inner loops of the networks' CUDA kernels, for cuda_gate.py: counted and weighed
by throughput.py. And what a step of a chain should take by that, beside eager's launches.

A step is products of a tile of samples with the layers' weights, forward and back. A turn of such a
loop takes four inputs: kRows samples by 4 outputs by 4 inputs.
"""

from __future__ import annotations

import math

import throughput
from dense_gate import FMA, _has, _loops

# For each case: a thread's samples, and what a block holds (network_tile.h kHoldsAll).
WAYS = {
    "all in shared memory, 32 samples": (4, 2),
    "all in shared memory, 16 samples": (2, 2),
    "activations in shared memory, 32 samples": (4, 1),
    "activations in shared memory, 16 samples": (2, 1),
    "nothing in shared memory, 16 samples": (2, 0),
}
TYPES = {"float": ("f", 4), "double": ("d", 8)}
MULTIPROCESSORS, CLOCK, LANES = 132, 1.755e9, 128
# Chains, dimensions, hidden layers, width.
STEPS = (
    *((64, 2, 2, 32), (64, 2, 2, 64), (256, 2, 2, 128)),
    *((1024, 2, 2, 128), (4096, 2, 2, 128), (128, 64, 2, 128)),
)


def measure(name: str, dtype: str, kernels: dict[str, tuple[int, list[str]]]) -> dict[str, float]:
    """The cost of a multiply-add in the costliest of the loops, one for each product that a layer
    may need. `share`, of the peak, is a prediction."""
    rows, held = WAYS[name]
    mangled, size = TYPES[dtype]
    tile = f"network_chain_kernelI{mangled}NS_11NetworkTileI{mangled}Li{rows}ELi{held}E"
    (full,) = [key for key in kernels if tile in key]
    registers, code = kernels[full]
    adds = rows * 4 * 4
    turns = [loop for loop in _loops(code) if _has(loop, FMA) == adds]
    if len(turns) != 5:
        raise ValueError(f"{full} has {len(turns)} inner loops")
    costs = [throughput.count([line for line in turn if not line.endswith(":")], adds) for turn in turns]
    worst = max(costs, key=lambda cost: (cost.concurrent, cost.serial))
    return {
        "registers": registers,
        "instructions": round(worst.instructions, 2),
        "slots": round(worst.serial, 2),
        "concurrent": round(worst.concurrent, 2),
        "share": round(size // 4 / worst.concurrent, 2),
    }


def multiply_adds(dim: int, layers: int, width: int) -> int:
    """Of one sample in one step on an energy, forward and back."""
    inside = (layers - 1) * width * width
    return 2 * (dim * width + inside) + width


def launches(layers: int) -> int:
    """What eager PyTorch launches for a step (test_throughput.py counts them): Linears and
    activations forward and back, the energies' sum, and five for the update."""
    return 4 * layers + 9


def microseconds(samples: int, dim: int, layers: int, width: int, concurrent: float, tile: int) -> float:
    """Of a step's products, on an H100 whose multiprocessors wait for nothing."""
    tiles = math.ceil(samples / tile / MULTIPROCESSORS)  # of the busiest multiprocessor
    return 1e6 * tiles * tile * multiply_adds(dim, layers, width) * concurrent / LANES / CLOCK


def table(found: dict[str, dict[str, float]], architectures: tuple[str, ...]) -> str:
    lines = [
        (
            "| where a block's numbers are, dtype | registers, sm_80 / 90 / 100 / 120 | instructions a"
            " multiply-add, sm_90 | slots, serial / concurrent | predicted share of the peak of"
            " multiply-adds, H100 |"
        ),
        "|---|---|---|---|---|",
    ]
    for name in WAYS:
        for dtype in TYPES:
            rows = [found[f"{name}, {dtype}, sm_{arch}"] for arch in architectures]
            row = rows[architectures.index("90")]
            registers = " / ".join(f"{r['registers']:.0f}" for r in rows)
            lines.append(
                f"| {name}, {dtype} | {registers} | {row['instructions']:.2f} | {row['slots']:.2f} /"
                f" {row['concurrent']:.2f} | {row['share']:.0%} |"
            )
    lines += [
        "",
        "| chains x dimensions, layers x width | tile | predicted us a step: products | eager's launches |",
        "|---|---|---|---|",
    ]
    for samples, dim, layers, width in STEPS:
        tile = 32 if samples >= 4096 else 16
        cost = found[f"all in shared memory, {tile} samples, float, sm_90"]["concurrent"]
        predicted = microseconds(samples, dim, layers, width, cost, tile)
        lines.append(
            f"| {samples} x {dim}, {layers} x {width} | {tile} | {predicted:.1f} | {launches(layers)} |"
        )
    return "\n".join(lines)
