"""The NEON level against AVX2's bits: an arm64 program made by a cross compiler and run under an
emulator, beside the same program made for this machine."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SIMD = ROOT / "csrc/cpu/simd"
COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
BITS = ("-std=c++17", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")

pytestmark = pytest.mark.slow


def program(folder: Path, compiler: str, levels: list[str], *flags: str) -> Path:
    made = folder / compiler
    sources = [ROOT / "tests/ops/levels.cpp", SIMD / "choose_level.cpp"]
    sources += [SIMD / f"level_{level}.cpp" for level in levels]
    objects = [folder / f"{compiler}-{source.stem}.o" for source in sources]
    compilations = [
        subprocess.Popen([compiler, *BITS, *flags, "-c", source, "-o", out])
        for source, out in zip(sources, objects, strict=True)
    ]
    assert [one.wait() for one in compilations] == [0] * len(sources)
    subprocess.run([compiler, "-static", *objects, "-o", made], check=True)
    return made


def lines(*command: str | Path) -> list[str]:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def test_neon_gives_the_bits_of_avx2(tmp_path):
    missing = [name for name in (COMPILER, EMULATOR) if shutil.which(name) is None]
    if missing and os.environ.get("PYEBM_REQUIRE_ARM64") != "1":
        pytest.skip(f"{' and '.join(missing)} not found (Debian: g++-aarch64-linux-gnu, qemu-user)")
    assert not missing
    arm = program(tmp_path, COMPILER, ["neon", "baseline"], "-O3", "-Wall", "-Wextra", "-Werror")
    here = program(tmp_path, "g++", ["avx2", "avx512", "baseline"], "-O1", "-w")
    neon, avx2 = lines(EMULATOR, arm, "neon"), lines(here, "avx2")
    assert len(avx2) == 398
    # A name stands twice for calls whose counters count up and for the same ones laid out.
    assert len(set(avx2)) == len({line.rpartition(" ")[0] for line in avx2}) < len(avx2)
    assert neon == avx2
    # The baseline has no fused multiply-adds, and networks are made of them; all else has its bits.
    plain = lines(EMULATOR, arm, "baseline")
    differ = {line.rpartition(" ")[0] for line in set(avx2) - set(plain)}
    assert differ
    assert all("network" in line for line in differ)
