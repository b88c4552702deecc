"""The cost of the inner loops of the dense targets' CUDA kernels, for cuda_gate.py: counted and
weighed by throughput.py.

The floor is the arithmetic, so a loop is measured by its useful multiply-adds. For a sample, a
component and a dimension, a mixture needs two (the distance, the mean), or four where components
have a precision for each dimension; a full covariance needs one.
"""

from __future__ import annotations

import re

import throughput

FMA, LOAD = r"\b[FD]FMA\b", r"\bLDG\b"
# For each case: the class that gathers; its template arguments after the dtype, for float and for
# double; how many multiply-adds of an element are useful; how many samples a thread has, likewise.
WAYS = {
    "mixture": ("GatherMixture", ("Lb0ELi8", "Lb0ELi4"), 2, (8, 4)),
    "mixture, few samples": ("GatherMixture", ("Lb0ELi2", "Lb0ELi2"), 2, (2, 2)),
    "mixture_diagonal": ("GatherMixture", ("Lb1ELi8", "Lb1ELi4"), 4, (8, 4)),
    "mixture_diagonal, few samples": ("GatherMixture", ("Lb1ELi2", "Lb1ELi2"), 4, (2, 2)),
    "gaussian_full": ("GatherCovariance", ("Li8", "Li4"), 1, (8, 4)),
    "gaussian_full, few samples": ("GatherCovariance", ("Li2", "Li2"), 1, (2, 2)),
    "mixture of 2 dimensions": ("GatherFew", ("Li2", "Li2"), 4, (4, 2)),
    "mixture of 4 dimensions": ("GatherFew", ("Li4", "Li4"), 8, (4, 2)),
}
TYPES = {"float": ("f", 4), "double": ("d", 8)}
COLUMNS = 4  # of a thread


def _loops(code: list[str]) -> list[list[str]]:
    """The lines of every loop, from its label to the branch back."""
    labels = {line[:-1]: index for index, line in enumerate(code) if line.endswith(":")}
    found = []
    for index, line in enumerate(code):
        target = re.search(r"\bBRA\b.*`\(([^)]+)\)", line)
        if target and labels.get(target[1], index) < index:
            found.append(code[labels[target[1]] : index + 1])
    return found


def _has(lines: list[str], pattern: str) -> int:
    return sum(bool(re.search(pattern, line)) for line in lines)


def _turn(loop: list[str]) -> list[str]:
    """A turn that loads the next turn's data, and is not the last turn of a span."""
    wanted = {pattern: _has(loop, pattern) for pattern in (FMA, LOAD)}
    outside = set(re.findall(r"`\(([^)]+)\)", "\n".join(loop))) - {line[:-1] for line in loop}
    return throughput.usual_path([*loop, *(f"{label}:" for label in outside), "EXIT"], wanted)


def measure(name: str, dtype: str, kernels: dict[str, tuple[int, list[str]]]) -> dict[str, float]:
    """The cost for a sample, a component and a dimension (for 2 and 4 dimensions: for all of them).
    `share`, of the peak, is a prediction."""
    way, arguments, useful, rows = WAYS[name]
    mangled, size = TYPES[dtype]
    which = list(TYPES).index(dtype)
    (full,) = [
        key
        for key in kernels
        if re.search(rf"gather_kernelI{mangled}NS_\d+{way}I{mangled}{arguments[which]}E", key)
    ]
    registers, code = kernels[full]
    loops = _loops(code)
    pairs = rows[which] * COLUMNS
    if way == "GatherFew":
        turns = [max(loops, key=lambda loop: _has(loop, FMA))]
    else:
        pairs *= 64 // size
        turns = [_turn(loop) for loop in loops if _has(loop, FMA) == pairs]
        if len(turns) != (1 if way == "GatherCovariance" else 1 + useful // 2):
            raise ValueError(f"{full} has {len(turns)} inner loops")
    costs = [throughput.count([line for line in turn if not line.endswith(":")], pairs) for turn in turns]
    slots, concurrent = sum(cost.serial for cost in costs), sum(cost.concurrent for cost in costs)
    return {
        "registers": registers,
        "instructions": round(sum(cost.instructions for cost in costs), 2),
        "slots": round(slots, 2),
        "concurrent": round(concurrent, 2),
        "share": round(useful * (size // 4) / concurrent, 2),
    }


def table(found: dict[str, dict[str, float]], architectures: tuple[str, ...]) -> str:
    lines = [
        (
            "| what is gathered, dtype | registers, sm_80 / 90 / 100 / 120 | multiply-adds | instructions,"
            " sm_90 | slots, serial / concurrent | predicted share of the peak of multiply-adds, H100 |"
        ),
        "|---|---|---|---|---|---|",
    ]
    for name, (_, _, useful, _) in WAYS.items():
        for dtype in TYPES:
            rows = [found[f"{name}, {dtype}, sm_{arch}"] for arch in architectures]
            row = rows[architectures.index("90")]
            registers = " / ".join(f"{r['registers']:.0f}" for r in rows)
            lines.append(
                f"| {name}, {dtype} | {registers} | {useful} | {row['instructions']:.2f} | {row['slots']:.2f}"
                f" / {row['concurrent']:.2f} | {row['share']:.0%} |"
            )
    return "\n".join(lines)
