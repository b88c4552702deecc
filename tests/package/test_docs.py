"""The examples of the README and of the docs run, one after the other as a reader would run
them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("page", "examples"),
    [
        *[("README.md", 5), ("docs/samplers.md", 10), ("docs/learned.md", 4), ("docs/training.md", 3)],
        ("docs/distributed.md", 1),
    ],
)
def test_examples(page, examples, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert len(blocks) == examples
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
