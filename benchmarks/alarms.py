"""Counts how often ``bench --compare`` is wrong: alarms where nothing changed, and planted losses
that it misses. This checkout is measured in turn with itself, or with --report against its own
report; every run is a process of its own, as a user's is.

    python -m pyebm.benchmarks.alarms [--runs 20] [--loss 0.15] [--report] [--only NAME ...]
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

FOUND = re.compile(r"^slower: (.*?\]): ", re.MULTILINE)
COMPARED = re.compile(r"^(\d+) cases compared", re.MULTILINE)


def bench(out: Path, *arguments: str) -> str:
    """Runs ``bench --quick`` into the folder ``out``; returns what it printed."""
    command = [sys.executable, "-m", "pyebm", "bench", "--quick", "--out", str(out), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if not (out / "report.json").exists():
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="of each kind (default: 20)")
    parser.add_argument("--loss", type=float, default=0.15, help="the planted one (default: 0.15)")
    parser.add_argument("--report", action="store_true", help="compare with a report")
    parser.add_argument("--processes", type=int, default=1, help="as for bench (default: 1)")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="as for bench")
    options = parser.parse_args(arguments)
    asked = ["--processes", str(options.processes)]
    asked += ["--only", *options.only] if options.only else []
    false = missed = compared = 0
    with tempfile.TemporaryDirectory() as folder:
        old = Path(folder) / "old"
        if options.report:
            bench(old, *asked)
        against = ["--compare", str(old / "report.json") if options.report else ".", *asked]
        for run in range(options.runs):
            said = bench(Path(folder) / f"same-{run}", *against)
            alarms = FOUND.findall(said)
            false += bool(alarms)
            slow = bench(Path(folder) / f"slow-{run}", *against, "--plant", str(options.loss))
            found = FOUND.findall(slow)
            compared = int(COMPARED.findall(slow)[0])
            missed += compared - len(found)
            print(
                f"run {run + 1}: alarms {alarms or 'none'}; {len(found)} of {compared} losses found",
                flush=True,
            )
    print(
        f"{false} of {options.runs} runs of the same code raised an alarm; of {options.runs * compared}"
        f" losses of {options.loss:.0%} {missed} were missed ({compared} cases)"
    )


if __name__ == "__main__":
    main()
