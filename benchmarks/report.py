"""Writes report.md, the measurements for people to read. Every figure comes from the records;
none is typed."""

from __future__ import annotations

import re
import textwrap
from itertools import groupby
from pathlib import Path
from typing import Any

from . import goals, model, plots
from .case import GROUPS
from .records import Report, Row, rows

# The README's rows: one for each kind of work, also for one that gains nothing.
FIRST = (
    "dsm [256x3x64x64, float32, 2 threads]",
    "step [256x3x64x64, float32, 2 threads]",
    "chain [1024x2, 200 steps, float32, 2 threads]",
    "network [2 layers of 128, 256x2, 20 steps, float32, 2 threads]",
    "energy-training [PCD-10, 2 layers of 128, 256x2, float32, 2 threads]",
    "training [U-Net, 128x1x8x8, float32, 2 threads]",
)
README = re.compile(r"(<!-- benchmarks -->\n).*?(<!-- end of benchmarks -->)", re.DOTALL)


def seconds(value: float) -> str:
    """Formats three figures, in the unit that fits."""
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if value * scale >= 1 or unit == "us":
            return f"{value * scale:.3g} {unit}"
    raise AssertionError("unreachable")


def _spread(stats: dict[str, Any]) -> str:
    return f"{stats['iqr'] / stats['median']:.0%}"


def times(row: Row) -> str:
    """A line of a group's first table: our time, each rival's time, and how many times ours that
    is."""
    steps = row.info["steps"]
    cells = [
        (
            f"{seconds(row.median() / steps)} ± {_spread(row.stats['pyebm'])}"
            if "pyebm" in row.stats
            else "check failed"
        )
    ]
    for side in row.rivals:
        ratio = f" = **{row.ratio(side):.3g}x**" if "pyebm" in row.stats else ""
        cells.append(f"{side} {seconds(row.median(side) / steps)} ± {_spread(row.stats[side])}{ratio}")
    cells += [f"{side}: check failed, no speed-up" for side in row.info["red"]]
    return f"| {label(row)} | {cells[0]} | {'; '.join(cells[1:])} |"


def floors(row: Row) -> str:
    """A line of a group's second table: our distance from what the machine could do."""
    info, ours = row.info, row.median()
    bounds = row.floors()
    bound = max(bounds, key=lambda name: bounds[name])
    copy = (
        f"{info['bytes'] / ours / 1e9:.3g} ({row.median('copy') / ours:.0%})" if "copy" in row.stats else ""
    )
    rate = info["operations"] / ours
    memory, operations = (_pair(row, key) for key in ("extra bytes", "dispatched"))
    return (
        f"| {label(row)} | {ours / info['elements'] * 1e9:.3g} | {copy} | {rate / 1e9:.3g}"
        f" ({rate / info['peak']:.0%}) | {ours / bounds[bound]:.2f}, {bound} | {memory} | {operations} |"
    )


def _pair(row: Row, key: str) -> str:
    def one(side: str) -> str:
        value = row.infos[side].get(key) if side in row.infos else None
        if value is None:
            return ""
        return (
            f"{value / 2**20:.3g} MiB"
            if key == "extra bytes" and value >= 2**17
            else f"{value / 2**10:.3g} KiB" * (key == "extra bytes") or str(value)
        )

    pair = [one("pyebm"), one("eager")]
    return " / ".join(filter(None, pair))


def label(row: Row) -> str:
    return row.case.split(" [", 1)[1][:-1]


def _group(name: str, found: list[Row]) -> str:
    title = GROUPS[name].title if name in GROUPS else name
    step = " a step" if any(row.info["steps"] > 1 for row in found) else ""
    lines = [f"### {name}", "", f"{title}.", ""]
    lines += [
        f"| setting | pyebm{step} | rivals: time{step} = how many times ours |",
        "|---|---|---|",
        *map(times, found),
        "",
    ]
    measured = [row for row in found if "pyebm" in row.stats]
    lines += [
        "| setting | ns / element | GB/s (of a copy) | Gop/s (of peak) | times its floor | extra memory: ours"
        " / eager | operations: ours / eager |"
    ]
    lines += ["|---|---|---|---|---|---|---|", *map(floors, measured)]
    shares = [line for row in measured for line in _shares(row)]
    if shares:
        lines += ["", "Shares of the whole:", "", *shares]
    return "\n".join(lines)


