"""Performance over releases: python tools/releases.py [REPORT.json [VERSION]]

Keeps a report's figures as docs/results/releases/VERSION-SIMD.json (by default of the version that
was measured), and draws docs/releases.md's table and plot from all that are there.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from pyebm.benchmarks import plots, records
from pyebm.benchmarks.report import FIRST

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "docs/results/releases"
PAGE, PLOT = ROOT / "docs/releases.md", ROOT / "docs/images/bench-releases.svg"
MARKED = re.compile(r"(<!-- releases -->\n).*(<!-- end of releases -->)", re.S)
COLOURS = {
    simd: plots.COLOURS[side]
    for simd, side in (("avx512", "pyebm"), ("avx2", "torchebm"), ("baseline", "ebmkit"))
}


def keep(report: dict[str, Any], version: str | None = None) -> Path:
    rows = records.rows(report)
    if len(levels := {row.info["simd"] for row in rows}) > 1:
        sys.exit(f"the report has cases of more than one SIMD level: {', '.join(sorted(levels))}")
    info = rows[0].info
    made = {
        "version": version or info["versions"]["pyebm"],
        "commit": report["commit_info"]["id"][:7],
        "date": report["datetime"][:10],
        "simd": info["simd"],
        "machine": info["machine"],
        "versions": info["versions"],
        "cases": {
            row.case: {
                "seconds": float(f"{row.median():.4g}"),
                "times as long": {side: float(f"{row.ratio(side):.4g}") for side in row.rivals},
            }
            for row in rows
        },
    }
    KEPT.mkdir(parents=True, exist_ok=True)
    path = KEPT / f"{made['version']}-{made['simd']}.json"
    cases = ",\n".join(
        f"  {json.dumps(name)}: {json.dumps(case)}" for name, case in made.pop("cases").items()
    )
    path.write_text(f'{json.dumps(made, indent=1)[:-2]},\n "cases": {{\n{cases}\n }}\n}}\n')
    return path


def kept() -> list[dict[str, Any]]:
    """All releases' records, the oldest first."""
    found = [json.loads(path.read_text()) for path in KEPT.glob("*.json")]
    return sorted(found, key=lambda one: ([int(n) for n in one["version"].split(".")], one["simd"]))


def table(releases: list[dict[str, Any]]) -> str:
    lines = [
        "| release | commit | date | SIMD | " + " | ".join(name.split(" [")[0] for name in FIRST) + " |",
        "|---" * (4 + len(FIRST)) + "|",
    ]
    for one in releases:
        head = [one["version"], one["commit"], one["date"], one["simd"]]
        cells = [*head, *(_cell(one, name) for name in FIRST)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(release: dict[str, Any], name: str) -> str:
    ratio = release["cases"].get(name, {}).get("times as long", {}).get("eager")
    return "" if ratio is None else f"{ratio:.3g}x"


def draw(releases: list[dict[str, Any]], path: Path) -> None:
    import matplotlib
    from matplotlib.figure import Figure

    versions = list(dict.fromkeys(one["version"] for one in releases))
    style = {"svg.hashsalt": "pyebm", "axes.spines.top": False, "axes.spines.right": False, "font.size": 9}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(9, 4.6), layout="constrained")
        for axes, name in zip(figure.subplots(2, 3).flat, FIRST, strict=True):
            for simd in dict.fromkeys(one["simd"] for one in releases):
                points = {
                    one["version"]: one["cases"][name]["times as long"]["eager"]
                    for one in releases
                    if one["simd"] == simd and "eager" in one["cases"].get(name, {}).get("times as long", {})
                }
                at = [versions.index(version) for version in points]
                axes.plot(at, list(points.values()), "o-", color=COLOURS.get(simd), label=simd)
            axes.axhline(1, color="#999999", linewidth=0.8, linestyle=":")
            axes.set(title=name.split(" [")[0], xlim=(-0.4, len(versions) - 0.6))
            axes.set_xticks(range(len(versions)), versions)
            axes.set_ylim(0, 1.15 * max(axes.get_ylim()[1], 1))
        figure.axes[0].legend(frameon=False)
        figure.supylabel("times as long in eager PyTorch")
        figure.savefig(path, metadata={"Date": None})


def main(report: str | None = None, version: str | None = None) -> None:
    if report:
        print(f"written: {keep(records.read(Path(report)), version).relative_to(ROOT)}")
    releases = kept()
    draw(releases, PLOT)
    page = PAGE.read_text()
    PAGE.write_text(MARKED.sub(lambda found: found[1] + table(releases) + found[2], page))


if __name__ == "__main__":
    main(*sys.argv[1:])
