"""Runs the examples of the README and of the docs, one after the other as a reader would run
them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("page", "examples"),
    [
        *[("README.md", 1), ("docs/recipes.md", 10), ("docs/samplers.md", 3)],
        pytest.param("docs/tour.md", 5, marks=pytest.mark.slow),  # README.md's program, and more
        ("docs/each-sampler.md", 7),
        *[("docs/learned.md", 4), ("docs/training.md", 3), ("docs/distributed.md", 2)],
        ("docs/targets.md", 3),
    ],
)
def test_examples(page, examples, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.M)
    assert len(blocks) == examples
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)


def test_the_way_of_a_call_is_short_and_leads_through_functions_that_are_there():
    text = (ROOT / "docs/architecture.md").read_text()
    tables = re.findall(r"(?:^\| \d \| .*\n)+", text, re.M)
    ways = [re.findall(r"^\| \d \| `(\w+)` \| \[(\S+)\]\(\.\./(\S+)\)", table, re.M) for table in tables]
    assert [len(way) for way in ways] == [5, 6, 7]
    assert [len({path for _, path, _ in way}) for way in ways] == [4, 4, 5]
    for function, shown, path in (row for way in ways for row in way):
        assert shown == path
        returns = "def" if path.endswith(".py") else r"(?:static )?\w[\w:<>*& ]*"
        assert re.search(rf"^\s*{returns} {function}\(", (ROOT / path).read_text(), re.M), (function, path)


def test_the_pages_links_lead_to_files():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
