"""A file has at most 300 lines; a longer one holds two ideas and becomes two files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CAP = 300
ENDINGS = {".py", ".h", ".cpp", ".cu", ".md", ".toml", ".sh"}
GENERATED = {
    "csrc/common/op_args.h",  # by tools/op_args.py
    "docs/gpu-kernels.md",  # its tables, by the gates of tests/gpuless
}


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines())


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this tree is an sdist's")
def test_no_file_is_longer_than_the_cap():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [name for name in listed.splitlines() if Path(name).suffix in ENDINGS and (ROOT / name).exists()]
    assert len(files) > 400
    longer = {name: count for name in files if (count := lines_of(ROOT / name)) > CAP}
    assert longer.keys() == GENERATED, longer
