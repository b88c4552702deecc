"""Chains on closed-form energies, each run in one kernel.

python examples/gallery/closed_forms.py
"""

from __future__ import annotations

import math
import sys

import torch
from matplotlib.figure import Figure

import pyebm
from pyebm import targets

LEFT, RIGHT = -3.0, 3.0
angles = 2 * math.pi * torch.arange(7) / 7
RING = targets.GaussianMixture(2 * torch.stack((angles.cos(), angles.sin()), 1), 0.3)
# A target, its step size, and its number of steps.
PANELS = {
    "DoubleWell": (targets.DoubleWell(), 0.02, 400),
    "GaussianMixture": (RING, 0.02, 400),
    "Rosenbrock": (targets.Rosenbrock(a=0.5, b=4.0), 0.005, 2000),
    "Rastrigin": (targets.Rastrigin(2.0), 0.005, 1000),
}


def main(out: str = "closed_forms.png", chains: int = 3000) -> None:
    figure = Figure(figsize=(12, 3.3), dpi=110, layout="constrained")
    line = torch.linspace(LEFT, RIGHT, 121)
    y, x = torch.meshgrid(line, line, indexing="ij")
    points = torch.stack((x.flatten(), y.flatten()), 1)
    for axes, (name, (target, step_size, steps)) in zip(figure.subplots(1, 4), PANELS.items(), strict=True):
        start = 1.5 * pyebm.Noise(0).randn((chains, 2))
        ends = pyebm.langevin_chain(start, target, steps, step_size, pyebm.Noise(1))
        density = (target(points).min() - target(points)).exp().view(121, 121)
        axes.contourf(line, line, density.sqrt(), 14, cmap="Blues")
        axes.plot(*ends.T, ".", color="#d1382c", markersize=1)
        axes.set(title=f"{name}, {steps} steps", xlim=(LEFT, RIGHT), ylim=(LEFT, RIGHT), aspect="equal")
    figure.savefig(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
