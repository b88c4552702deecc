"""``python -m benchmarks``: every case, into out/bench/report.md and report.json; ``--readme`` puts the table into the README."""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import torch

import pyebm

from .cases import large, small
from .harness import Result, alternate, measure_floors, provenance, run_case


def import_ms() -> float:
    """What ``import pyebm`` adds to ``import torch``, the median over fresh processes."""
    code = "import time, torch; t = time.perf_counter(); import pyebm; print(time.perf_counter() - t)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in range(7)]
    return statistics.median(float(run) * 1e3 for run in runs)


def simd_levels() -> dict[str, float]:
    """ns a normal on one thread at each SIMD level that this machine has."""
    torch.set_num_threads(1)
    best, times = pyebm._ops.simd(), {}
    out = torch.empty(64, 1024)
    name = pyebm.Noise(0)._name
    for level in ("baseline", "avx2", "avx512"):
        try:
            pyebm._ops.simd(level)
        except ValueError:
            continue
        runs = alternate({"pyebm": lambda: torch.ops.pyebm.normal_(out, name)}, 0.5)["pyebm"]
        times[level] = statistics.median(runs) / out.numel() * 1e6
    pyebm._ops.simd(best)
    return times


def table(results: list[Result]) -> str:
    lines = [
        "| work | threads | pyebm | eager PyTorch | torch.compile | times its floor | extra memory (eager) |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in results:
        unit, scale = ("ms", 1.0) if r.median_ms["pyebm"] > 0.1 else ("us", 1e3)

        def side(name: str, r: Result = r, unit: str = unit, scale: float = scale) -> str:
            if name not in r.median_ms:
                return ""
            return f"{r.median_ms[name] * scale:.2f} {unit} = **{r.speedup(name):.2f}x**"

        floor = f"{r.median_ms['pyebm'] / r.floor_ms:.2f}" if r.floor_ms else ""
        memory = " / ".join(f"{r.extra_bytes[s] / 2**20:.1f} MiB" for s in ("pyebm", "eager") if s in r.extra_bytes)
        ours = f"{r.median_ms['pyebm'] * scale:.2f} {unit}"
        lines.append(f"| {r.name} | {r.threads} | {ours} | {side('eager')} | {side('torch.compile')} | {floor} | {memory} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--seconds", type=float, default=4.0, help="per case (default: 4)")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out (it takes a minute to compile)")
    parser.add_argument("--out", type=Path, default=Path("out/bench"))
    parser.add_argument("--readme", action="store_true", help="also put the tables into README.md")
    options = parser.parse_args()

    machine, floors, levels = provenance(), measure_floors(), simd_levels()
    results = []
    for case in [*large(2, not options.no_compile), *large(1, False), *small()]:
        results.append(run_case(case, options.seconds, **floors))
        print(table(results[-1:]).splitlines()[-1], flush=True)
    added = import_ms()

    about = ", ".join(f"{key}: {value}" for key, value in machine.items())
    text = "\n\n".join(
        [
            f"Medians, all sides alternating in one process; float32, [256, 3, 64, 64] where no size is named. {about}.",
            table(results),
            f"The floor is the larger of bytes at this run's copy speed ({1e-6 / floors['copy_ms_per_byte']:.1f} GB/s on 2 "
            f"threads) and normals at their speed in the cache ({floors['normal_ms'] * 1e6:.2f} ns each on one thread; by SIMD "
            "level "
            + ", ".join(f"{level} {ns:.2f}" for level, ns in levels.items())
            + f"). `import pyebm` adds {added:.0f} ms to `import torch`.",
        ]
    )
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "report.md").write_text(f"# Benchmarks\n\n{text}\n")
    record = {"machine": machine, "floors": floors, "simd": levels, "import_ms": added, "results": [asdict(r) for r in results]}
    (options.out / "report.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"written: {options.out}/report.md, report.json")
    if options.readme:
        readme = Path("README.md")
        marked = re.compile(r"(<!-- benchmarks -->\n).*?(<!-- end of benchmarks -->)", re.DOTALL)
        readme.write_text(marked.sub(lambda match: f"{match[1]}{text}\n{match[2]}", readme.read_text()))


if __name__ == "__main__":
    main()
