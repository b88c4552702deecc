"""The command that measures how sampling scales over processes, for docs/distributed.md."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pytest_benchmark")

from pyebm.benchmarks import scaling

FIGURES = scaling.Figures(
    {1: 10.0, 2: 6.0}, {1: 5.5, 2: 6.0}, {1: 1.0, 2: 1.2, 8: 9.0}, {1: 0.0, 2: 0.1, 8: 0.4}, 3.0
)
SIZES = scaling.Sizes(10, 100, 1)


def test_model():
    model = scaling.Model.fitted(FIGURES, 2.0)
    assert model == pytest.approx((2.0, 1.0, 1.1, 0.05))
    assert model.seconds(10, 1) == pytest.approx(21.0)
    assert model.seconds(10, 4) == pytest.approx(1.1 + 0.2 + 3 * 2.0)
    assert scaling._row(scaling.Model(1.0, 0.0, 0.0, 0.0), 1024, 5) == (
        "| 1,024 | 782x, 76% | by 49: 1.02e+03x, 100% | 100% |"
    )


def test_the_page(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- scaling -->\nold\n<!-- end of scaling -->\nafter\n")
    monkeypatch.setattr(scaling, "measured", lambda _: FIGURES)
    for _ in range(2):
        scaling.main(["--docs", str(page)])
    text = page.read_text()
    assert text.startswith("before\n<!-- scaling -->\nMeasured: ")
    assert text.endswith("\n<!-- end of scaling -->\nafter\n")
    assert "| strong | 24 | 10.00 s | 6.00 s | **1.67x as fast** | 1.75x as fast |" in text
    assert "| weak, for each process | 12 | 5.50 s | 6.00 s | **92% efficient** | 96% efficient |" in text
    page.write_text("no marks")
    with pytest.raises(SystemExit):
        scaling.main(["--docs", str(page)])
    docs = Path(__file__).parents[2] / "docs" / "distributed.md"
    assert scaling.MARKED.search(docs.read_text())


@pytest.mark.slow
def test_it_runs():
    made = scaling.measured(scaling.QUICK)
    assert set(made.strong) == set(made.weak) == {1, 2}
    assert set(made.done) == set(made.again) == {1, 2, 4, 8}
    assert "| ranks (model) |" in scaling.text(made, scaling.QUICK, scaling.machine.provenance("cpu"), 0.0)
