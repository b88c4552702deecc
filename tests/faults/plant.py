"""Plants the faults listed beside this file in copies of the tree, one at a time, and runs the
tests that must notice: ``python tests/faults/plant.py [--only TEXT] [--rotate N] [--all]``.

A fault is caught if a test fails with it that passes without it, or if the interpreter dies. C++ is
compiled again where the fault is, and nowhere else: objects are kept by content.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

import planted_cpu
import planted_gpu
import planted_python

ROOT = Path(__file__).resolve().parents[2]
INTERPRETED = {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
SHARED = ("objects", "emulated", "ptx")  # folders of build/ in which everything is named by content


class Fault(NamedTuple):
    file: str
    old: str
    new: str
    tests: str  # files or nodes in tests/, without .py, the likeliest first

    def __str__(self) -> str:
        return f"{self.file}: {' '.join(self.old.split())}"

    @property
    def is_compiled(self) -> bool:
        return self.file.startswith("csrc/")

    @property
    def selection(self) -> list[str]:
        parts = (name.partition("::") for name in self.tests.split())
        return [f"tests/{file}.py{colons}{test}" for file, colons, test in parts]

    @property
    def environment(self) -> dict[str, str]:
        return INTERPRETED if self.tests.startswith("interpreted_") else {}


FAULTS = [
    Fault(file, *fault)
    for room in (planted_cpu, planted_gpu, planted_python)
    for file, faults in room.PLANTED.items()
    for fault in faults
]


# Importing torch takes as long as many tests, so each process is forked from one that has it.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["torch", "pytest"])


def run_pytest(tree: str, command: list[str], environment: dict[str, str]) -> None:
    """Run in a process of its own: leaves with pytest's exit status."""
    import pytest

    os.chdir(tree)
    os.environ.update(environment, PYTHONPATH=tree)
    sys.path.insert(0, tree)
    with open("build/said", "w") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
        sys.exit(pytest.main(command))


class Tree:
    """A copy of the tree, built, which imports its own package."""

    def __init__(self, path: Path) -> None:
        self.path = path
        listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
        for name in (name for name in names if (ROOT / name).is_file()):
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, path / name)
        for room in ("kernels", "benchmarks"):
            (path / "pyebm" / room).symlink_to(path / room)
        (path / "build").mkdir()
        for name in SHARED:
            (ROOT / "build" / name).mkdir(parents=True, exist_ok=True)
            (path / "build" / name).symlink_to(ROOT / "build" / name)
        self.library, self.sound = path / "pyebm/_C.abi3.so", path / "build/_C.abi3.so"
        if wrong := self.build():
            sys.exit(f"faults: the tree without faults does not build:\n{wrong}")
        shutil.copyfile(self.library, self.sound)

    def run(self, *command: str, **environment: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, *command],
            env=os.environ | {"PYTHONPATH": str(self.path)} | environment,
            capture_output=True,
            text=True,
            cwd=self.path,
        )
        return done.returncode, done.stdout + done.stderr

    def build(self) -> str:
        """What the compiler said, if it failed."""
        code, said = self.run("setup.py", "-q", "build_ext", "--inplace", "--force", PYEBM_CUDA="0")
        return said[-5000:] if code else ""

    def test(self, tests: list[str], *options: str, **environment: str) -> tuple[int, list[str], str]:
        """The exit status, the tests that failed, and what pytest said."""
        noted, said = self.path / ".pytest_cache/v/cache/lastfailed", self.path / "build/said"
        noted.unlink(missing_ok=True)
        command = ["-q", "--no-header", *options, *tests]
        process = FORKS.Process(target=run_pytest, args=(str(self.path), command, environment))
        process.start()
        process.join()
        failed = list(json.loads(noted.read_text())) if noted.exists() else []
        return process.exitcode or 0, failed, said.read_text()[-5000:]

    @contextmanager
    def planted(self, fault: Fault) -> Iterator[None]:
        path = self.path / fault.file
        text = path.read_text()
        if text.count(fault.old) != 1:
            sys.exit(f"faults: {fault.file} has not once, but {text.count(fault.old)} times: {fault.old}")
        path.write_text(text.replace(fault.old, fault.new))
        try:
            yield
        finally:
            path.write_text(text)
            if fault.is_compiled:
                shutil.copyfile(self.sound, self.library)


class Found(NamedTuple):
    fault: Fault
    verdict: str  # caught, MISSED, or what went wrong
    by: list[str]  # the tests that failed
    seconds: float


def plant(tree: Tree, fault: Fault, whole: bool) -> Found:
    begin = time.monotonic()
    with tree.planted(fault):
        if fault.is_compiled and (wrong := tree.build()):
            return Found(fault, f"DOES NOT COMPILE\n{wrong}", [], time.monotonic() - begin)
        tests = [] if whole else fault.selection
        code, failed, said = tree.test(tests, "-x", **fault.environment)
    verdict = f"TESTS DID NOT RUN\n{said}"
    if code == 0:
        verdict = "MISSED"
    elif failed or code < 0:
        verdict = "caught"
    return Found(fault, verdict, failed, time.monotonic() - begin)


def without_faults(tree: Tree, found: list[Found]) -> str:
    """What pytest says where a test that noticed a fault fails without it too."""
    for environment in ({}, INTERPRETED):
        tests = {test for each in found if each.fault.environment == environment for test in each.by}
        if tests and (result := tree.test(sorted(tests), **environment))[0]:
            return result[2]
    return ""


def chosen(only: str, rotate: int) -> list[Fault]:
    faults = [fault for fault in FAULTS if only in str(fault)]
    if rotate:  # others each day, and none that has to be compiled
        quick = [fault for fault in faults if not fault.is_compiled]
        first = int(time.time() / 86400) * rotate
        faults = [quick[k % len(quick)] for k in range(first, first + min(rotate, len(quick)))]
    return sorted(faults, key=lambda fault: not fault.is_compiled)  # what takes longest begins first


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default="", help="faults whose file or text has this in it")
    parser.add_argument("--rotate", type=int, default=0, help="so many a day, in Python, in turn")
    parser.add_argument("--all", action="store_true", help="run all tests, not those that must notice")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    faults = chosen(asked.only, asked.rotate)
    trees: SimpleQueue[Tree] = SimpleQueue()
    jobs = min(asked.jobs, len(faults))
    for k in range(jobs):
        trees.put(Tree(ROOT / f"build/faults/{os.getpid()}-{k}"))

    def one(fault: Fault) -> Found:
        tree = trees.get()
        try:
            found = plant(tree, fault, asked.all)
        finally:
            trees.put(tree)
        by = f" ({found.by[0]})" if found.by else ""
        print(f"{found.verdict}: {fault}{by}, {found.seconds:.0f} s", flush=True)
        return found

    with ThreadPoolExecutor(max(jobs, 1)) as pool:
        found = list(pool.map(one, faults))
    caught = sum(each.verdict == "caught" for each in found)
    print(f"faults: {caught} of {len(faults)} caught")
    said = without_faults(trees.get(), found) if faults else ""
    for path in (ROOT / "build/faults").glob(f"{os.getpid()}-*"):
        shutil.rmtree(path)
    if said:
        print(f"faults: a test fails without any fault:\n{said}")
    return int(caught < len(faults) or bool(said))


if __name__ == "__main__":
    sys.exit(main())
