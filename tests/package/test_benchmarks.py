"""The benchmark suite: every case's sides do the same work, and the command keeps its promises.
No test here judges a time."""

from __future__ import annotations

import os

import fresh
import pytest
import torch

pytest.importorskip("pytest_benchmark")

from pyebm.benchmarks import SUITE, cli, integrations, machine, records, report, rivals, suite, timing
from pyebm.benchmarks.case import NOISE, Case, Setting, Work, assert_same_law, given

from pyebm.__main__ import main

CASES = cli.load_cases()
# The cheapest case of each group and variant runs the same code as the large ones.
SMALLEST: dict[tuple[str, str], Case] = {}
for one in sorted(
    CASES,
    key=lambda case: (torch.Size(case.setting.shape).numel() * case.setting.steps, case.setting.threads),
):
    SMALLEST.setdefault((one.group, one.setting.variant), one)


# network-loop's side of torch.compile takes as long as all others; of these a third always runs.
QUICK = [case for case in SMALLEST.values() if case.group != "network-loop"][::3]
CASES_TO_RUN = [
    pytest.param(case, id=case.name, marks=() if case in QUICK else pytest.mark.slow)
    for case in SMALLEST.values()
]


@pytest.mark.parametrize("case", CASES_TO_RUN)
@pytest.mark.usefixtures("one_thread")
def test_every_side_does_the_same(case):
    try:
        work = case.build(case.setting)
    except rivals.Missing as missing:  # this case compares with that package alone
        if os.environ.get("PYEBM_REQUIRE_INTEGRATIONS"):
            raise
        pytest.skip(f"{missing}; `make integrations` runs it")
    assert "pyebm" in work.sides
    assert set(work.sides) - {"pyebm"} == set(work.checks) | set(work.parts)
    assert work.checks, "a case without a rival compares nothing"
    assert suite.check(work) == {}


def test_names_are_unique_and_groups_have_quick_cases():
    assert len({case.name for case in CASES}) == len(CASES)
    assert all(
        any(case.setting.quick for case in CASES if case.group == group)
        for group in {case.group for case in CASES}
    )


def plain(ours, theirs, shape=(64, 2), **options):
    """Makes a case of two callables."""

    def build(_: Setting) -> Work:
        work = Work(128, 1024, 1e3, **options)
        work.ours(lambda _: ours)
        return work.side("eager", theirs)

    return Case("test", Setting(shape, headline=True), build)


def run(capsys, *cases, **options):
    """Runs the cases under pytest-benchmark, as the command does; returns (exit code, report,
    printed text)."""
    words = {
        "options": "bench",
        "seconds": 0.01,
        "quick": False,
        "device": "cpu",
        "budget": None,
        "check": False,
        "plant": 0.0,
    }
    code, reports = cli.measure(type("Options", (), {**words, **options}), list(cases))
    said = capsys.readouterr()
    return code, reports[-1] if reports else None, said.out + said.err


@pytest.fixture(autouse=True)
def cheap_peak(monkeypatch):
    monkeypatch.setattr(machine, "peak", lambda *_: 1e11)
    monkeypatch.setattr(machine, "limits", lambda _: {"copies, GB/s": 12.0})


def test_a_record_has_what_a_reader_needs(capsys):
    x = torch.zeros(64, 2)
    code, found, said = run(capsys, plain(lambda: x + 1, lambda: x.add(1)))
    assert code == 0
    assert [r["extra_info"]["side"] for r in found["benchmarks"]] == ["pyebm", "eager", "copy"]
    for record in found["benchmarks"]:
        info = record["extra_info"]
        assert info["suite"] == SUITE
        assert {"machine", "versions", "commit", "load"} <= set(info)
        assert info["versions"]["torch"] == torch.__version__
        assert record["stats"]["rounds"] >= timing.FEWEST
    ours = found["benchmarks"][0]
    assert ours["extra_info"]["dispatched"] == 1
    assert 0 <= ours["extra_info"]["extra bytes"] - x.nbytes < 64  # the number 1 is a tensor too
    assert "eager" in said
    assert "x" in said


