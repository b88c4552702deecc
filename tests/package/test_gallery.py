"""The gallery: each program draws its picture, and the page shows it."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")
ROOT = Path(__file__).resolve().parents[2]
SHORTENED = {
    "closed_forms": {"chains": 50},
    "samplers": {"chains": 20, "steps": 5},
    "painting_in": {"each": 2, "steps_each": 1},
}


def test_the_page_shows_every_program_and_its_picture():
    page = (ROOT / "docs/gallery.md").read_text()
    programs = {path.stem for path in (ROOT / "examples/gallery").glob("*.py")}
    assert programs == set(SHORTENED)
    assert programs == set(re.findall(r"\(images/gallery/(\w+)\.png\)", page))
    assert programs == set(re.findall(r"\(\.\./examples/gallery/(\w+)\.py\)", page))


@pytest.mark.parametrize("program", SHORTENED)
def test_it_draws_its_picture(program, tmp_path):
    main = runpy.run_path(str(ROOT / f"examples/gallery/{program}.py"))["main"]
    main(str(tmp_path / "drawn.png"), **SHORTENED[program])
    assert (tmp_path / "drawn.png").stat().st_size > 5000
