"""The checkers are checked: each must find the faults that are planted in kernels for it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from emulated import FLAGS, ROOT

pytestmark = pytest.mark.slow  # compiles each, and changes only with the emulator

SANITIZERS = {"none": [], "address": ["-fsanitize=address,undefined"], "thread": ["-fsanitize=thread"]}
ORDERS = range(9)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """program(sanitizer, fault): the planted kernels, compiled once each."""
    folder, made = tmp_path_factory.mktemp("planted"), {}

    def build(sanitizer: str, fault: str | None) -> Path:
        if (sanitizer, fault) not in made:
            output = folder / f"{sanitizer}-{fault}"
            command = ["g++", *FLAGS, "-Og", "-g1", *SANITIZERS[sanitizer], f"-I{ROOT / 'tests/gpuless'}"]
            command += [f"-DPLANT_{fault}"] if fault else []
            subprocess.run(
                [*command, "-x", "c++", str(ROOT / "tests/gpuless/planted.cu"), "-o", str(output)], check=True
            )
            made[sanitizer, fault] = output
        return made[sanitizer, fault]

    return build


def run(program: Path, order: int) -> tuple[bool, str]:
    """(whether all is well, the output)."""
    # Address-space randomisation off: this TSan does not know the high mappings of newer kernels.
    command = ["setarch", "-R", str(program)] if "thread" in program.name else [str(program)]
    environment = os.environ | {"PYEBM_EMULATOR_SEED": str(order), "UBSAN_OPTIONS": "halt_on_error=1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    return done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("sanitizer", SANITIZERS)
@pytest.mark.parametrize("order", ORDERS)
def test_without_a_fault_all_is_well(program, sanitizer, order):
    well, said = run(program(sanitizer, None), order)
    assert well, said


@pytest.mark.parametrize("fault", ["BARRIER_BEFORE_READ", "BARRIER_IN_TREE", "BARRIER_AT_REUSE"])
def test_a_missing_barrier_gives_wrong_results(program, fault):
    assert not all(run(program("none", fault), order)[0] for order in ORDERS)


@pytest.mark.parametrize(
    "fault", ["BARRIER_BEFORE_READ", "BARRIER_IN_TREE", "BARRIER_AT_REUSE", "FENCE", "BLOCKS"]
)
def test_a_race_is_seen_by_the_thread_sanitizer(program, fault):
    well, said = run(program("thread", fault), 0)
    assert not well
    assert "data race" in said
    assert "planted.cu" in said


def test_one_element_too_far_is_seen_by_the_address_sanitizer(program):
    well, said = run(program("address", "OUT_OF_BOUNDS"), 0)
    assert not well
    assert "heap-buffer-overflow" in said


def test_a_misaligned_pack_is_seen(program):
    well, said = run(program("address", "MISALIGNED"), 0)
    assert not well
    assert "misaligned address" in said