def test_a_planted_loss_is_found(capsys):
    """Of 3000 %, as other tests run beside this one; `benchmarks.alarms` counts those of 15 %."""
    x = torch.ones(2**18)
    case = plain(lambda: x + 1, lambda: x + 1)
    _, old, _ = run(capsys, case)
    _, new, _ = run(capsys, case, plant=30.0)
    assert list(records.slower([(new, old)])) == [case.name]


def test_sides_take_turns():
    order = []
    timing.take_turns(
        {side: lambda side=side: order.append(side) for side in "abc"}, 0.0, lambda run, _: run() or 1.0
    )
    turns = order[6:]  # the warm-up makes the first calls
    assert len(turns) == 3 * timing.FEWEST
    assert [turns[k : k + 3] for k in range(0, 9, 3)] == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"]]


def test_scattered_times_are_taken_again_and_the_steadiest_kept():
    scales = iter([1.0] * 2 + [1.0, 2.0, 1.0, 2.0, 3.0] + [1.0] * 2 + [1.0, 1.1, 1.0, 1.1, 1.0])
    samples, attempts = timing.steady_turns(
        {"pyebm": lambda: None}, 0.0, lambda run, _: run() or next(scales)
    )
    assert attempts == 2
    assert max(samples["pyebm"][1]) == 1.1


def test_a_red_check_shows_no_speed_up(capsys, tmp_path):
    x = torch.ones(64, 2)
    code, found, said = run(capsys, plain(lambda: x + 1, lambda: x + 1.01))
    assert code == cli.FAILED
    assert "CHECK FAILED" in said
    assert "eager" not in {record["extra_info"]["side"] for record in found["benchmarks"]}
    report.write(tmp_path, found)
    text = (tmp_path / "report.md").read_text()
    assert "eager: check failed, no speed-up" in text
    assert (
        "CHECK FAILED, no speed-up is shown: test [64x2, float32, 1 thread]: eager: AssertionError: apart by"
        " 0.01" in text
    )
    assert "x**" not in text


def test_a_case_that_breaks_is_named_and_the_others_go_on(capsys):
    def broken(_):
        raise RuntimeError("no such luck")

    code, found, said = run(
        capsys, Case("broken", Setting((1,)), broken), plain(lambda: torch.ones(2), lambda: torch.ones(2))
    )
    assert code == cli.FAILED
    assert "broken [1, float32, 1 thread]: RuntimeError: no such luck" in said
    assert {record["group"] for record in found["benchmarks"]} == {"test [64x2, float32, 1 thread]"}


