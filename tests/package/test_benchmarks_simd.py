"""The benchmarks at a SIMD level below the machine's best. No test here judges a time."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import pytest
import torch

pytest.importorskip("pytest_benchmark")

from pyebm.benchmarks import cli, machine

from pyebm import _ops
from pyebm.__main__ import main


def levels_below_the_best():
    before, found = _ops.simd(), []
    for level in machine.HELD:
        with contextlib.suppress(ValueError):  # a level that this machine doesn't have
            found.append(_ops.simd(level))
    _ops.simd(before)
    return [level for level in found if level != before]


@pytest.mark.parametrize("level", levels_below_the_best()[:1])
def test_ours_and_torch_are_held_to_a_level(level):
    """In a process of its own, after the cases are there: torch chooses its level once."""
    code = f"""
import torch
from pyebm.benchmarks import cli, machine
cli.load_cases()
machine.hold_to({level!r})
print(machine.provenance("cpu")["simd"], torch.backends.cpu.get_cpu_capability().lower())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == [level, machine.HELD[level]["ATEN_CPU_CAPABILITY"]], done.stderr


@pytest.mark.parametrize("level", levels_below_the_best()[:1])
def test_a_torch_that_has_chosen_its_level_is_refused(level, monkeypatch, capsys):
    torch.zeros(2).exp()
    for name in (*machine.HELD[level], "TORCHINDUCTOR_CACHE_DIR"):
        monkeypatch.setenv(name, "")  # restored afterwards
    before = _ops.simd()
    assert main(["bench", "--simd", level]) == cli.USAGE
    _ops.simd(before)
    assert f"--simd {level}: torch has computed before, and keeps to" in capsys.readouterr().err
