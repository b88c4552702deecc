"""The picture of a folder of samples: numbers as points or a histogram, with the target's density
where it is known; pictures as pictures."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy
import torch
from matplotlib import image
from matplotlib.figure import Figure

_POINTS, _PICTURES = 5000, 64
_POINT, _DENSITY = "#1f77b4", "#d1382c"


def draw(folder: Path, target: Any, to: Path) -> None:
    figure: Any = Figure(figsize=(5.5, 5), dpi=130, layout="constrained")
    samples = _samples(folder)
    rows = samples.reshape(len(samples), -1)
    if samples.ndim > 2:
        _pictures(figure, samples[:_PICTURES])
    elif rows.shape[1] == 1:
        _histogram(figure.subplots(), rows[:, 0], target)
    else:
        _plane(figure.subplots(), rows[:_POINTS], target)
    figure.suptitle(f"{len(samples)} samples of shape {tuple(samples.shape[1:])}", fontsize=10)
    figure.savefig(to)


def _samples(folder: Path) -> Any:
    """The samples of all files, (N, *shape)."""
    parts = [numpy.load(path)["x"] for path in sorted(folder.glob("samples-*.npz"))]
    for path in sorted(folder.glob("samples-*.zip")):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".png"):
                    shown = image.imread(io.BytesIO(archive.read(name)), format="png")
                    parts.append(numpy.moveaxis(numpy.atleast_3d(shown), -1, 0)[None])
    return numpy.concatenate(parts)


def _pictures(figure: Any, samples: Any) -> None:
    side = int(numpy.ceil(numpy.sqrt(len(samples))))
    low, high = samples.min(), samples.max()
    for axes, one in zip(figure.subplots(side, side, squeeze=False).flat, samples, strict=False):
        coloured = one.ndim == 3 and one.shape[0] == 3
        shown = numpy.moveaxis(one, 0, -1) if coloured else one.reshape(-1, *one.shape[-2:])[0]
        axes.imshow((shown - low) / max(high - low, 1e-9), cmap="gray_r", vmin=0, vmax=1)
    for axes in figure.axes:
        axes.axis("off")


def _histogram(axes: Any, values: Any, target: Any) -> None:
    axes.hist(values, bins=80, density=True, color=_POINT, alpha=0.6)
    if target is not None:
        line = torch.linspace(float(values.min()), float(values.max()), 400)
        density = torch.exp(-target.energy(line[:, None]).double())
        axes.plot(line, density / torch.trapezoid(density, line.double()), color=_DENSITY)
    axes.set(xlabel="x", ylabel="density")


def _plane(axes: Any, rows: Any, target: Any) -> None:
    axes.plot(rows[:, 0], rows[:, 1], ".", color=_POINT, markersize=2, alpha=0.5)
    if target is not None and rows.shape[1] == 2:
        (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
        x, y = torch.linspace(left, right, 160), torch.linspace(low, high, 160)
        grid = torch.cartesian_prod(y, x).flip(1)
        energy = target.energy(grid).reshape(160, 160)
        axes.contour(x, y, energy - energy.min(), (0.5, 1, 2, 4, 6), colors=_DENSITY, linewidths=0.8)
    axes.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