def test_a_missing_rival_is_named(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(rivals.DISTRIBUTIONS, "nobody", ("no_such_module", "no-such-package"))

    def build(_: Setting) -> Work:
        work = Work(1, 8, 1).ours(lambda _: lambda: torch.ones(3))
        return work.side("eager", lambda: torch.ones(3)).rival("nobody", lambda module: module.run)

    code, found, said = run(capsys, Case("test", Setting((3,)), build))
    assert code == 0
    assert "nobody missing" in said
    report.write(tmp_path, found)
    text = (tmp_path / "report.md").read_text()
    assert (
        "nobody: no-such-package is not usable here (No module named 'no_such_module'); pip install" in text
    )


def test_time_that_is_up_leaves_cases_for_resume(capsys):
    cases = [plain(lambda: torch.ones(3), lambda: torch.ones(3), shape=(k,)) for k in (1, 2)]
    code, found, said = run(capsys, *cases, budget=0.0)
    assert (code, found) == (cli.UNFINISHED, None)
    assert "2 of 2 cases are left" in said


def test_what_is_given_is_our_noise_step_by_step():
    x = torch.zeros(4, 3)
    with given(NOISE):
        first, second = torch.randn_like(x), torch.randn(4, 3)
    assert torch.equal(first, NOISE.randn((4, 3)))
    assert torch.equal(second, NOISE.at(step=1).randn((4, 3)))
    assert not torch.equal(torch.randn_like(x), torch.randn_like(x))


def test_another_law_is_seen():
    x = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    assert_same_law(x, torch.randn(100_000, generator=torch.Generator().manual_seed(1)))
    for other in (x + 0.05, 1.05 * x):
        with pytest.raises(AssertionError, match="differ by"):
            assert_same_law(x, other)


def test_without_pytest_it_says_what_to_install():
    code = (
        "import sys; sys.modules['pytest'] = None; from pyebm.__main__ import main; sys.exit(main(['bench',"
        " '--only', 'noise']))"
    )
    done = fresh.python("-c", code)
    assert done.returncode == cli.USAGE
    assert "the benchmarks need pytest: pip install 'pyebm-kernels[bench]'" in done.stderr


def test_importing_pyebm_imports_none_of_it():
    code = (
        "import sys, pyebm; print([m for m in sys.modules if m.startswith(('pyebm.benchmarks', 'pytest',"
        " 'matplotlib'))])"
    )
    done = fresh.python("-c", code)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_devices_events_time_what_runs_behind_a_flushed_cache(monkeypatch):
    """A stand-in plays the device: without one, a test can see only that the calls come in this
    order."""
    order = []

    class Event:
        def __init__(self, **options):
            assert options == {"enable_timing": True}

        def record(self):
            order.append("record")

        def synchronize(self):
            order.append("synchronize")

        def elapsed_time(self, _):
            return 1500.0  # ms

    class Flushed:
        def zero_(self):
            order.append("flush")

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch, "empty", lambda *_, **__: Flushed())
    assert timing.DeviceClock()(lambda: order.append("run"), 2) == 1.5
    assert order == ["flush", "record", "run", "run", "record", "synchronize"]


def test_on_a_device_threads_make_no_difference():
    cases = [Case("a", Setting((2,), threads=n, compiled=n == 1), Work) for n in (1, 2)]
    assert len({case.name for case in cases}) == 2
    collector = suite._Cases.__new__(suite._Cases)
    collector.selection = suite.Selection(cases, 0.0, device="cuda")
    names = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suite._Item, "from_parent", lambda _, name: type("Item", (), {"name": name})())
        names = [(item.name, item.case.setting.compiled) for item in collector.collect()]
    assert names == [("a [2, float32, cuda]", True)]


def test_unknown_names_are_refused_with_the_known_ones(capsys):
    assert main(["bench", "--only", "perturb", "no-such-thing"]) == cli.USAGE
    said = capsys.readouterr().err
    assert "no benchmark is called 'no-such-thing'" in said
    assert "perturb" in said


def test_a_pattern_selects_cases():
    chosen = cli.select(CASES, ["perturb [64x2*"], quick=False)
    assert chosen
    assert all(case.name.startswith("perturb [64x2") for case in chosen)


def test_list_names_every_group(capsys):
    assert main(["bench", "--list"]) == cli.OK
    said = capsys.readouterr().out
    assert all(case.group in said for case in CASES)


CALL_SITES = [*integrations.LINES, *integrations.NAMED, *integrations.CONSIDERED]


@pytest.mark.parametrize("line", CALL_SITES, ids=lambda line: f"{line[0]} {line[1]}")
@pytest.mark.usefixtures("one_thread")
def test_both_sides_of_a_call_site_run(line):
    try:
        sides = line[2]()
    except rivals.Missing as missing:
        if os.environ.get("PYEBM_REQUIRE_INTEGRATIONS") and line not in integrations.CONSIDERED:
            raise
        pytest.skip(f"{missing}; `make integrations` runs it")
    for side in sides:
        side()
