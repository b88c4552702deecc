"""``pyebm info|demo|bench|sample``, or ``python -m pyebm ...``: list the backends that run here,
train and sample on real digits, run the benchmarks, or draw many samples."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

import pyebm


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="pyebm", description="Fused kernels for score- and energy-based models."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "info", help="versions, and which backends load (for each that doesn't: why, and how to get it)"
    )
    demo = commands.add_parser(
        "demo", help="train on real digits with the fused loss, sample by annealed Langevin, draw pictures"
    )
    demo.add_argument("--out", type=Path, default=Path("out"), help="where the pictures go (default: out)")
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument(
        "--energy",
        action="store_true",
        help="energies instead: two moons, rings and a pinwheel by each objective, digits by PCD",
    )
    demo.add_argument(
        "--quick", action="store_true", help="seconds instead of minutes; the samples are not good"
    )
    bench = importlib.import_module("pyebm.benchmarks.cli")
    bench.add_arguments(
        commands.add_parser("bench", help="every claim measured beside its rivals, into out/bench")
    )
    sample = importlib.import_module("pyebm.distributed.cli")
    sample.add_arguments(
        commands.add_parser("sample", help="samples by many processes (torchrun), killed and resumed at will")
    )
    options = parser.parse_args(arguments)
    if options.command == "info":
        pyebm.show_versions()
    elif options.command == "bench":
        code: int = bench.run(options)
        return code
    elif options.command == "sample":
        sampled: int = sample.run(options)
        return sampled
    else:
        try:
            from .demo import run, run_energies
        except ImportError as error:
            print(error, file=sys.stderr)
            return 1
        (run_energies if options.energy else run)(options.out, quick=options.quick, seed=options.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
