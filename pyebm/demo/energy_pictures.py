"""The pictures of the energies: the data, the density that each objective learnt, samples, and the
curves of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import energies
from .energies import OBJECTIVES, REACH, Learnt
from .pictures import ARROW, EXACT, INK, POINT, _figure

COLOURS = dict(zip(OBJECTIVES, (POINT, EXACT, ARROW, "#43aa8b"), strict=True))
Results = dict[str, dict[str, Learnt]]  # by data set, then by objective


def _square(axes: Any, title: str) -> None:
    axes.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal", xticks=[], yticks=[])
    axes.set_title(title, fontsize=11)


def _points(axes: Any, x: Tensor, title: str) -> None:
    axes.scatter(*x.T.numpy(), s=2, color=INK, alpha=0.5, linewidths=0)
    _square(axes, title)


def _density(axes: Any, learnt: Learnt, high: float, title: str) -> None:
    density = energies.log_density(learnt.energy)[0].exp().view(energies.POINTS, energies.POINTS)
    axes.imshow(density.numpy(), origin="lower", extent=(-REACH, REACH) * 2, cmap="magma", vmin=0, vmax=high)
    _square(axes, title)


def page(
    path: Path, data: dict[str, Tensor], results: Results, samples: dict[str, dict[str, Tensor]]
) -> None:
    """Draws two rows for each data set: the densities, on one scale, and the samples below."""
    figure = _figure(15.5, 6.3 * len(results))
    rows = figure.subplots(2 * len(results), 1 + len(OBJECTIVES), squeeze=False)
    for k, (name, learnt) in enumerate(results.items()):
        above, below = rows[2 * k], rows[2 * k + 1]
        _points(above[0], data[name], f"{name}: data")
        high = max(float(energies.log_density(one.energy)[0].max().exp()) for one in learnt.values())
        for axes, low, (objective, one) in zip(above[1:], below[1:], learnt.items(), strict=True):
            _density(
                axes,
                one,
                high,
                f"{objective}: log-likelihood {one.likelihoods[-1]:.2f}\n"
                f"trained in {one.seconds:.1f} s (eager: {one.eager_seconds:.1f} s)",
            )
            _points(low, samples[name][objective], f"samples of {objective}")
        _curves(below[0], learnt)
    figure.savefig(path)


def _curves(axes: Any, learnt: dict[str, Learnt]) -> None:
    for objective, one in learnt.items():
        axes.plot(one.steps, one.likelihoods, color=COLOURS[objective], lw=1.6, label=objective)
    last = [one.likelihoods[-1] for one in learnt.values()]
    axes.set_ylim(min(*last, -4.0), max(last) + 0.15)
    axes.set_title("log-likelihood of held-out data", fontsize=11)
    axes.set_xlabel("training step")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def losses(path: Path, results: Results) -> None:
    """Draws each objective's losses in a plot of its own, since the losses of two objectives can't
    be compared: neither is a likelihood."""
    figure = _figure(15.5, 4.0)
    figure.suptitle(
        f"Each objective's own loss, while the noise on the data falls from 1 to {energies.SIGMA}:"
        " none is a likelihood, and none need fall"
    )
    for axes, objective in zip(figure.subplots(1, len(OBJECTIVES)), OBJECTIVES, strict=True):
        for name, learnt in results.items():
            raw = torch.tensor(learnt[objective].losses)
            window = max(1, min(25, len(raw) // 4))
            smooth = raw.unfold(0, window, 1).mean(1)
            axes.plot(range(window, len(raw) + 1), smooth.numpy(), lw=1.4, label=name)
        axes.set(title=f"loss of {objective}", xlabel="training step")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path)
