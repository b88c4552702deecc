"""The demo: digits learnt from scikit-learn's by denoising score matching and sampled by annealed
Langevin dynamics.

python -m pyebm demo [--energy] [--out DIR] [--quick] [--seed N]
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
except ModuleNotFoundError as _missing:
    raise ImportError(
        f"the demo needs {_missing.name}, which is not installed: pip install 'pyebm-kernels[demo]'"
    ) from _missing

from . import digits, energies, energy_digits, energy_pictures, pictures, quality, toy

__all__ = ["run", "run_energies"]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Runs torch on one thread: layers this small gain nothing from a second one, and with one
    thread the numbers are the same on any number of cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def run(out: Path = Path("out"), *, quick: bool = False, seed: int = 0) -> dict[str, float]:
    """Train, sample, draw and measure; a minute or two on one core, or seconds and poor digits with
    ``quick``.

    Args:
        out: the folder for the pictures (\\*.png) and ``quality.json``; made where it is missing.
        quick: a tiny version of everything, to see that it runs.
        seed: governs the split, the initial weights, the batches and all noise: the same seed gives
            the same digits.

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
            report=lambda k, loss: progress.update(
                training, completed=k, description=f"training on 8x8 digits, loss {loss:5.2f}"
            ),
        )
        states = digits.sample(
            net,
            count,
            seed=seed,
            levels=levels,
            steps_each=steps_each,
            report=lambda k, *_: progress.update(sampling, completed=k),
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
        f"loss {numbers['loss_train']:.2f} on training digits, {numbers['loss_held_out']:.2f} on held-out"
        f" digits; the classifier is right on {numbers['classifier_accuracy']:.1%} of these."
    )
    console.print(f"{numbers['seconds']:.0f} s; the pictures and quality.json are in {out}/")
    return numbers


Numbers = dict[str, dict[str, dict[str, float]]]


def run_energies(out: Path = Path("out"), *, quick: bool = False, seed: int = 0) -> Numbers:
    """Two moons, rings and a pinwheel learnt by DSM, sliced score matching, CD and PCD, and the
    digits by PCD; about a minute on one core.

    Args:
        out: the folder for ``energies.png``, ``energy_losses.png``, ``energy_digits.png`` and
            ``energies.json``; made where it is missing.
        quick: a few training steps of each, to see that it runs.
        seed: governs the data, the initial weights, the batches and all noise.

    Returns:
        For each data set and objective ``likelihood`` (of held-out data, in nats, with Z by
        quadrature), ``seconds`` of training, and ``eager_seconds``, the time that the same steps
        would take in eager PyTorch, estimated from ten of them. For the digits the numbers of
        :func:`run`, and ``seconds``.

    Raises:
        ImportError: scikit-learn, matplotlib or rich is missing.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with _one_thread():
        numbers = _run_energies(out, 12 if quick else 500, 100 if quick else 1000, seed)
        numbers["digits"] = {"PCD": _run_energy_of_digits(out, 12 if quick else 4000, seed)}
    (out / "energies.json").write_text(json.dumps(numbers, indent=2) + "\n")
    return numbers


def _run_energies(out: Path, steps: int, count: int, seed: int) -> Numbers:
    console, data = Console(), {}
    samples: dict[str, dict[str, torch.Tensor]] = {}
    results: energy_pictures.Results = {}
    numbers: Numbers = {}
    columns = (TextColumn("{task.description:<48}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task("", total=len(energies.DATA_SETS) * len(energies.OBJECTIVES))
        for name, draw in energies.DATA_SETS.items():
            train, held_out = draw(4000, 2 * seed), draw(4000, 2 * seed + 1)
            data[name], results[name], samples[name], numbers[name] = train[:count], {}, {}, {}
            for objective in energies.OBJECTIVES:
                progress.update(task, description=f"{name} by {objective}")
                learnt = energies.learn(objective, train, held_out, steps, seed=seed)
                results[name][objective] = learnt
                samples[name][objective] = energies.sample(learnt.energy, count, seed=seed)
                seconds = {"seconds": learnt.seconds, "eager_seconds": learnt.eager_seconds}
                numbers[name][objective] = {"likelihood": learnt.likelihoods[-1], **seconds}
                progress.advance(task)
    energy_pictures.page(out / "energies.png", data, results, samples)
    energy_pictures.losses(out / "energy_losses.png", results)
    for name, row in numbers.items():
        shown = ", ".join(
            f"{objective} {one['likelihood']:.2f} ({one['seconds']:.1f} s, eager"
            f" {one['eager_seconds']:.1f} s)"
            for objective, one in row.items()
        )
        console.print(f"{name}, held-out nats: {shown}")
    return numbers


def _run_energy_of_digits(out: Path, steps: int, seed: int) -> dict[str, float]:
    console, data = Console(), digits.load(seed)
    columns = (TextColumn("{task.description:<48}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    began = time.perf_counter()
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task("an energy of 8x8 digits by PCD", total=steps)
        energy, buffer = energy_digits.train(
            data.train, steps, seed=seed, report=lambda k: progress.update(task, completed=k)
        )
        seconds = time.perf_counter() - began
        task = progress.add_task("sampling and measuring digits", total=2)
        samples = energy_digits.sample(energy, buffer, 512, max(steps // 20, 1), seed=seed)
        progress.advance(task)
        pictures.digits(out / "energy_digits.png", data.held_out, samples, "energy by PCD")
        numbers = quality.measure(samples, data, seed=seed) | {"seconds": seconds}
        progress.advance(task)
    console.print(quality.table(numbers))
    console.print(f"{seconds:.0f} s of training; the pictures and energies.json are in {out}/")
    return numbers
