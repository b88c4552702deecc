"""Many samples by many processes, into files whose bytes depend neither on the number of processes
nor on how often they were killed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._bar import bar
from .._options import checked_flag, shown
from ..noise import Noise
from ..samplers._loop import Sampler
from ._folder import Folder
from ._job import Init, Job
from ._ranks import Ranks

_EVERY = 1.0  # seconds between two moves of a bar


class Sampled(NamedTuple):
    """A summary of :func:`sample`, which has an example; the same on every rank."""

    samples: int  #: samples in the folder: all that were asked for
    found: int  #: samples that an earlier call had finished
    resumed: int  #: micro-batches whose chains went on from a saved state
    ranks: int
    seconds: float


def sample(
    sampler: Sampler | Callable[..., Tensor],
    shape: Sequence[int],
    *,
    ids: Any,
    noise: Noise | int,
    batch: int,
    out: Any,
    n_steps: int | None = None,
    init: Init | None = None,
    format: str = "npz",
    any_batch: bool = False,
    save_every: float = 60.0,
    progress: bool = False,
) -> Sampled:
    """Draw samples into the files of a folder: the same bytes for any number of processes, killed
    and called again or not.

    Call it in one process, or in all of torchrun's. The ids are cut into micro-batches, which the
    ranks take in turn; a file has one of them and appears whole. The same call goes on where an
    earlier one ended: it skips the finished files, and long chains go on from their last state.
    docs/distributed.md has the guarantee and its limits.

    Args:
        sampler: one of :mod:`pyebm.samplers`, or a function ``sampler(x0, noise=noise)`` that
            returns samples like x0, where ``noise`` has their ids; a function begins a micro-batch
            anew after a kill.
        shape: the shape of one sample.
        ids: the ids of the samples, each in [0, 2**32) and once: a range, ints, an int64 tensor or
            text, "0-9,20,30-39".
        noise: names the noise of the first step; a sample gets the noise of its id. An int n is
            ``Noise(n)``.
        batch: samples of a micro-batch. The last one is filled up with its last id, whose copies
            are dropped.
        out: a folder: a new one, or the one of the same run.
        n_steps: steps of the sampler; None for all of its schedule.
        init: ``init(ids, noise)`` makes x0 (B, *shape) from int64 ids (B,) and a Noise on a stream
            of its own, on the device where the sampler is to run; None for
            ``noise.randn((B, *shape))``.
        format: "npz" has x (B, *shape), ids (B,) and run.json in each file; "png" has a zip archive
            of pictures (1 or 3, H, W) from -1 to 1, named by their ids, with the same.
        any_batch: don't fill up the last micro-batch; a network's bits may depend on how many
            samples it is given.
        save_every: seconds between two saved states of a chain.
        progress: rank 0 shows a bar for all ranks (needs rich).

    Returns:
        :class:`Sampled`, once all ranks are done.

    Raises:
        TypeError, ValueError: an argument of the wrong type or value; a folder of another run, or
            damaged files; a first step whose bits differ between ranks, or from the folder's.
        OSError: a folder that another run is writing to, that holds other things, or whose disk is
            full. No finished file is lost or overwritten.

    Example:
        >>> import tempfile, pyebm
        >>> sampler = pyebm.samplers.Langevin(pyebm.targets.DoubleWell(), 0.01)
        >>> with tempfile.TemporaryDirectory() as out:
        ...     pyebm.distributed.sample(
        ...         sampler, (2,), ids=range(100), noise=0, batch=32, out=out, n_steps=10
        ...     ).samples
        100
    """
    return run(
        sampler,
        shape,
        ids=ids,
        noise=noise,
        batch=batch,
        out=out,
        n_steps=n_steps,
        init=init,
        format=format,
        any_batch=any_batch,
        save_every=save_every,
        progress=progress,
        about={},
    )


def run(
    sampler: Any, shape: Any, *, out: Any, progress: Any, about: dict[str, Any], **options: Any
) -> Sampled:
    """Runs :func:`sample`. about: further things that the files depend on, for run.json."""
    if not isinstance(out, (str, os.PathLike)):
        raise TypeError(f"sample: out must be a path, got {shown(out)}")
    job = Job(sampler, shape, **options)
    progress = checked_flag("sample", "progress", progress)
    began = time.perf_counter()
    with ExitStack() as stack:
        ranks = stack.enter_context(Ranks())
        folder = Folder(out, about | job.about | {"first_step": job.first_step()}, job.suffix)
        stack.callback(folder.close)
        _agree(ranks, folder)
        sums, wrong = folder.found(range(ranks.rank, job.batches, ranks.size), job.ids_of)
        parts = ranks.gathered((sums, wrong))
        if damaged := sorted(name for _, names in parts for name in names):
            raise ValueError(
                f"sample: {folder.path} has files that are cut short or damaged: {', '.join(damaged)}; "
                "move them away, and the same call makes them again"
            )
        sums = {number: checksum for found, _ in parts for number, checksum in found.items()}
        found = sum(len(job.ids_of(number)) for number in sums)
        left = [number for number in range(job.batches) if number not in sums]
        look = _looking(stack, folder, job.batches) if progress and ranks.rank == 0 else _no_look
        new, resumed = {}, 0
        for number in left[ranks.rank :: ranks.size]:
            x, went_on = job.samples(number, folder, look)
            ids = job.ids_of(number)
            new[number] = folder.add(number, job.members(x, ids), torch.tensor(ids, device="cpu"))
            resumed += went_on
            look()
        ranks.wait(look)
        look(True)
        new_parts = ranks.gathered((new, resumed))
        if ranks.rank == 0:
            folder.end(
                sums | {number: checksum for part, _ in new_parts for number, checksum in part.items()}
            )
        ranks.wait(_no_look)  # no rank returns before all files are there
        seconds = time.perf_counter() - began
        return Sampled(len(job.ids), found, sum(part[1] for part in new_parts), ranks.size, seconds)


def _agree(ranks: Ranks, folder: Folder) -> None:
    """Make sure that all ranks have the same run and that the folder is this run's; if not, every
    rank raises an error that says why."""
    runs = ranks.gathered(folder.about)
    for rank, other in enumerate(runs):
        if other != runs[0]:
            keys = [key for key in other if other[key] != runs[0].get(key)]
            raise ValueError(
                f"sample: ranks 0 and {rank} must run the same, but differ in {', '.join(keys)}"
                + (
                    "; their weights, code, threads or machines are not the same"
                    if "first_step" in keys
                    else ""
                )
            )
    ranks.by_first(folder.begin)


def _looking(stack: ExitStack, folder: Folder, batches: int) -> Callable[..., None]:
    """A function that shows in a bar how many micro-batches all ranks have finished, and which part
    of its own this rank has. It counts the folder's files, once a second."""
    tick = stack.enter_context(bar("sample", batches, wanted=True))
    seen, due = 0.0, 0.0

    def look(at_once: bool = False, part: float = 0.0) -> None:
        nonlocal seen, due
        if at_once or time.perf_counter() >= due:
            there = folder.files() + part
            tick(there - seen)
            seen, due = there, time.perf_counter() + _EVERY

    return look


def _no_look(at_once: bool = False, part: float = 0.0) -> None:
    del at_once, part