def _shares(row: Row) -> list[str]:
    """The share of each part in its whole side, before (eager) and after (ours)."""
    found = []
    for side, info in row.infos.items():
        whole = info["part of"]
        if whole in row.stats:
            share = row.median(side) / row.median(whole)
            rest = row.median(whole) - row.median(side)
            steps = row.info["steps"]
            found.append(
                f"- {label(row)}: *{side}* is {seconds(row.median(side) / steps)} of the"
                f" {seconds(row.median(whole) / steps)} of *{whole}*, {share:.1%}; the rest is"
                f" {seconds(max(rest, 0.0) / steps)}"
            )
    return found


def _slowest_first(found: list[Row]) -> list[Row]:
    """The headline rows, those where a rival comes closest first."""

    def least(row: Row) -> float:
        return min((row.ratio(side) for side in row.rivals), default=float("inf"))

    return sorted((row for row in found if row.info["headline"] and "pyebm" in row.stats), key=least)


def compared(found: list[Row]) -> str:
    """A table of our time, the rivals' and our distance from the floor."""
    lines = [
        "| work | size | pyebm | eager PyTorch | torch.compile | other packages | times its floor |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found:
        steps, bounds = row.info["steps"], row.floors()

        def ratio(side: str, row: Row = row) -> str:
            return f"**{row.ratio(side):.3g}x**" if side in row.stats else ""

        others = [
            side
            for side in row.rivals
            if side not in ("eager", "torch.compile") and not side.startswith("pyebm")
        ]
        packages = ", ".join(f"{side} {ratio(side)}" for side in others)
        floor = (
            f"{row.median() / max(bounds.values()):.2f}"
            if "copy" in row.stats and row.info["elements"] >= 2**12
            else ""
        )
        ours = f"{seconds(row.median() / steps)}{' a step' * (steps > 1)}"
        lines.append(
            f"| {row.group} | {label(row)} | {ours} | {ratio('eager')} | {ratio('torch.compile')} |"
            f" {packages} | {floor} |"
        )
    return "\n".join(lines)


def _about(report: Report, found: list[Row]) -> str:
    info = found[0].info
    loads = [row.info["load"] for row in found if row.info["load"] is not None]
    machines = sorted(
        {f"{row.info['machine']}, {row.info['device']}, SIMD {row.info['simd']}" for row in found}
    )
    commits = sorted({row.info["commit"] for row in found})
    versions = ", ".join(f"{name} {version}" for name, version in info["versions"].items())
    load = f"load average {min(loads):.2f} to {max(loads):.2f}" if loads else "load average unknown"
    return (
        f"{'; '.join(machines)}. {versions}. Commit {', '.join(commits)}; {load}; {report['datetime'][:10]}; "
        f"suite version {info['suite']}; {len(found)} cases."
    )


HOW = "Medians; how many times as long as ours the others take."
EXPLAINED = """\
Medians ± the interquartile range as a share of the median; the sides take turns in one process, on the same inputs. Before anything
is timed, each side's result is checked against ours: with our noise given to it where that is possible, else by its mean and
deviation. *Copy*: a copy that moves as many bytes as the work must, timed among the sides. *Peak*: the fastest this machine does
arithmetic, a matrix product, a multiply-add counted as two operations. *Floor*: the larger of that copy's time and of the work's
operations (58 a normal with AVX-512 and on a GPU, else 70) at the peak; how many times it ours takes, and which of the two it is. *Extra memory*: the most a call
holds beyond its inputs. *Operations*: what a call sends through torch's dispatcher, about one launch each on a GPU.
The process keeps the memory that it frees, on all sides: no figure has the page faults of fresh memory in it."""


def write(folder: Path, report: Report) -> None:
    """Writes report.md and its plots."""
    found = rows(report)
    pictures = plots.draw(found, folder)
    parts = [
        "# Benchmarks",
        _about(report, found),
        EXPLAINED,
        "This machine: "
        + "; ".join(f"{name}: {value:g}" for name, value in report.get("limits", {}).items())
        + ".",
        "\n".join(f"![{title}]({name}.png)" for name, title in pictures.items()),
        compared(_slowest_first(found)),
        _left_out(found, report),
        "## All of it",
        *(_group(name, list(group)) for name, group in groupby(found, key=lambda row: row.group)),
        model.section(found),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.md").write_text("\n\n".join(filter(None, parts)) + "\n")


def _left_out(found: list[Row], report: Report) -> str:
    """Names everything that the figures leave out, and why."""
    absent: dict[str, list[str]] = {}
    for row in found:
        for side, why in row.info["missing"].items():
            absent.setdefault(f"{side}: {why}", []).append(row.case)
    lines = [f"- {why} ({len(where)} cases, such as {where[0]})" for why, where in absent.items()]
    lines += [f"- {case}: {why}" for case, why in report.get("absent", {}).items()]
    lines += [
        f"- CHECK FAILED, no speed-up is shown: {row.case}: {side}: {why}"
        for row in found
        for side, why in row.info["red"].items()
    ]
    return "\n".join(["## Left out", "", *lines]) if lines else ""


def distances(found: list[Row]) -> str:
    """The table of docs/performance.md: the largest float32 setting of each kind of work, and
    its distance to the floor."""
    largest: dict[tuple[str, str], Row] = {}
    for row in found:
        if row.info["dtype"] == "float32" and {"pyebm", "copy"} <= set(row.stats):
            key = (row.group, row.info["variant"] if row.group not in ("chain-growth",) else "")
            size = (row.info["elements"], row.info["threads"])
            if key not in largest or size >= (largest[key].info["elements"], largest[key].info["threads"]):
                largest[key] = row
    lines = [
        (
            "| work | setting | bytes, operations an element | floor | pyebm | times its floor | the first"
            " rival's |"
        ),
        "|---|---|---|---|---|---|---|",
    ]
    for row in largest.values():
        info, bounds = row.info, row.floors()
        bound = max(bounds, key=lambda name: bounds[name])
        rival = f"{row.rivals[0]} {row.median(row.rivals[0]) / bounds[bound]:.1f}" if row.rivals else ""
        lines.append(
            f"| {row.group} | {label(row)} | {info['bytes'] / info['elements']:.3g},"
            f" {info['operations'] / info['elements']:.0f} | {seconds(bounds[bound])}, {bound} |"
            f" {seconds(row.median())} | {row.median() / bounds[bound]:.2f} | {rival} |"
        )
    return "\n".join(lines)


def documents(root: Path) -> dict[Path, bool]:
    """The Markdown files that hold generated parts, and whether their markers are there."""
    docs = root / "docs"
    return {
        path: path.exists() and README.search(path.read_text()) is not None
        for path in (root / "README.md", docs / "performance.md", docs / "training.md", docs / "learned.md")
    }


def into_documents(root: Path, report: Report) -> None:
    """Rewrites README.md's rows and its chart, docs/performance.md's tables and plots, and the
    tables of goals in docs/training.md and docs/learned.md, each between its markers."""
    found = rows(report)
    pictures = plots.draw(found, root / "docs" / "images", prefix="bench-", formats=("svg",))
    first = [row for name in FIRST for row in found if row.case == name and "pyebm" in row.stats]
    chart = [f"![{title}](docs/images/{name}.svg)" for name, title in pictures.items()][:1]
    plotted = "\n".join(f"![{title}](images/{name}.svg)" for name, title in pictures.items())
    about = textwrap.fill(f"{HOW} {_about(report, found)}", 100, break_on_hyphens=False)
    texts = (
        "\n\n".join([about, compared(first), *chart]) + "\n",
        "\n\n".join([about, compared(_slowest_first(found)), plotted, distances(found)]) + "\n",
        f"{about}\n\n{goals.reached(found, goals.TRAINING)}\n",
        f"{about}\n\n{goals.reached(found, goals.CHAINS)}\n",
    )
    for path, text in zip(documents(root), texts, strict=True):
        path.write_text(README.sub(lambda match, text=text: f"{match[1]}{text}{match[2]}", path.read_text()))
