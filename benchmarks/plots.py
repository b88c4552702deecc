"""The pictures: our speed relative to others, our distance from the machine's limits, and the
growth of the cost with the size."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .records import Row

COLOURS = {
    "pyebm": "#1b6ca8",
    "eager": "#d1495b",
    "torch.compile": "#edae49",
    "torchebm": "#66a182",
    "ebmkit": "#8d6a9f",
    "k-diffusion": "#5c4742",
    "diffusers": "#00798c",
}


def draw(
    rows: list[Row], folder: Path, prefix: str = "", formats: Iterable[str] = ("png", "svg")
) -> dict[str, str]:
    """Draws the plots that these rows have data for and returns ``{name: title}``; without
    matplotlib it draws none."""
    try:
        import matplotlib
    except ImportError:
        return {}
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    rows = [row for row in rows if "pyebm" in row.stats]
    made = {}
    style = {
        "svg.hashsalt": "pyebm",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.size": 9,
        "svg.fonttype": "path",
    }
    for name, (title, plot) in PLOTS.items():
        with plt.rc_context(style):
            figure = plot(plt, rows)
            if figure is None:
                continue
            for ending in formats:
                metadata = {"Date": None} if ending == "svg" else None
                figure.savefig(
                    folder / f"{prefix}{name}.{ending}", dpi=110, bbox_inches="tight", metadata=metadata
                )
            plt.close(figure)
        made[f"{prefix}{name}"] = title
    return made


def _name(row: Row) -> str:
    return row.case.replace(" [", "\n", 1)[:-1]


def speedups(plt: Any, rows: list[Row]) -> Any:
    rows = [row for row in rows if row.info["headline"] and any(side in COLOURS for side in row.rivals)]
    if not rows:
        return None
    bars = [(row, side) for row in rows[::-1] for side in row.rivals[::-1] if side in COLOURS]
    figure, axes = plt.subplots(figsize=(8, 0.8 + 0.19 * len(bars) + 0.12 * len(rows)))
    at, ticks = 0.0, []
    for row in rows[::-1]:
        first = at
        for side in [side for side in row.rivals[::-1] if side in COLOURS]:
            ratio = row.ratio(side)
            axes.barh(at, ratio, height=0.9, color=COLOURS[side])
            axes.text(ratio * 1.03, at, f"{ratio:.3g}x", va="center", fontsize=7)
            at += 1
        ticks.append(((first + at - 1) / 2, _name(row)))
        at += 0.8
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yticks([tick for tick, _ in ticks], [text for _, text in ticks], fontsize=7)
    axes.set_xlabel("how many times as long as pyebm it takes")
    sides = [side for side in COLOURS if any(side == other for _, other in bars)]
    axes.margins(y=0.01)
    axes.legend(
        [plt.Rectangle((0, 0), 1, 1, color=COLOURS[side]) for side in sides],
        sides,
        fontsize=7,
        loc="lower right",
    )
    return figure


def roofline(plt: Any, rows: list[Row]) -> Any:
    """Operations a second over operations per byte, below the measured limits of copies and
    products."""
    device = {row.info["device"] for row in rows}.pop() if rows else ""
    most = max((row.info["threads"] for row in rows), default=0)
    at = [
        row
        for row in rows
        if row.info["elements"] >= 2**20 and row.info["threads"] == most and row.info["dtype"] == "float32"
    ]
    at = [row for row in at if "copy" in row.stats and row.group != "chain-growth"]
    if not at:
        return None
    figure, axes = plt.subplots(figsize=(6.4, 4.4))
    peak = max(row.info["peak"] for row in at)
    bandwidth = sorted(row.info["bytes"] / row.median("copy") for row in at)[len(at) // 2]
    intensity = [row.info["operations"] / row.info["bytes"] for row in at]
    low, high = min([*intensity, peak / bandwidth]) / 2, max([*intensity, peak / bandwidth]) * 2
    line = [low * (high / low) ** (k / 100) for k in range(101)]
    axes.plot(line, [min(peak, x * bandwidth) / 1e9 for x in line], color="black", linewidth=1)
    axes.text(
        high, peak / 1e9, f"a matrix product: {peak / 1e9:.0f} Gop/s", ha="right", va="bottom", fontsize=7
    )
    axes.text(low, low * bandwidth / 1e9, f" a copy: {bandwidth / 1e9:.0f} GB/s", va="top", fontsize=7)
    markers = "osD^vP*Xhp<>"
    for k, group in enumerate(dict.fromkeys(row.group for row in at)):
        for side, filled in (("pyebm", True), ("eager", False)):
            points = [row for row in at if row.group == group and side in row.stats]
            axes.scatter(
                [row.info["operations"] / row.info["bytes"] for row in points],
                [row.info["operations"] / row.median(side) / 1e9 for row in points],
                marker=markers[k % len(markers)],
                s=32,
                facecolors=COLOURS[side] if filled else "none",
                edgecolors=COLOURS[side],
                label=group if filled else None,
            )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("operations a byte that must be moved")
    axes.set_ylabel("useful operations, 1e9 a second")
    axes.legend(
        fontsize=7,
        title=f"filled: pyebm, hollow: eager\n{most} threads, {device}",
        title_fontsize=7,
        loc="upper left",
        bbox_to_anchor=(1, 1),
    )
    return figure


def _panels(plt: Any, panels: dict[str, list[tuple[float, Row]]], below: dict[str, str], unit: str) -> Any:
    """Panels side by side, ours beside eager and torch.compile: time per element (and step) over
    a size."""
    if not panels:
        return None
    figure, axes = plt.subplots(1, len(panels), figsize=(2.6 * len(panels), 2.9), sharey=True, squeeze=False)
    for axis, (name, points) in zip(axes[0], panels.items(), strict=True):
        for side in ("pyebm", "eager", "torch.compile"):
            at = [
                (size, row.median(side) / row.info["elements"] * 1e9)
                for size, row in sorted(points, key=lambda p: p[0])
                if side in row.stats
            ]
            axis.plot(
                [size for size, _ in at],
                [value for _, value in at],
                "o-",
                ms=3,
                color=COLOURS[side],
                label=side if at else None,
            )
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_title(name, fontsize=9)
        axis.set_xlabel(below[name])
    axes[0][0].set_ylabel(unit)
    axes[0][0].legend(fontsize=7)
    return figure


def growth(plt: Any, rows: list[Row]) -> Any:
    """Time per element over the number of elements: the left end shows the cost of a call, the
    right end the machine's limits."""
    panels = {}
    for group in ("noise", "perturb", "step", "dsm"):
        at = [
            row
            for row in rows
            if row.group == group and row.info["dtype"] == "float32" and not row.info["variant"]
        ]
        most: dict[int, Row] = {}
        for row in sorted(at, key=lambda row: (row.info["threads"], len(row.stats))):
            most[row.info["elements"]] = row
        if len(most) > 2:
            panels[group] = [(float(elements), row) for elements, row in most.items()]
    return _panels(plt, panels, dict.fromkeys(panels, "elements"), "ns an element")


def chains(plt: Any, rows: list[Row]) -> Any:
    below = {
        "steps": "steps, 1024x2",
        "samples": "samples, two dimensions",
        "dimensions": "dimensions, 1024 samples",
    }
    sizes: dict[str, Callable[[Row], float]] = {
        "steps": lambda row: float(row.info["steps"]),
        "samples": lambda row: float(row.info["shape"][0]),
        "dimensions": lambda row: float(row.info["shape"][1]),
    }
    panels = {}
    for variant, size in sizes.items():
        at = [
            (size(row), row) for row in rows if row.group == "chain-growth" and row.info["variant"] == variant
        ]
        if len(at) > 2:
            panels[variant] = at
    return _panels(plt, panels, below, "ns an element and step")


PLOTS: dict[str, tuple[str, Callable[[Any, list[Row]], Any]]] = {
    "speedups": ("How many times as long as pyebm the others take", speedups),
    "roofline": ("Operations a second over operations a byte, and the machine's limits", roofline),
    "growth": ("The time of an element over their number", growth),
    "chains": ("The time of a chain's element and step over steps, samples and dimensions", chains),
}
