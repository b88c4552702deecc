"""The CUDA kernels make the correctly rounded square root from the hardware's estimate, whatever
the estimate."""

from __future__ import annotations

import platform
import re
import subprocess

import pytest
from emulated import FLAGS, ROOT


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("asks g++ for x86's fused multiply-add")
    output = tmp_path_factory.mktemp("square_root") / "square_root"
    source = ROOT / "tests/gpuless/square_root.cpp"
    subprocess.run(["g++", *FLAGS, "-O2", "-mfma", str(source), "-o", str(output)], check=True)
    return output


def counts(program, *arguments):
    said = subprocess.run([program, *arguments], capture_output=True, text=True, check=True).stdout
    return [int(number) for number in re.findall(r"\d+", said)]


def test_all_estimates_within_the_stated_error(program):
    tried, wrong = counts(program)
    assert tried > 50_000_000
    assert wrong == 0


def test_estimates_beyond_it_are_noticed(program):
    assert counts(program, "3e-2")[1] > 0
