"""The same cases in several processes, one after another, as one measurement.

Between processes a call on two threads differs by several per cent, which no number of samples in
one process averages out.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from . import records
from .case import Case


def measure(options: argparse.Namespace, cases: list[Case]) -> tuple[int, list[records.Report]]:
    """Measures the cases ``options.processes`` times; returns the last exit code that is not 0,
    and the pooled report if anything was measured."""
    given = {"--device": options.device, "--simd": options.simd, "--seconds": options.seconds}
    command = [
        *(sys.executable, "-m", "pyebm", "bench", "--plant", str(options.plant)),
        *(["--quick"] if options.quick else []),
        *(word for option, value in given.items() if value for word in (option, str(value))),
    ]
    code, reports = 0, []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.processes):
            out = Path(folder) / str(number)
            names = ["--only", *(case.name for case in cases)]
            code = subprocess.run([*command, "--out", str(out), *names]).returncode or code
            if (out / "report.json").exists():
                reports.append(records.read(out / "report.json"))
    return code, [records.pool(reports)] if reports else []
