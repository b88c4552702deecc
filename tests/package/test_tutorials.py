"""The tutorials run as a reader would run them, and draw the pictures that they show."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import torch

DOCS = Path(__file__).resolve().parents[2] / "docs"
NEEDED = {
    "plane": [],
    "digits": ["sklearn"],
    "energy": ["sklearn"],
    "mcmc": ["arviz_stats"],
    "diffusers": ["sklearn", "diffusers"],
}


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """Where a reader sits: a folder of their own, no screen."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        yield tmp_path
    torch.set_num_threads(threads)
    importlib.import_module("matplotlib.pyplot").close("all")


# These tutorials train, so they are slow here; .ci/run runs all tutorials by `make notebooks`.
SLOW = ("digits", "energy", "diffusers")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in NEEDED]
)
def test_a_tutorial_runs(name, reader):
    for package in NEEDED[name]:
        pytest.importorskip(package)
    page = (DOCS / f"tutorials/{name}.md").read_text()
    names: dict[str, object] = {"__name__": "tutorial"}
    for block in re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.M):
        exec(compile(block, name, "exec"), names)
    shown = set(re.findall(r"\]\(\.\./images/tutorials/([\w-]+\.png)\)", page))
    assert shown == {path.name for path in reader.glob("*.png")}
    assert all((DOCS / "images/tutorials" / picture).exists() for picture in shown)


def test_every_tutorial_is_run():
    assert set(NEEDED) == {path.stem for path in (DOCS / "tutorials").glob("*.md")}


def test_a_notebook_has_the_pages_programs():
    pytest.importorskip("jupytext")
    spec = importlib.util.spec_from_file_location("notebooks", DOCS.parent / "tools/notebooks.py")
    assert spec
    assert spec.loader
    notebooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(notebooks)
    for path in (DOCS / "tutorials").glob("*.md"):
        page = path.read_text()
        made = notebooks.notebook(page)
        programs = [cell.source for cell in made.cells if cell.cell_type == "code"]
        assert [f"{program}\n" for program in programs] == re.findall(
            r"^```python\n(.*?)^```", page, re.S | re.M
        )
        assert not any("](../" in cell.source for cell in made.cells)
