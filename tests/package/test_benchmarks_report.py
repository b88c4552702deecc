"""The uses of the benchmarks' records: comparison with a baseline, the README's part, the model
of GPUs."""

from __future__ import annotations

import copy
import json

import pytest

pytest.importorskip("pytest_benchmark")

from pyebm.benchmarks import SUITE, alarms, cli, model, processes, records, report

from pyebm.__main__ import main


def made_up(ratios: dict[str, float], version: int = SUITE) -> dict:
    """Returns a report of cases that have these ratios of eager to ours."""
    info = {
        "suite": version,
        "elements": 1,
        "bytes": 8,
        "operations": 1,
        "peak": 1.0,
        "part of": None,
        "headline": False,
    }
    info |= {
        "machine": "m",
        "device": "cpu",
        "simd": "s",
        "versions": {},
        "commit": "c",
        "load": 0.5,
        "steps": 1,
        "missing": {},
    }
    info |= {"red": {}, "variant": "", "dtype": "float32", "threads": 1, "shape": [1], "quick": True}
    rows = []
    for case, ratio in ratios.items():
        for side, median in (("pyebm", 1.0), ("eager", ratio)):
            stats = {"median": median, "min": median, "iqr": 0.01, "data": [median]}
            rows.append({"group": case, "name": case, "extra_info": {**info, "side": side}, "stats": stats})
    return {"datetime": "2020-01-01T00:00:00", "benchmarks": rows}


def slowed(report: dict, by: float, *sides: str, case: str = "") -> dict:
    """The report with these sides' times multiplied, in one case or in all."""
    changed = copy.deepcopy(report)
    for record in changed["benchmarks"]:
        if record["extra_info"]["side"] in sides and record["group"] in (case or record["group"]):
            for name in ("median", "min"):
                record["stats"][name] *= by
    return changed


