"""``python -m pyebm.benchmarks.scaling``: how ``pyebm.distributed.sample`` scales over processes,
for docs/distributed.md.

    python -m pyebm.benchmarks.scaling --docs docs/distributed.md

Runs of torchrun's processes on this machine are measured: the same samples by one process and by
two (strong scaling), twice as many by two (weak), and runs that find everything done, which is what
resuming costs. A model made of these times says what more processes would take.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

import pyebm

from . import machine

MARKED = re.compile(r"(<!-- scaling -->\n).*?(<!-- end of scaling -->)", re.DOTALL)
BATCH, DONE_BY = 64, (1, 2, 4, 8)  # samples of a micro-batch; ranks of the runs that find everything done
SAMPLES, MODEL_BATCH = 50_000, 10.0  # of the model: samples, seconds of a micro-batch
RANKS = (1, 2, 8, 64, 256, 1024)


class Sizes(NamedTuple):
    """How much is measured."""

    batches: int  # micro-batches of the strong scaling, and for each process of the weak one half of them
    steps: int  # of a chain
    times: int  # how often; the least time counts


FULL, QUICK = Sizes(24, 10_000, 3), Sizes(2, 20, 1)


class Figures(NamedTuple):
    """Seconds of calls of ``sample``, by the number of processes."""

    strong: dict[int, float]
    weak: dict[int, float]
    done: dict[int, float]  # the first call of processes, which finds everything done
    again: dict[int, float]  # their second call: what is left is the ranks' messages
    start: float  # until torchrun's processes make their first call, and after it


def sample(out: str, batches: int, steps: int) -> tuple[float, float]:
    """One rank's part of a run, and of another one that finds everything done; returns the seconds
    of both."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(2, 128),
        torch.nn.SiLU(),
        torch.nn.Linear(128, 128),
        torch.nn.SiLU(),
        torch.nn.Linear(128, 1),
    )
    sampler = pyebm.samplers.Langevin(pyebm.targets.MLPEnergy(net, quadratic=1.0), 0.01)
    first, again = (
        pyebm.distributed.sample(
            sampler, (2,), ids=range(batches * BATCH), noise=0, batch=BATCH, out=out, n_steps=steps
        )
        for _ in range(2)
    )
    return first.seconds, again.seconds


def launched(ranks: int, out: str, batches: int, steps: int) -> tuple[float, float, float]:
    """A run by torchrun's processes: the seconds of both calls, and of the whole command."""
    job = json.dumps([out, batches, steps])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    began = time.perf_counter()
    done = subprocess.run(
        [*command, "-m", "pyebm.benchmarks.scaling", "--job", job], capture_output=True, text=True, check=True
    )
    whole = time.perf_counter() - began
    first, again = (max(times) for times in zip(*map(json.loads, done.stdout.splitlines()), strict=True))
    return first, again, whole


