"""The records of a run: pytest-benchmark's JSON, read, merged, and held against a baseline."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import SUITE

Report = dict[str, Any]
ALLOWED = 0.10  # the largest loss of a case


class Refused(Exception):
    """The file can't be used; the message says why."""


def read(path: Path) -> Report:
    """Reads a report of this suite; raises Refused if the file is no report, or one of another
    version of the suite."""
    try:
        report: Report = json.loads(path.read_text())
    except OSError as error:
        raise Refused(f"{path} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise Refused(f"{path} is not JSON: {error}") from error
    records = report.get("benchmarks") if isinstance(report, dict) else None
    if not isinstance(records, list) or not all(
        "suite" in record.get("extra_info", {}) for record in records
    ):
        raise Refused(f"{path} was not written by this suite: it holds no records of `python -m pyebm bench`")
    versions = {record["extra_info"]["suite"] for record in records}
    if versions - {SUITE}:
        was = ", ".join(map(str, sorted(versions)))
        raise Refused(
            f"{path} is of suite version {was}, this is version {SUITE}: their figures can't be compared;"
            " measure it anew"
        )
    return report


def write(path: Path, report: Report) -> None:
    """Writes one record a line, without the samples behind the statistics: small enough to
    commit."""
    head = {key: value for key, value in report.items() if key != "benchmarks"}
    lines = ",\n".join("  " + json.dumps(_lean(record)) for record in report["benchmarks"])
    text = json.dumps(head, indent=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{text[:-2]},\n "benchmarks": [\n{lines}\n ]\n}}\n')


def _lean(record: dict[str, Any]) -> dict[str, Any]:
    stats = {
        key: float(f"{value:.5g}") if isinstance(value, float) else value
        for key, value in record["stats"].items()
        if key != "data"
    }
    return {**record, "stats": stats}


def merge(reports: list[Report]) -> Report:
    """Merges several reports into one; where two have a case, the later one's records of it
    count."""
    by_case: dict[str, list[dict[str, Any]]] = {}
    for report in reports:
        new: dict[str, list[dict[str, Any]]] = {}
        for record in report["benchmarks"]:
            new.setdefault(record["group"], []).append(record)
        by_case.update(new)
    absent = {
        case: why
        for report in reports
        for case, why in report.get("absent", {}).items()
        if case not in by_case
    }
    return {
        **reports[-1],
        "absent": absent,
        "benchmarks": [record for records in by_case.values() for record in records],
    }


def pool(reports: list[Report]) -> Report:
    """Makes one report of those of several processes that measured the same cases: of each side's
    records the one with the middle median, with the shortest time of all."""
    by_side: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for report in reports:
        for record in report["benchmarks"]:
            by_side.setdefault((record["group"], record["extra_info"]["side"]), []).append(record)
    pooled = []
    for same in by_side.values():
        middle = sorted(same, key=lambda record: float(record["stats"]["median"]))[(len(same) - 1) // 2]
        shortest = min(record["stats"]["min"] for record in same)
        pooled.append({**middle, "stats": {**middle["stats"], "min": shortest}})
    return {**reports[-1], "benchmarks": pooled}


@dataclass
class Row:
    """One case of the report: the statistics of its sides and the information that they share."""

    case: str
    info: dict[str, Any]
    stats: dict[str, dict[str, Any]]  # side: statistics from pytest-benchmark
    infos: dict[str, dict[str, Any]]

    def median(self, side: str = "pyebm") -> float:
        return float(self.stats[side]["median"])

    def shortest(self, side: str = "pyebm") -> float:
        return float(self.stats[side]["min"])

    def ratio(self, side: str) -> float:
        """How many times as long as ours the side takes."""
        return self.median(side) / self.median()

    @property
    def rivals(self) -> list[str]:
        """All other sides that do the whole work, eager first."""
        sides = [
            side
            for side in self.stats
            if side not in ("pyebm", "copy") and self.infos[side]["part of"] is None
        ]
        return sorted(sides, key=lambda side: side != "eager")

    @property
    def group(self) -> str:
        return self.case.split(" [")[0]

    def floors(self) -> dict[str, float]:
        """Seconds that no implementation can undercut: the bytes at the copy's speed, and the
        operations at the peak."""
        floors = {"arithmetic": self.info["operations"] / self.info["peak"]}
        if "copy" in self.stats:
            floors["bytes"] = self.median("copy")
        return floors


def _kind(info: dict[str, Any]) -> tuple[str, ...]:
    return (
        info["machine"],
        info["device"],
        str(info["threads"]),
        "float64" if info["dtype"] == "float64" else "float32",
    )


def rows(report: Report) -> list[Row]:
    found: dict[str, Row] = {}
    peaks: dict[tuple[str, ...], float] = {}  # the best of all: a run's own may be from a bad moment
    for record in report["benchmarks"]:
        info = record["extra_info"]
        peaks[_kind(info)] = max(info["peak"], peaks.get(_kind(info), 0.0))
    for record in report["benchmarks"]:
        info = {**record["extra_info"], "peak": peaks[_kind(record["extra_info"])]}
        row = found.setdefault(record["group"], Row(record["group"], info, {}, {}))
        row.stats[info["side"]], row.infos[info["side"]] = record["stats"], info
    return list(found.values())


@dataclass(frozen=True)
class Loss:
    """What a case lost: a share of 0.1 is a tenth of its time before, beside the rivals'."""

    share: float
    how: str


def losses(new: Report, old: Report) -> dict[str, Loss]:
    """What each case that both reports have lost beside the rivals.

    The shortest times are compared, since other work on the machine can only lengthen a sample. The
    machine, or its speed today, is allowed for by one number: the median of what the times of all
    rivals in all cases were multiplied by. A single rival would not do: in one process it may be a
    third slower than in the next, and stay so.
    """
    before = {row.case: row for row in rows(old)}
    pairs = [(row, before[row.case]) for row in rows(new) if row.case in before]
    rivals = [
        row.shortest(side) / was.shortest(side)
        for row, was in pairs
        for side in row.rivals
        if side in was.stats
    ]
    found: dict[str, Loss] = {}
    for row, was in pairs:
        if not rivals or any("pyebm" not in one.stats for one in (row, was)):
            continue
        machine = statistics.median(rivals)
        lost = row.shortest() / was.shortest() / machine - 1
        times = f"{1e6 * was.shortest():.4g} us before, {1e6 * row.shortest():.4g} us now"
        found[row.case] = Loss(
            lost, f"{times}, where the rivals take {machine:.2f} times as long: {lost:.0%} slower"
        )
    return found


def slower(pairs: list[tuple[Report, Report]]) -> dict[str, str]:
    """The cases that lost more than ALLOWED in the middle one of the pairs of a new and an old
    report, and how much."""
    by_case: dict[str, list[Loss]] = {}
    for new, old in pairs:
        for case, loss in losses(new, old).items():
            by_case.setdefault(case, []).append(loss)
    middle = {
        case: sorted(found, key=lambda loss: loss.share)[(len(found) - 1) // 2]
        for case, found in by_case.items()
    }
    return {case: loss.how for case, loss in middle.items() if loss.share > ALLOWED}
