"""The demo: digits learnt from scikit-learn's by denoising score matching and sampled by annealed Langevin dynamics.

python -m pyebm demo [--out DIR] [--quick] [--seed N]
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

try:
    import matplotlib  # noqa: F401
    import sklearn  # noqa: F401
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
except ModuleNotFoundError as error:
    raise ImportError(f"the demo needs {error.name}, which is not installed: pip install 'pyebm-kernels[demo]'") from error

from . import digits, pictures, quality, toy

__all__ = ["run"]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Layers this small gain nothing from a second thread, and on one the numbers are the same on any number of cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def run(out: Path = Path("out"), *, quick: bool = False, seed: int = 0) -> dict[str, float]:
    """Train, sample, draw and measure; a minute or two on one core, or seconds and poor digits with ``quick``.

    Args:
        out: the folder for the pictures (\\*.png) and ``quality.json``; made where it is missing.
        quick: a tiny version of everything, to see that it runs.
        seed: governs the split, the initial weights, the batches and all noise: the same seed gives the same digits.

    Returns:
        The numbers that were printed, as written to ``quality.json``.

    Raises:
        ImportError: scikit-learn, matplotlib or rich is missing.
    """
    with _one_thread():
        return _run(Path(out), quick, seed)


def _run(out: Path, quick: bool, seed: int) -> dict[str, float]:
    began = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    steps, count, levels, steps_each, toy_steps = (30, 64, 6, 4, 100) if quick else (2200, 512, 24, 12, 1500)
    console = Console()
    columns = (TextColumn("{task.description:<48}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
        plane = progress.add_task("score matching in the plane", total=3)
        training = progress.add_task("training on 8x8 digits", total=steps)
        sampling = progress.add_task("sampling new digits", total=levels * steps_each)
        drawing = progress.add_task("measuring and drawing", total=4)

        mixture = toy.petals()
        plane_net = toy.learn_score(mixture, toy_steps, seed=seed)
        progress.advance(plane)
        chains = toy.chains(mixture, 8, 300, seed=seed)
        progress.advance(plane)
        pictures.toy(out, mixture, plane_net, chains, seed)
        progress.advance(plane)

        data = digits.load(seed)
        net, losses = digits.train(
            data.train,
            steps,
            seed=seed,
            report=lambda k, loss: progress.update(training, completed=k, description=f"training on 8x8 digits, loss {loss:5.2f}"),
        )
        states = digits.sample(
            net, count, seed=seed, levels=levels, steps_each=steps_each, report=lambda k, *_: progress.update(sampling, completed=k)
        )
        samples = states[-1]

        numbers = quality.measure(samples, data, seed=seed)
        numbers["loss_train"] = digits.mean_loss(net, data.train, seed=seed)
        numbers["loss_held_out"] = digits.mean_loss(net, data.held_out, seed=seed)
        numbers["plane_score_error"] = toy.relative_error(plane_net, mixture, seed=seed)
        progress.advance(drawing)
        pictures.loss(out / "loss.png", losses, numbers["loss_held_out"])
        progress.advance(drawing)
        pictures.digits(out / "digits.png", data.held_out, samples)
        progress.advance(drawing)
        pictures.annealing(out / "annealing.png", states, digits.sigmas_of(states, levels))
        progress.advance(drawing)

    numbers["seconds"] = time.perf_counter() - began
    (out / "quality.json").write_text(json.dumps(numbers, indent=2) + "\n")
    console.print(quality.table(numbers))
    console.print(
        f"loss {numbers['loss_train']:.2f} on training digits, {numbers['loss_held_out']:.2f} on held-out digits; "
        f"the classifier is right on {numbers['classifier_accuracy']:.1%} of these."
    )
    console.print(f"{numbers['seconds']:.0f} s; the pictures and quality.json are in {out}/")
    return numbers
