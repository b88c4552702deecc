"""The same cases in several processes, one after another, as one measurement; and those of another
checkout in turn with ours.

Between processes a call on two threads differs by several per cent, which no number of samples in
one process averages out. A shared machine's speed differs by more from one minute to the next.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from . import records
from .case import Case

Pair = tuple[records.Report, records.Report]  # ours, and the other checkout's beside it
ROUNDS = 5  # in which two checkouts take turns, if --processes asks for no more


def _bench(
    options: argparse.Namespace, cases: list[Case], checkout: Path | None = None
) -> tuple[int, list[records.Report]]:
    """Runs one process of this suite, with the kernels of another checkout if one is given; returns
    its exit code, and its report if it measured anything."""
    given = {"--device": options.device, "--simd": options.simd, "--seconds": options.seconds}
    plant = 0.0 if checkout else options.plant
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "pyebm", "bench", "--out", folder, "--plant", str(plant)),
            *(["--quick"] if options.quick else []),
            *(word for option, value in given.items() if value for word in (option, str(value))),
            *("--only", *(case.name for case in cases)),
        ]
        code = subprocess.run(command, cwd=checkout).returncode
        report = Path(folder) / "report.json"
        return code, [records.read(report)] if report.exists() else []


def measure(options: argparse.Namespace, cases: list[Case]) -> tuple[int, list[records.Report]]:
    """Measures the cases ``options.processes`` times; returns the last exit code that is not 0,
    and the pooled report if anything was measured."""
    code, reports = 0, []
    for _ in range(options.processes):
        failed, found = _bench(options, cases)
        code, reports = failed or code, reports + found
    return code, [records.pool(reports)] if reports else []


def unfit(checkout: Path) -> str | None:
    """Why a checkout can't be measured; None if it can be."""
    asked = "import pyebm; print(pyebm.__file__, pyebm.backends()['cpu'])"
    said = subprocess.run([sys.executable, "-c", asked], cwd=checkout, capture_output=True, text=True)
    file, _, built = said.stdout.strip().partition(" ")
    if said.returncode or Path(file).parent != checkout.resolve() / "pyebm":
        return "holds no pyebm that Python can import"
    return None if built == "True" else f"its CPU kernels are not built: {built}"


def beside(
    options: argparse.Namespace, cases: list[Case], checkout: Path
) -> tuple[int, list[records.Report], list[Pair]]:
    """Measures the cases here and in another checkout in turn, beginning with the other one in
    every second round; returns the last exit code that is not 0, our pooled report, and each
    round's two."""
    code, pairs = 0, []
    for number in range(max(options.processes, ROUNDS)):
        found: dict[bool, list[records.Report]] = {}
        for other in (False, True) if number % 2 else (True, False):
            failed, found[other] = _bench(options, cases, checkout if other else None)
            code = failed or code
        pairs += list(zip(found[False], found[True], strict=False))
    return code, [records.pool([ours for ours, _ in pairs])] if pairs else [], pairs
