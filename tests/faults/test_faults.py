"""The list of planted faults follows the sources."""

from __future__ import annotations

from pathlib import Path

from plant import FAULTS, ROOT


def test_each_fault_has_one_place_and_its_tests():
    texts = {fault.file: (ROOT / fault.file).read_text() for fault in FAULTS}
    wrong = [str(fault) for fault in FAULTS if texts[fault.file].count(fault.old) != 1]
    assert not wrong, f"tests/faults must follow the sources, which have these not once:\n{wrong}"
    files = {test.partition("::")[0] for fault in FAULTS for test in fault.selection}
    assert not [file for file in files if not (ROOT / file).exists()]


def test_faults_are_in_all_rooms():
    assert len(FAULTS) >= 60
    rooms = {parent for fault in FAULTS for parent in map(str, Path(fault.file).parents)}
    packages = {str(path.parent.relative_to(ROOT)) for path in (ROOT / "pyebm").glob("*/__init__.py")}
    told = {"pyebm/_records", "pyebm/demo", "pyebm/kernels", "pyebm/benchmarks"}  # no arithmetic of their own
    assert rooms >= (packages - told) | {"csrc/cpu", "csrc/cuda", "kernels"}
