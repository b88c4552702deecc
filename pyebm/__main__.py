"""``pyebm info|demo|bench|sample``, or ``python -m pyebm ...``: list the backends that run here,
train and sample on real digits, run the benchmarks, or draw many samples."""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from pathlib import Path

import pyebm


def console() -> int:
    """:func:`main`, with an error in one line: what is wrong, and in which line of a configuration.

    ``pyebm --traceback ...`` shows the whole traceback.
    """
    if sys.argv[1:2] == ["--traceback"]:
        return main(sys.argv[2:])
    try:
        return main()
    except KeyboardInterrupt:
        print("pyebm: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        print(f"pyebm: {_where(error)}{type(error).__name__}: {error}", file=sys.stderr)
        print("(pyebm --traceback ... shows the whole way there)", file=sys.stderr)
        return 1


def _where(error: Exception) -> str:
    """The line of the user's own file at which the error came, if one was run."""
    ours = Path(__file__).parent
    found = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.name == "<module>" and Path(frame.filename).is_file()
    ]
    found = [frame for frame in found if ours not in Path(frame.filename).parents]
    return f"{found[-1].filename}:{found[-1].lineno}: " if found else ""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="pyebm",
        description="Fused kernels for score- and energy-based models.",
        epilog="pyebm --traceback COMMAND shows an error's whole traceback.",
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
    sys.exit(console())