def test_compare_fails_above_what_is_allowed():
    old = made_up({"a [1]": 4.0, "b [1]": 2.0, "c [1]": 3.0, "gone [1]": 1.0})
    new = made_up({"a [1]": 4.0, "b [1]": 2.0, "c [1]": 3.0, "new [1]": 0.1})
    assert records.slower([(slowed(new, 1.09, "pyebm"), old)]) == {}
    lost = slowed(new, 1.11, "pyebm", case="a [1]")
    assert list(records.slower([(lost, old)])) == ["a [1]"]
    a_slower_machine = slowed(lost, 2.0, "pyebm", "eager")
    assert list(records.slower([(a_slower_machine, old)])) == ["a [1]"]
    a_quicker_rival = slowed(new, 0.5, "eager", case="b [1]")
    assert records.slower([(a_quicker_rival, old)]) == {}
    rounds = [(slowed(new, by, "pyebm", case="a [1]"), old) for by in (1.0, 1.3, 1.05, 1.12, 1.2)]
    assert "12% slower" in records.slower(rounds)["a [1]"]
    assert records.slower(rounds[:3]) == {}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (made_up({"a [1]": 1.0}, version=SUITE - 1), f"suite version {SUITE - 1}, this is version {SUITE}"),
        ({"benchmarks": [{"stats": {}}]}, "was not written by this suite"),
        ([], "was not written by this suite"),
        ("{", "is not JSON"),
        (None, "can't be read"),
    ],
)
def test_a_baseline_that_is_none_is_refused_before_anything_is_measured(
    content, said, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(cli, "measure", lambda *_: pytest.fail("it was measured"))
    old = tmp_path / "old.json"
    if content is not None:
        old.write_text(content if isinstance(content, str) else json.dumps(content))
    assert main(["bench", "--compare", str(old), "--out", str(tmp_path)]) == cli.USAGE
    assert said in capsys.readouterr().err


def test_compare_from_reports(tmp_path, capsys):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    records.write(old, made_up({"noise [1]": 4.0}))
    records.write(new, slowed(made_up({"noise [1]": 4.0}), 4 / 3, "pyebm"))
    common = ["bench", "--out", str(tmp_path / "out")]
    assert main([*common, "--from", str(new), "--compare", str(old)]) == cli.FAILED
    said = capsys.readouterr().out
    assert "1e+06 us before, 1.333e+06 us now, where the rivals take 1.00 times as long: 33% slower" in said
    assert alarms.FOUND.findall(said) == ["noise [1]"]
    assert alarms.COMPARED.findall(said) == ["1"]
    assert main([*common, "--from", str(old), "--compare", str(old)]) == cli.OK


def test_two_checkouts_are_measured_in_turn(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(processes, "ROUNDS", 2)
    asked = ["bench", "--out", str(tmp_path), "--seconds", "0.01", "--only", "noise [64x2,*"]
    code = main([*asked, "--plant", "30", "--compare", "."])
    said = capfd.readouterr().out
    assert said.count("noise [64x2, float32, 1 thread]: pyebm") == 4
    assert "slower: noise [64x2, float32, 1 thread]: " in said
    assert "1 cases compared with ., 1 slower by more than 10%" in said
    assert code == cli.FAILED
    assert main([*asked, "--compare", str(tmp_path)]) == cli.USAGE
    assert f"--compare {tmp_path}: holds no pyebm that Python can import" in capfd.readouterr().err
    assert main([*asked, "--compare", ".", "--check"]) == cli.USAGE
    assert "--compare with a checkout: not with --check" in capfd.readouterr().err


def test_merging_keeps_the_later_of_a_case():
    merged = records.merge([made_up({"a [1]": 1.0, "b [1]": 2.0}), made_up({"b [1]": 3.0})])
    assert {row.case: row.ratio("eager") for row in records.rows(merged)} == {"a [1]": 1.0, "b [1]": 3.0}


def test_processes_are_pooled_into_the_middle_median_and_the_shortest_time():
    slow, middle, fast = (slowed(made_up({"a [1]": 4.0}), by, "pyebm") for by in (1.5, 1.25, 1.0))
    middle["benchmarks"][0]["stats"]["min"] = 0.5
    (row,) = records.rows(records.pool([slow, middle, fast]))
    assert (row.median(), row.shortest(), row.median("eager")) == (1.25, 0.5, 4.0)


def test_several_processes_make_one_report(tmp_path, capfd):
    asked = ["bench", "--processes", "2", "--seconds", "0.01", "--out", str(tmp_path)]
    assert main([*asked, "--only", "noise [64x2,*"]) == cli.OK
    (row,) = records.rows(records.read(tmp_path / "report.json"))
    assert capfd.readouterr().out.count(f"{row.case}: pyebm") == 2
    for also in (["--check"], ["--budget", "1"], ["--from", str(tmp_path / "report.json")]):
        assert main([*asked, *also]) == cli.USAGE
        assert "--processes measures all cases N times: not with" in capfd.readouterr().err


def test_the_readme_gets_the_table_between_its_markers(tmp_path, monkeypatch, capsys):
    readme, performance = tmp_path / "README.md", tmp_path / "docs" / "performance.md"
    performance.parent.mkdir()
    training, learned = performance.with_name("training.md"), performance.with_name("learned.md")
    for page in (performance, training, learned):
        page.write_text("<!-- benchmarks -->\n<!-- end of benchmarks -->\n")
    readme.write_text("before\n<!-- benchmarks -->\nold\n<!-- end of benchmarks -->\nafter\n")
    step = "objectives [exact, 2 layers of 128, 256x2, float32, 2 threads]"
    chain = "network [2 layers of 128, 256x2, 20 steps, float32, 2 threads]"
    found = made_up({report.FIRST[0]: 4.0, "noise [1]": 4.0, step: 4.0, chain: 4.0})
    for record in found["benchmarks"]:
        record["extra_info"]["headline"] = True
    assert set(report.documents(tmp_path).values()) == {True}
    report.into_documents(tmp_path, found)
    text = readme.read_text()
    assert text.startswith("before\n<!-- benchmarks -->\n")
    assert text.endswith("<!-- end of benchmarks -->\nafter\n")
    assert "| dsm | 256x3x64x64, float32, 2 threads | 1 s | **4x** |" in text
    assert "| noise |" not in text
    assert "old" not in text
    pictures = list((tmp_path / "docs" / "images").iterdir())
    assert pictures
    assert all(f"(images/{picture.name})" in performance.read_text() for picture in pictures)
    assert sum(f"(docs/images/{picture.name})" in text for picture in pictures) == 1
    assert "| noise | 1 | 1 s | **4x** |" in performance.read_text()
    assert "| work | setting | bytes, operations an element |" in performance.read_text()
    assert "| objectives [exact, 2 layers of 128, 256x2] | 100% | eager | 8x | **4x** | 4x |" in (
        training.read_text()
    )
    assert (
        "| network [2 layers of 128, 256x2, 20 steps] | 100% | eager | 8x | **4x** |" in learned.read_text()
    )
    readme.write_text("no markers")
    monkeypatch.chdir(tmp_path)
    assert main(["bench", "--readme", "--from", str(tmp_path / "none.json")]) == cli.USAGE
    records.write(tmp_path / "some.json", found)
    assert main(["bench", "--readme", "--from", str(tmp_path / "some.json")]) == cli.USAGE
    assert "not in README.md here" in capsys.readouterr().err
    assert readme.read_text() == "no markers"


def test_the_model_is_labelled_as_one_and_follows_its_formula(tmp_path):
    text = model.section([])
    assert "a model, not a measurement" in text
    assert all(gpu.name in text for gpu in model.GPUS)
    memory_bound = model.Kernel("k", "float", bytes=12, instructions=10, slots=20)
    h100 = next(gpu for gpu in model.GPUS if gpu.name == "H100 SXM")
    assert memory_bound.shares(h100) == (1.0, 1.0)
    slow = model.Kernel("k", "half", bytes=2, instructions=50, slots=100)
    floor = 2 / 3.35e12
    assert slow.shares(h100) == pytest.approx((floor / (100 / 33.5e12), floor / (50 / 33.5e12)))
    left_out = model.section([], sources=tmp_path)
    assert "Left out" in left_out
    assert "%" not in left_out


def test_a_measured_gpu_needs_no_model():
    found = made_up({"a [1]": 1.0})
    for record in found["benchmarks"]:
        record["extra_info"]["device"] = "cuda"
    assert model.section(records.rows(found)) == ""


def test_the_readme_s_rows_are_cases_of_the_suite():
    assert set(report.FIRST) <= {case.name for case in cli.load_cases()}
