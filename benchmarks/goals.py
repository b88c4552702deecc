"""How many times as fast as others a training step of an energy network is meant to be, is, and
would be if it took nothing but its arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

from .records import Row

# The goals by objective, for 256 samples and layers of 128, then for 64 and layers of 64.
_STEPS = ("2 layers of 128, 256x2", "2 layers of 64, 64x2")
_OF_A_GRADIENT = {
    "denoising": ({"eager": 6, "JAX": 3}, {"eager": 15, "JAX": 5}),
    "sliced": ({"eager": 12, "JAX": 4}, {"eager": 25, "JAX": 6}),
    "exact": ({"eager": 8, "JAX": 3}, {}),
    "CD-10": ({"eager": 6, "JAX": 3}, {"eager": 25, "JAX": 6}),
}
_OF_AN_ITERATION = {
    "denoising": ({"torchebm": 8}, {"torchebm": 8}),
    "CD-10": ({"torchebm": 8}, {"torchebm": 8}),
    "PCD-10": ({"eager": 6}, {}),
}
_GOALS = {
    f"{group} [{objective}, {step}, float32, 2 threads]": goals
    for group, by_objective in (("objectives", _OF_A_GRADIENT), ("energy-training", _OF_AN_ITERATION))
    for objective, by_step in by_objective.items()
    for step, goals in zip(_STEPS, by_step, strict=True)
}


def reached(rows: Sequence[Row]) -> str:
    """The table of docs/training.md."""
    lines = ["| work | beside | goal | reached | with arithmetic alone |", "|---|---|---|---|---|"]
    for row in rows:
        for side, goal in _GOALS.get(row.case, {}).items():
            if {"pyebm", side} <= set(row.stats):
                alone = row.median(side) / row.floors()["arithmetic"]
                lines.append(
                    f"| {row.case.replace(', float32, 2 threads', '')} | {side} | {goal}x |"
                    f" **{row.ratio(side):.3g}x** | {alone:.3g}x |"
                )
    return "\n".join(lines)