def measured(sizes: Sizes, say: Callable[[str], None] = print) -> Figures:
    """Runs everything, one and two processes taking turns."""
    made = Figures({}, {}, {}, {}, float("inf"))
    for turn in range(sizes.times):
        for ranks in (1, 2):
            for name, times, batches in (
                ("strong", made.strong, sizes.batches),
                ("weak", made.weak, sizes.batches // 2 * ranks),
            ):
                with tempfile.TemporaryDirectory() as out:
                    first, again, whole = launched(ranks, out, batches, sizes.steps)
                times[ranks] = min(times.get(ranks, first), first)
                made = made._replace(start=min(made.start, whole - first - again))
                say(f"turn {turn + 1}: {name}, {ranks} process(es), {batches} micro-batches: {first:.2f} s")
        with tempfile.TemporaryDirectory() as out:
            launched(1, out, sizes.batches, 1)
            for ranks in DONE_BY:
                first, again, _ = launched(ranks, out, sizes.batches, 1)
                made.done[ranks] = min(made.done.get(ranks, first), first)
                made.again[ranks] = min(made.again.get(ranks, again), again)
                say(f"turn {turn + 1}: all done, {ranks} process(es): {first:.2f} s, then {again:.3f} s")
    return made


class Model(NamedTuple):
    """``seconds(N, W) = fixed + each W + batch ceil(N / W)`` for N micro-batches by W > 1 ranks."""

    batch: float
    alone: float  # one process, without its micro-batches
    fixed: float
    each: float  # a rank's messages to all

    @classmethod
    def fitted(cls, figures: Figures, batch: float) -> Model:
        many, two = max(figures.again), 2
        each = max((figures.again[many] - figures.again[two]) / (many - two), 0.0)
        return cls(batch, figures.done[1], max(figures.done[two] - each * two, 0.0), each)

    def seconds(self, batches: int, ranks: int) -> float:
        start = self.alone if ranks == 1 else self.fixed + self.each * ranks
        return start + self.batch * -(-batches // ranks)


def text(figures: Figures, sizes: Sizes, facts: dict[str, Any], load: float | None) -> str:
    """The paragraphs and tables of docs/distributed.md."""
    batch = (figures.strong[1] - figures.done[1]) / sizes.batches
    here, model = Model.fitted(figures, batch), Model.fitted(figures, MODEL_BATCH)
    each, versions = sizes.batches // 2, facts["versions"]
    rows = (
        ("strong", sizes.batches, sizes.batches, figures.strong, "{:.2f}x as fast"),
        ("weak, for each process", each, 2 * each, figures.weak, "{:.0%} efficient"),
    )
    measured, resuming, modelled = (
        (
            f"Measured: {facts['machine']}, pyebm {versions['pyebm']}, torch {versions['torch']}, commit"
            f" {facts['commit']}, load average {load}. A micro-batch is {BATCH} chains of {sizes.steps:,}"
            f" steps on a network of two layers of 128, {batch:.2f} s on one thread; the least of"
            f" {sizes.times} times. torchrun's own start and end are not in it, {figures.start:.1f} s."
        ),
        (
            f"Resuming a run of {sizes.batches} files of which all are there took "
            + ", ".join(f"{seconds:.2f} s by {ranks}" for ranks, seconds in sorted(figures.done.items()))
            + f" processes on this machine's cores; {max(figures.again.values()):.2f} s at most of it are"
            " the ranks' messages, the rest their start."
        ),
        (
            f"The model, beyond 2 processes not measured: W ranks take {model.fixed:.2g} + {model.each:.2g} W"
            f" + b ceil(N / W) seconds for N micro-batches of b seconds, here with b = {MODEL_BATCH:g}, as of"
            f" a network that draws pictures. Strong: {SAMPLES:,} samples by {BATCH}, and by as many as share"
            f" them evenly. Weak: {each} micro-batches a rank."
        ),
    )
    lines = [
        *(textwrap.fill(measured, 100), ""),
        "| scaling | micro-batches | 1 process | 2 processes | | the model |",
        "|---|---|---|---|---|---|",
    ]
    for name, count, of_two, times, form in rows:
        found = form.format(times[1] / times[2])
        model_says = form.format(here.seconds(count, 1) / here.seconds(of_two, 2))
        lines.append(
            f"| {name} | {count} | {times[1]:.2f} s | {times[2]:.2f} s | **{found}** | {model_says} |"
        )
    lines += ["", textwrap.fill(resuming, 100), "", textwrap.fill(modelled, 100), ""]
    lines += [f"| ranks (model) | strong, by {BATCH} | strong, evenly | weak |", "|---|---|---|---|"]
    return "\n".join([*lines, *(_row(model, ranks, each) for ranks in RANKS), ""])


def _row(model: Model, ranks: int, each: int) -> str:
    batches = -(-SAMPLES // BATCH)
    alone, strong = model.seconds(batches, 1), model.seconds(batches, ranks)
    rounds = -(-batches // ranks)
    size = -(-SAMPLES // (rounds * ranks))  # of a micro-batch: as many rounds, all of them full
    smaller = model._replace(batch=model.batch * size / BATCH)
    evenly = smaller.seconds(-(-SAMPLES // size), ranks)
    weak = model.seconds(each, 1) / model.seconds(each * ranks, ranks)
    return (
        f"| {ranks:,} | {alone / strong:.3g}x, {alone / strong / ranks:.0%} | by {size}:"
        f" {alone / evenly:.3g}x, {alone / evenly / ranks:.0%} | {weak:.0%} |"
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m pyebm.benchmarks.scaling")
    parser.add_argument("--docs", type=Path, help="the page whose part between the marks is written anew")
    parser.add_argument("--quick", action="store_true", help="hardly any work: does it run?")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.job:
        sys.stdout.write(json.dumps(sample(*json.loads(options.job))) + "\n")  # in one piece: ranks share it
        return
    sizes, load = QUICK if options.quick else FULL, machine.load()
    if options.docs and not MARKED.search(options.docs.read_text()):
        parser.error(f"{options.docs} has no <!-- scaling --> and <!-- end of scaling -->")
    made = text(measured(sizes), sizes, machine.provenance("cpu"), load)
    print(made)
    if options.docs:
        page = options.docs.read_text()
        options.docs.write_text(MARKED.sub(lambda match: match[1] + made + match[2], page))


if __name__ == "__main__":
    main()
