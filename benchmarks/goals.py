"""How many times as fast as others a learned energy's chain and training step are meant to be, are,
and would be if they took nothing but their arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

from .records import Row

Goals = dict[str, dict[str, float]]
"""{case: {side: the least ratio to it}}"""

# The goals by objective, for 256 samples and layers of 128, then for 64 and layers of 64.
_STEPS = ("2 layers of 128, 256x2", "2 layers of 64, 64x2")
_OF_A_GRADIENT: dict[str, tuple[dict[str, float], dict[str, float]]] = {
    "denoising": ({"eager": 6, "JAX": 3}, {"eager": 15, "JAX": 5}),
    "sliced": ({"eager": 12, "JAX": 4}, {"eager": 25, "JAX": 6}),
    "exact": ({"eager": 8, "JAX": 3}, {}),
    "CD-10": ({"eager": 6, "JAX": 3}, {"eager": 25, "JAX": 6}),
}
_OF_AN_ITERATION: dict[str, tuple[dict[str, float], dict[str, float]]] = {
    "denoising": ({"torchebm": 8}, {"torchebm": 8}),
    "CD-10": ({"torchebm": 8}, {"torchebm": 8}),
    "PCD-10": ({"eager": 6}, {}),
}
TRAINING: Goals = {
    f"{group} [{objective}, {step}, float32, 2 threads]": goals
    for group, by_objective in (("objectives", _OF_A_GRADIENT), ("energy-training", _OF_AN_ITERATION))
    for objective, by_step in by_objective.items()
    for step, goals in zip(_STEPS, by_step, strict=True)
}
CHAINS: Goals = {
    f"network [{network}, float32, {threads}]": {"eager": eager, "JAX": jax}
    for network, threads, eager, jax in (
        ("2 layers of 32, 64x2, 50 steps", "2 threads", 45, 5),
        ("2 layers of 64, 64x2, 50 steps", "2 threads", 25, 4),
        ("2 layers of 128, 256x2, 20 steps", "2 threads", 8, 3),
        ("2 layers of 128, 1024x2, 10 steps", "2 threads", 4, 2),
        ("2 layers of 128, 128x64, 20 steps", "2 threads", 8, 3.3),
        ("3 layers of 256, 256x2, 10 steps", "2 threads", 2.8, 1.8),
        ("2 layers of 128, 1x2, 50 steps", "1 thread", 1, 1),
    )
}


def reached(rows: Sequence[Row], goals: Goals) -> str:
    """The table of the goals' cases. ``share`` is that of the matrix product's speed in the same
    run."""
    lines = [
        "| work | share | beside | goal | reached | with arithmetic alone |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        for side, goal in goals.get(row.case, {}).items():
            if {"pyebm", side} <= set(row.stats):
                floor = row.floors()["arithmetic"]
                lines.append(
                    f"| {row.case.replace(', float32', '').replace(', 2 threads', '')} |"
                    f" {floor / row.median():.0%} | {side} | {goal:g}x | **{row.ratio(side):.3g}x** |"
                    f" {row.median(side) / floor:.3g}x |"
                )
    return "\n".join(lines)
