"""The pytest module of the suite: each case is a test, and each side of a case makes one
pytest-benchmark record.

:mod:`pyebm.benchmarks.cli` runs it; the plugin below carries the selected cases. The records reach
pytest-benchmark through ``Metadata``, as its own fixture's would, so that its statistics, its JSON
and its ``compare`` command work on them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytest_benchmark.stats import Metadata

from . import SUITE, machine, timing
from .case import Case, Setting, Work, on
from .rivals import Missing


@dataclass
class Selection:
    """A pytest plugin that makes each case a test: it holds which cases run and for how long,
    and collects what they report."""

    cases: list[Case]
    seconds: float  # of each case, shared by its sides
    device: str = "cpu"
    budget: float | None = None  # seconds after which no further case is begun
    timed: bool = True  # False: only run the checks
    planted: float = 0.0  # the share of its time by which our side is made slower
    left: list[str] = field(default_factory=list)  # cases that the budget left out
    red: dict[str, str] = field(default_factory=dict)  # "case: side": what its check said
    broken: dict[str, str] = field(default_factory=dict)  # case: why it failed
    absent: dict[str, str] = field(default_factory=dict)  # case: the missing package that it needs
    begun: float = field(default_factory=time.monotonic)

    def pytest_collect_file(self, file_path: Path, parent: Any) -> pytest.Collector | None:
        if file_path != Path(__file__):
            return None
        collector = _Cases.from_parent(parent, path=file_path)
        collector.selection = self
        return collector

    def run(self, case: Case, session: Any) -> None:
        if self.budget is not None and time.monotonic() - self.begun > self.budget:
            self.left.append(case.name)
            return
        load = machine.load()
        try:
            with machine.threads_set_to(case.setting.threads):
                work = case.build(case.setting)
                red = check(work)
                self.red.update({f"{case.name}: {side}": why for side, why in red.items()})
                records = _measure(case, work, red, load, self) if self.timed else []
        except Missing as why:
            self.absent[case.name] = str(why)
            print(f"{case.name}: left out: {why}", flush=True)
            return
        except Exception as error:
            self.broken[case.name] = _first_line(error)
            raise
        session.benchmarks.extend(records)
        print(_line(case, work, red, records), flush=True)


class _Cases(pytest.File):
    selection: Selection

    def collect(self) -> Iterator[pytest.Item]:
        # Cases that differ only in their threads are one case on a GPU; keep the one with
        # torch.compile.
        cases: dict[str, Case] = {}
        for case in sorted(self.selection.cases, key=lambda case: case.setting.compiled):
            cases[on(self.selection.device, case).name] = on(self.selection.device, case)
        order = {on(self.selection.device, case).name: None for case in self.selection.cases}
        for name in order:
            item = _Item.from_parent(self, name=name)
            item.case = cases[name]
            yield item


class _Item(pytest.Item):
    case: Case

    def runtest(self) -> None:
        self.parent.selection.run(self.case, self.config._benchmarksession)  # type: ignore[union-attr,attr-defined]

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name


def check(work: Work) -> dict[str, str]:
    """Runs the checks; returns the sides whose check failed, and why. Such a side is not timed,
    so that no speed-up over it can be shown."""
    red = {}
    for side, same in work.checks.items():
        if why := _why_not(same):
            red[side] = why
    work.reset()
    return red


def _why_not(same: Callable[[], None]) -> str | None:
    try:
        same()
    except Exception as error:  # whatever was raised, the side is not shown to do the same
        return _first_line(error)
    return None


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _measure(
    case: Case, work: Work, red: dict[str, str], load: float | None, selection: Selection
) -> list[Metadata]:
    at, device = case.setting, selection.device
    sides = {name: run for name, run in work.sides.items() if name not in red}
    if selection.planted and "pyebm" in sides:
        sides["pyebm"] = timing.slowed(sides["pyebm"], selection.planted)
    if work.copied:
        sides["copy"] = _copy(work, at)
    if device == "cuda":
        _capture(work, sides)
    samples, attempts = timing.steady_turns(sides, selection.seconds, timing.clock(device))
    common = {
        "suite": SUITE,
        **machine.provenance(device),
        "load": load,
        "attempts": attempts,
        "case": case.name,
        **_described(at),
        "elements": work.elements,
        "bytes": work.bytes,
        "operations": work.operations,
        "peak": machine.peak(device, at.threads, at.dtype),
        "red": red,
        "missing": work.missing,
    }
    records = []
    for side, (repeat, times) in samples.items():
        info = {**common, "side": side, "part of": work.parts.get(side)}
        if side in work.sides and side not in work.parts:
            info["extra bytes"] = timing.extra_bytes(work.sides[side], device)
            info["dispatched"] = None if side in work.uncounted else timing.dispatched(work.sides[side])
        record = Metadata(
            _named(f"{case.name}: {side}", case.name, info), repeat, {"seconds a case": selection.seconds}
        )
        for sample in times:
            record.update(sample)
        records.append(record)
    return records


def _named(name: str, group: str, info: dict[str, Any]) -> SimpleNamespace:
    """The attributes that pytest-benchmark's statistics read from its fixture."""
    return SimpleNamespace(
        name=name,
        fullname=name,
        group=group,
        param=None,
        params=None,
        extra_info=info,
        cprofile_stats=None,
        has_error=False,
    )


def _described(at: Setting) -> dict[str, Any]:
    return {
        "shape": list(at.shape),
        "dtype": str(at.dtype).removeprefix("torch."),
        "threads": at.threads,
        "variant": at.variant,
        "steps": at.steps,
        "headline": at.headline,
        "quick": at.quick,
    }


def _copy(work: Work, at: Setting) -> timing.Run:
    """A copy that moves as many bytes as the work must: half of them read, half written."""
    source = torch.zeros(max(1, int(work.bytes / 8)), device=at.device)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def _capture(work: Work, sides: dict[str, timing.Run]) -> None:
    """Adds the CUDA graphs of ours and eager where they can be captured; elsewhere the report
    says why not."""
    for name in ("pyebm", "eager"):
        if name in sides:
            try:
                sides[f"{name}, graph"] = timing.captured(sides[name])
            except RuntimeError as error:
                work.missing[f"{name}, graph"] = f"can't be captured: {str(error).splitlines()[0]}"


def _line(case: Case, work: Work, red: dict[str, str], records: list[Metadata]) -> str:
    """The terminal's line on a case; a side whose check failed has no time, and so no speed-up."""
    medians = {record.extra_info["side"]: record.stats.median for record in records}
    ours = medians.get("pyebm")
    words = [
        f"{side} {median * 1e6:.4g} us" + (f" = {median / ours:.2f}x" if ours and side != "pyebm" else "")
        for side, median in medians.items()
    ]
    words += [f"{side} CHECK FAILED ({why})" for side, why in red.items()] + [
        f"{side} missing" for side in work.missing
    ]
    return f"{case.name}: {', '.join(words) or 'all checks hold'}"
