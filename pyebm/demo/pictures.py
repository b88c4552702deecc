"""The demo's pictures. No number that the demo reports is computed here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from torch import Tensor, nn

import pyebm

from .toy import SIGMA, Mixture

REACH = 3.4  # the plane is drawn on [-REACH, REACH]^2
HIGH = 9.0  # energies are coloured up to here above the deepest mode
INK, POINT, ARROW, EXACT = "#26323f", "#1f77b4", "#d1382c", "#f2a33a"


def _figure(width: float, height: float) -> Any:
    # The Figure is made without pyplot, so it opens no window and touches no global state,
    # whichever backend the caller uses.
    figure: Any = Figure(figsize=(width, height), dpi=130, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08)
    return figure


def _grid(points: int) -> tuple[Tensor, Tensor]:
    """The line of coordinates and the points (points^2, 2) of the square, row by row from below."""
    line = torch.linspace(-REACH, REACH, points)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return line, torch.stack([x.flatten(), y.flatten()], 1)


def _plane(axes: Any, title: str) -> None:
    axes.set(
        title=title,
        xlabel="$x_1$",
        ylabel="$x_2$",
        xlim=(-REACH, REACH),
        ylim=(-REACH, REACH),
        aspect="equal",
    )
    axes.set_xticks(range(-3, 4))
    axes.set_yticks(range(-3, 4))


def _contours(axes: Any, mixture: Mixture, colour_bar: bool = True) -> None:
    """The energy above its lowest value: filled contours with fine lines."""
    line, points = _grid(161)
    energy = mixture.energy(points).view(161, 161)
    height = (energy - energy.min()).numpy()
    levels = torch.linspace(0, HIGH, 19).numpy()
    filled = axes.contourf(line.numpy(), line.numpy(), height, levels, cmap="Blues_r", extend="max")
    axes.contour(line.numpy(), line.numpy(), height, levels[:-1:2], colors="white", linewidths=0.5, alpha=0.6)
    if colour_bar:
        bar = axes.figure.colorbar(filled, ax=axes, shrink=0.85, ticks=range(0, int(HIGH) + 1, 3))
        bar.set_label("energy $E(x)$")


def draw_energy(axes: Any, mixture: Mixture) -> None:
    _contours(axes, mixture)
    _plane(axes, "An energy $E(x)$: low where data are")


def draw_density(axes: Any, mixture: Mixture) -> None:
    line, points = _grid(241)
    energy = mixture.energy(points).view(241, 241)
    gibbs = torch.exp(-(energy - energy.min()))
    z = float(gibbs.sum() * (line[1] - line[0]) ** 2)
    image = axes.imshow(
        (gibbs / z).numpy(),
        origin="lower",
        extent=(-REACH, REACH) * 2,
        cmap="magma",
        interpolation="bilinear",
    )
    axes.figure.colorbar(image, ax=axes, shrink=0.85).set_label("density $p(x)$")
    _plane(axes, f"Its Gibbs measure $p(x) = e^{{-E(x)}} / Z$,  $Z = {z:.2f}$")


def draw_score(axes: Any, mixture: Mixture) -> None:
    _contours(axes, mixture)
    line = torch.linspace(-3.2, 3.2, 21)
    points = torch.cartesian_prod(line, line)
    score = pyebm.energy_score(mixture.energy, points)
    # Far out the score is long. Arrows with the square root of its length stay visible in the
    # valleys.
    arrows = (score / score.norm(dim=1, keepdim=True).sqrt().clamp(min=1e-6)).numpy()
    axes.quiver(*points.T.numpy(), *arrows.T, color=ARROW, width=0.004, pivot="tail", scale=75, zorder=3)
    box = {"facecolor": "white", "alpha": 0.9, "edgecolor": "none"}
    axes.text(
        0.02,
        0.02,
        r"arrow length $\propto |\mathrm{score}|^{1/2}$",
        transform=axes.transAxes,
        fontsize=8.5,
        bbox=box,
        zorder=4,
    )
    _plane(axes, r"The score $\nabla \log p(x) = -\nabla E(x)$ leads downhill")


def _arrow(axes: Any, start: Tensor, end: Tensor, colour: str, **options: Any) -> None:
    style = {
        "arrowstyle": "-|>",
        "color": colour,
        "lw": 2.0,
        "shrinkA": 0,
        "shrinkB": 0,
        "mutation_scale": 14,
    } | options
    axes.annotate("", xy=tuple(end.tolist()), xytext=tuple(start.tolist()), arrowprops=style, zorder=4)


def draw_noisy_point(axes: Any, mixture: Mixture, seed: int) -> None:
    """Draws x, x~ = x + sigma z, and the vector sigma^2 (-(x~ - x) / sigma^2) back, among other
    points that x could have become."""
    _contours(axes, mixture, colour_bar=False)
    x = mixture.means[:1]
    cloud = pyebm.perturb(x.repeat(300, 1), SIGMA, pyebm.Noise(seed, stream=2))
    # Choose a point that lies well apart, where there is room for its name.
    noisy = cloud[(cloud[:30, 1] - x[0, 1]).argmax()]
    away = (noisy - x[0]) / (noisy - x[0]).norm()
    axes.scatter(
        *cloud.T.numpy(),
        s=9,
        color="white",
        edgecolor=INK,
        lw=0.4,
        zorder=3,
        label=r"other $x + \sigma z$ of this $x$",
    )
    axes.scatter(*x.T.numpy(), s=90, color=EXACT, edgecolor=INK, zorder=5, label="clean point $x$")
    axes.scatter(
        *noisy.numpy(),
        s=90,
        color=ARROW,
        edgecolor=INK,
        zorder=5,
        label=r"noisy point $\tilde x = x + \sigma z$",
    )
    arrow = {"arrowstyle": "-|>", "color": ARROW, "lw": 2.6, "mutation_scale": 18, "shrinkA": 4, "shrinkB": 4}
    axes.annotate("", xy=x[0].tolist(), xytext=noisy.tolist(), arrowprops=arrow, zorder=4)
    axes.plot(
        [],
        [],
        color=ARROW,
        lw=2.6,
        label=r"target $\sigma^2\,(-(\tilde x - x)\,/\,\sigma^2) = x - \tilde x = -\sigma z$",
    )
    name: dict[str, Any] = {"fontsize": 15, "color": INK, "ha": "center", "va": "center", "zorder": 6}
    name["bbox"] = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "alpha": 0.85, "edgecolor": "none"}
    axes.text(*(x[0] - 0.24 * away).tolist(), "$x$", **name)
    axes.text(*(noisy + 0.24 * away).tolist(), r"$\tilde x$", **name)
    axes.legend(loc="lower left", fontsize=8.5, framealpha=0.95)
    _plane(axes, rf"One noisy point and the way back ($\sigma = {SIGMA}$)")
    # The window lies around the point, with room for the legend below.
    left, below = (x[0] - torch.tensor([1.75, 1.9])).tolist()
    axes.set(xlim=(left, left + 3.5), ylim=(below, below + 3.5))


def draw_denoising(axes: Any, mixture: Mixture, net: nn.Module, seed: int) -> None:
    """Draws the targets of many noisy points. Their mean at each place is the score of the smoothed
    density."""
    smooth = mixture.smoothed(SIGMA)
    line, points = _grid(161)
    axes.contour(
        line.numpy(),
        line.numpy(),
        smooth.energy(points).view(161, 161).numpy(),
        14,
        colors="#b8c7d6",
        linewidths=0.8,
    )
    x = mixture.sample(48, torch.Generator().manual_seed(seed))
    noisy = pyebm.perturb(x, SIGMA, pyebm.Noise(seed, stream=3))
    exact, learnt = SIGMA**2 * smooth.score(noisy), SIGMA**2 * net(noisy)
    for arrows, colour, width, label in (
        (x - noisy, ARROW, 0.0025, r"target $x - \tilde x$"),
        (exact, EXACT, 0.011, r"exact $\sigma^2\,\nabla\log p_\sigma(\tilde x)$"),
        (learnt, INK, 0.004, r"learnt $\sigma^2\,s(\tilde x)$"),
    ):
        flat = {
            "angles": "xy",
            "scale_units": "xy",
            "scale": 1,
            "zorder": 3,
            "headwidth": 4.5 if colour == ARROW else 3,
        }
        axes.quiver(*noisy.T.numpy(), *arrows.T.numpy(), color=colour, width=width, label=label, **flat)
    axes.scatter(*noisy.T.numpy(), s=14, color=INK, zorder=4, label=r"noisy point $\tilde x$")
    axes.legend(loc="lower left", fontsize=8.5, framealpha=0.95)
    _plane(axes, r"The mean of all ways back to $x$ is the smoothed score")


def draw_chains(axes: Any, mixture: Mixture, chains: Tensor) -> None:
    _contours(axes, mixture)
    palette = ["#f94144", "#f8961e", "#f9c74f", "#90be6d", "#43aa8b", "#b07cd8", "#f78fb3", "#e8e8e8"]
    for i in range(chains.shape[1]):
        colour = palette[i % len(palette)]
        path = chains[:, i].numpy()
        axes.plot(*path.T, color=to_rgba(colour, 0.9), lw=0.8, zorder=3)
        axes.scatter(*path[0], s=26, facecolor="white", edgecolor=INK, zorder=5)
        axes.scatter(*path[-1], s=42, color=colour, edgecolor=INK, zorder=6)
    _plane(axes, f"{chains.shape[1]} Langevin chains run into the modes ({len(chains) - 1} steps)")


def toy(out: Path, mixture: Mixture, net: nn.Module, chains: Tensor, seed: int) -> None:
    """One figure for each idea, and all of them on one page."""
    parts: dict[str, list[Callable[[Any], None]]] = {
        "gibbs": [lambda a: draw_energy(a, mixture), lambda a: draw_density(a, mixture)],
        "score_field": [lambda a: draw_score(a, mixture)],
        "denoising": [
            lambda a: draw_noisy_point(a, mixture, seed),
            lambda a: draw_denoising(a, mixture, net, seed),
        ],
        "langevin": [lambda a: draw_chains(a, mixture, chains)],
    }
    for name, draws in parts.items():
        figure = _figure(6.4 * len(draws), 5.4)
        for axes, draw in zip(figure.subplots(1, len(draws), squeeze=False)[0], draws, strict=True):
            draw(axes)
        figure.savefig(out / f"{name}.png")
    page = _figure(17.5, 10.5)
    for axes, draw in zip(
        page.subplots(2, 3).flat, (draw for draws in parts.values() for draw in draws), strict=True
    ):
        draw(axes)
    page.savefig(out / "score_matching.png")


def _mosaic(images: Tensor, columns: int) -> Tensor:
    """Images (B, 1, 8, 8) as one, row by row, with a gap between them."""
    tiles = nn.functional.pad(images[:, 0], (0, 1, 0, 1), value=torch.nan)
    rows = len(tiles) // columns
    whole = tiles[: rows * columns].unflatten(0, (rows, columns)).transpose(1, 2).flatten(0, 1).flatten(1)
    framed: Tensor = nn.functional.pad(whole, (1, 0, 1, 0), value=torch.nan)
    return framed


def _show(axes: Any, images: Tensor, columns: int, title: str) -> None:
    axes.imshow(_mosaic(images, columns).numpy(), cmap="gray_r", vmin=-1, vmax=1, interpolation="nearest")
    axes.set_facecolor("#c9d3dd")
    axes.set(title=title, xticks=[], yticks=[])


def digits(
    path: Path, real: Tensor, sampled: Tensor, how: str = "annealed Langevin", columns: int = 12
) -> None:
    figure = _figure(12.4, 6.7)
    left, right = figure.subplots(1, 2)
    _show(left, real[: columns**2], columns, "Real digits (held out)")
    _show(right, sampled[: columns**2], columns, f"Sampled digits ({how})")
    figure.savefig(path)


def annealing(path: Path, states: Tensor, sigmas: Sequence[float], chains: int = 8) -> None:
    """A few chains from noise to digits, left to right."""
    figure = _figure(0.95 * len(states) + 0.5, 0.95 * chains)
    axes = figure.subplots()
    _show(
        axes,
        states[:, :chains].transpose(0, 1).flatten(0, 1),
        len(states),
        "From noise to digits: annealed Langevin dynamics",
    )
    axes.set_xticks([9 * i + 4.5 for i in range(len(states))], [f"{s:.2g}" for s in sigmas])
    axes.set_xlabel(r"noise level $\sigma$ of the state shown")
    figure.savefig(path)


def loss(path: Path, losses: list[float], held_out: float) -> None:
    """The loss of every step, its running mean, and where the averaged network ends on unseen
    digits."""
    figure = _figure(7.6, 4.6)
    axes = figure.subplots()
    raw = torch.tensor(losses)
    window = max(1, min(50, len(losses) // 4))
    smooth = raw.unfold(0, window, 1).mean(1)
    axes.plot(range(1, len(raw) + 1), raw.numpy(), color=POINT, alpha=0.25, lw=0.7, label="every batch")
    axes.plot(
        range(window, len(raw) + 1), smooth.numpy(), color=POINT, lw=1.8, label=f"mean of {window} batches"
    )
    axes.axhline(
        held_out, color=ARROW, lw=1.2, ls="--", label=f"held-out digits, averaged weights: {held_out:.2f}"
    )
    axes.set(
        yscale="log", xlabel="training step", ylabel=r"$\frac{1}{2}\,\|\sigma s(\tilde x) + z\|^2$ per digit"
    )
    axes.set(title="Denoising score matching on 8x8 digits", xlim=(1, len(raw)))
    axes.set_yticks([6, 8, 10, 15, 20, 30], ["6", "8", "10", "15", "20", "30"])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)
