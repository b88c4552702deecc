"""The pages with tables of committed records have those that their tools would write."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["try_wheel", "releases"])
def test_the_table_is_of_the_records(name, monkeypatch):
    if name == "releases":
        pytest.importorskip("matplotlib")
    monkeypatch.setattr(sys, "path", [str(ROOT / "tools"), *sys.path])
    tool = importlib.import_module(name)
    records = tool.kept()
    assert records
    page = tool.PAGE.read_text()
    assert tool.MARKED.search(page)[0] == tool.MARKED.sub(
        lambda found: found[1] + tool.table(records) + found[2], tool.MARKED.search(page)[0]
    )


def test_a_pair_that_was_tried_again_has_one_record(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT / "tools"), *sys.path])
    tool = importlib.import_module("try_wheel")
    monkeypatch.setattr(tool, "KEPT", tmp_path / "wheels.json")
    monkeypatch.setattr(tool, "PAGE", tmp_path / "install.md")
    tool.PAGE.write_text("<!-- wheels -->\n<!-- end of wheels -->\n")
    tried = {"pyebm": "0.2.0", "machine": "x86_64", "system": "Linux glibc 2.36", "simd": "avx2", "passed": 1}
    for python, torch, cuda in (
        ("3.10.13", "2.10.0+cu128", False),
        ("3.9.1", "2.9.0", False),
        ("3.10.14", "2.10.0+cu128", True),
    ):
        tool.keep({**tried, "python": python, "torch": torch, "cuda": cuda})
    assert [one["python"] for one in tool.kept()] == ["3.9.1", "3.10.14"]
    assert "| 3.10.14 | x86_64, Linux glibc 2.36 |  | 0.2.0, CUDA |" in tool.PAGE.read_text()
