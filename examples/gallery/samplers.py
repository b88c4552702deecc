"""One chain of each sampler on a narrow normal, and where many chains are after as many steps.

python examples/gallery/samplers.py
"""

from __future__ import annotations

import sys

import torch
from matplotlib.figure import Figure

import pyebm
from pyebm import samplers

NORMAL = pyebm.targets.Gaussian(covariance=torch.tensor([[1.0, 0.95], [0.95, 1.0]]))
SAMPLERS = {
    "Langevin": samplers.Langevin(NORMAL, 0.02),
    "MALA": samplers.MALA(NORMAL, 0.05),
    "HMC, 8 leapfrog steps each": samplers.HMC(NORMAL, 0.25, n_leapfrog=8, jitter=0.5),
    "UnderdampedLangevin": samplers.UnderdampedLangevin(NORMAL, 0.2, friction=0.5),
}


def main(out: str = "samplers.png", chains: int = 2000, steps: int = 60) -> None:
    figure = Figure(figsize=(12, 3.5), dpi=110, layout="constrained")
    line = torch.linspace(-3, 3, 121)
    y, x = torch.meshgrid(line, line, indexing="ij")
    energy = NORMAL(torch.stack((x.flatten(), y.flatten()), 1)).view(121, 121)
    start = torch.tensor([-2.5, -2.5]).expand(chains, 2)
    for axes, (name, sampler) in zip(figure.subplots(1, 4), SAMPLERS.items(), strict=True):
        states = sampler(start, steps, noise=pyebm.Noise(0), thin=1).states  # (steps, chains, 2)
        axes.contour(line, line, energy, (0.5, 2, 4.5), colors="#9db4cc", linewidths=1)
        axes.plot(*states[-1].T, ".", color="#1f77b4", markersize=1.2)
        path = torch.cat((start[:1], states[:, 0]))
        axes.plot(*path.T, "-o", color="#d1382c", linewidth=1, markersize=2.5)
        axes.set(title=name, xlim=(-3.2, 3.2), ylim=(-3.2, 3.2), aspect="equal")
    figure.suptitle(f"{steps} steps from one corner: a chain's path, and where {chains} chains end")
    figure.savefig(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
