"""Random cases against the promises of docs/reliability.md:
``python tests/fuzz/fuzz.py calls --cases 100000 --seed 7``.

A case is a function of (fuzzer, seed, number), so that ``--case 1234`` makes one again, alone and
in this process. The cases run in forked children: one that dies or hangs is a failure like others,
and the rest goes on.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import math
import mmap
import os
import random
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # threads that spin while they wait take the time of other cases
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # cases, sampler_cases

import guarded
import torch

# pyebm imports this at need, which takes half a second: import it once here, not in each child.
import torch.distributed.tensor

# For each fuzzer: its cases in `make test` (about half a minute for all fuzzers), and how many of
# them share a child.
FUZZERS = {
    "calls": (1500, 1500),
    "ops": (400, 100),
    "samplers": (60, 30),
    "states": (300, 100),
    "threads": (8, 4),
    "kills": (6, 1),
}
HANGS_S = 120.0
Case = Callable[[random.Random], None]


def dice(fuzzer: str, seed: int, number: int) -> random.Random:
    return random.Random(f"{fuzzer} {seed} {number}")


class Child:
    """A forked process that runs cases, one after the other, and notes the case that it is at."""

    def __init__(self, fuzzer: str, case: Case, seed: int, numbers: range) -> None:
        self.numbers = numbers
        self.at = mmap.mmap(-1, 1024)  # the case's number, and its note of what it is doing
        self.report = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.seen, self.since = -1, time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            self._run(fuzzer, case, seed)

    def _run(self, fuzzer: str, case: Case, seed: int) -> None:
        code, guarded.board = 1, self.at
        try:
            for number in self.numbers:
                self.at[:8] = struct.pack("q", number)
                try:
                    case(dice(fuzzer, seed, number))
                except BaseException as error:
                    trace = "".join(traceback.format_exception(error)[-3:])
                    self.report.write(
                        json.dumps([number, f"{type(error).__name__}: {str(error)[:2000]}\n{trace}"]) + "\n"
                    )
                    self.report.flush()
            code = 0
        finally:
            os._exit(code)

    def failures(self) -> tuple[list[tuple[int, str]], int] | None:
        """Returns None while the process runs; then the failures, and the number of the case to
        go on with."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        number = struct.unpack("q", self.at[:8])[0]
        if pid == 0:
            if number != self.seen:
                self.seen, self.since = number, time.monotonic()
            elif time.monotonic() - self.since > HANGS_S:
                os.kill(self.pid, signal.SIGKILL)
            return None
        self.report.seek(0)
        found = [(at, said) for at, said in map(json.loads, self.report)]
        if status == 0:
            return found, self.numbers.stop
        code = os.waitstatus_to_exitcode(status)
        end = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        what = self.at[8:].rstrip(b"\0").decode(errors="replace")
        return [
            *found,
            (number, f"the process {end} at this case, or by the damage of one before it: {what}"),
        ], number + 1


def blocks(numbers: range, size: int) -> Iterator[range]:
    for begin in range(numbers.start, numbers.stop, size):
        yield range(begin, min(begin + size, numbers.stop))


def run(fuzzer: str, seed: int, cases: int, jobs: int, most: int, seconds: float) -> int:
    """Prints every failure and returns their number. Cases that are not begun when the time is
    over are left out."""
    case: Case = importlib.import_module(f"fuzz_{fuzzer}").case
    waiting = list(blocks(range(cases), FUZZERS[fuzzer][1]))[::-1]
    running: list[Child] = []
    gc.freeze()  # a collection in a child would copy all pages that exist now
    failed, made, began = 0, 0, time.monotonic()
    while waiting or running:
        if time.monotonic() - began > seconds:
            waiting = []
        while waiting and len(running) < jobs:
            running.append(Child(fuzzer, case, seed, waiting.pop()))
        time.sleep(0.002)
        for child in running[:]:
            done = child.failures()
            if done is None:
                continue
            running.remove(child)
            found, begin = done
            made += begin - child.numbers.start
            if begin < child.numbers.stop:
                waiting.append(range(begin, child.numbers.stop))
            for number, said in found:
                failed += 1
                again = f"python tests/fuzz/fuzz.py {fuzzer} --seed {seed} --case {number}"
                print(f"--- {fuzzer}, case {number} ({again})\n{said}", flush=True)
            if failed >= most:
                waiting = []
    print(
        f"{fuzzer}: {made} cases of seed {seed}, {failed} failed, {time.monotonic() - began:.0f} s",
        flush=True,
    )
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "fuzzers", nargs="*", metavar="fuzzer", default=list(FUZZERS), help=", ".join(FUZZERS)
    )
    parser.add_argument("--cases", type=int, help="of each; default: as many as make test runs")
    parser.add_argument("--share", type=float, default=1.0, help="of that many")
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="for each; what is then left is not made"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="only this one, in this process")
    parser.add_argument("--jobs", type=int, default=1, help="children at a time")
    parser.add_argument("--most", type=int, default=20, help="stop after so many failures")
    chosen = parser.parse_args()
    if unknown := set(chosen.fuzzers) - set(FUZZERS):
        parser.error(f"no such fuzzer: {', '.join(unknown)}; there are {', '.join(FUZZERS)}")
    torch.set_num_threads(1)  # no other thread may exist when a child is forked
    failed = 0
    for fuzzer in chosen.fuzzers:
        if chosen.case is not None:
            importlib.import_module(f"fuzz_{fuzzer}").case(dice(fuzzer, chosen.seed, chosen.case))
        else:
            cases = chosen.cases or math.ceil(chosen.share * FUZZERS[fuzzer][0])
            failed += run(fuzzer, chosen.seed, cases, chosen.jobs, chosen.most, chosen.seconds)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
