"""A sampling job: checks its arguments and makes its micro-batches."""

from __future__ import annotations

import hashlib
import math
import re
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._bar import most_between
from .._checks import bound, check_samples
from .._modes import without_grad
from .._options import check_callable, check_choice, check_elements, checked_count, checked_flag, shown
from .._version import __version__
from ..noise import Noise, as_noise
from ..samplers import State
from ..samplers._loop import Sampler
from . import _archive
from ._folder import Folder
from ._ids import Ids

Init = Callable[[Tensor, Noise], Tensor]
_SUFFIX = {"npz": "npz", "png": "zip"}
_INIT_STREAM = 2**31  # counted from the noise's own; no sampler uses so many streams in a step


class Job:
    """The arguments of a call, checked; its methods make the micro-batch of a given number."""

    def __init__(
        self,
        sampler: Any,
        shape: Any,
        *,
        ids: Any,
        noise: Any,
        batch: Any,
        n_steps: Any,
        init: Any,
        format: Any,
        any_batch: Any,
        save_every: Any,
    ) -> None:
        call = "sample"
        check_callable(call, "sampler", sampler, "one of pyebm.samplers or a function of x0 and noise")
        if getattr(sampler, "group", None) is not None:
            raise ValueError(
                f"{call}: sampler must have no group, since each rank runs micro-batches of its own, got"
                f" {shown(sampler)}"
            )
        if init is not None:
            check_callable(call, "init", init, "a function of ids and noise, or None")
        check_choice(call, "format", format, tuple(_SUFFIX))
        if not isinstance(shape, (tuple, list, torch.Size)):
            raise TypeError(f"{call}: shape must be a sequence, the shape of one sample, got {shown(shape)}")
        self.sampler, self.init, self.format = sampler, init, str(format)
        self.suffix = _SUFFIX[self.format]
        self.shape = tuple(checked_count(call, "shape", size) for size in shape)
        check_elements(call, "shape", math.prod(self.shape))
        if format == "png" and (len(self.shape) != 3 or self.shape[0] not in (1, 3) or 0 in self.shape):
            raise ValueError(f"{call}: shape must be (1, H, W) or (3, H, W) for pictures, got {self.shape}")
        self.ids, self.batch = Ids(call, ids), checked_count(call, "batch", batch, 1)
        self.batches = -(-len(self.ids) // self.batch)
        if isinstance(noise, torch.Generator):
            raise TypeError(
                f"{call}: noise must be a Noise or an int (its seed), got a Generator, which draws anew for"
                " each call"
            )
        self.noise = as_noise(call, noise)
        if (
            not isinstance(self.noise.seed, int)
            or self.noise.sample_ids is not None
            or self.noise.first_sample
        ):
            raise ValueError(
                f"{call}: noise must have one seed and leave its samples to ids, got {self.noise!r}"
            )
        self.any_batch = checked_flag(call, "any_batch", any_batch)
        self.save_every = bound(call, "save_every", save_every)
        if not self.save_every >= 0:
            raise ValueError(f"{call}: save_every must be seconds >= 0, got {self.save_every}")
        self.n_steps = self._steps(n_steps)
        self.about = {
            "sampler": _described(sampler),
            "shape": list(self.shape),
            "ids": str(self.ids),
            "noise": {"seed": self.noise.seed, "step": self.noise.step, "stream": self.noise.stream},
            "batch": self.batch,
            "n_steps": self.n_steps,
            "init": None if init is None else _described(init),
            "format": self.format,
            "any_batch": self.any_batch,
            "versions": {"pyebm": __version__, "torch": torch.__version__},
        }

    def _steps(self, n_steps: Any) -> int | None:
        if not isinstance(self.sampler, Sampler):
            if n_steps is not None:
                raise ValueError(
                    f"sample: n_steps must be None for a sampler that is a function, got {shown(n_steps)}"
                )
            return None
        length, first = self.sampler.length, self.noise.step
        if n_steps is None:
            if length is None:
                raise TypeError(
                    "sample: n_steps must be an int, got None; this sampler has no schedule that ends by"
                    " itself"
                )
            n_steps = length - first
        count = checked_count("sample", "n_steps", n_steps)
        return count if length is None else min(count, length - first)

    def ids_of(self, number: int) -> list[int]:
        ids: list[int] = self.ids[number * self.batch : (number + 1) * self.batch]
        return ids

    def start(self, number: int) -> State:
        """A micro-batch's x0 and noise. The last micro-batch's ids are filled up to a whole
        batch."""
        listed = self.ids_of(number)
        if not self.any_batch:
            listed += listed[-1:] * (self.batch - len(listed))
        ids = torch.tensor(listed, device="cpu")
        noise = Noise(self.noise.seed, sample_ids=ids, step=self.noise.step, stream=self.noise.stream)
        apart = noise.at(stream=(noise.stream + _INIT_STREAM) % 2**32)
        shape = (len(ids), *self.shape)
        if self.init is None:
            return State(apart.randn(shape), noise)
        x0 = self.init(ids, apart)
        check_samples("sample", "init's x0", x0)
        if tuple(x0.shape) != shape:
            raise ValueError(f"sample: init must return {shape}, got {tuple(x0.shape)}")
        return State(x0, noise)

    def first_step(self) -> str:
        """A checksum of the first micro-batch after one step. It differs for another network, and
        on a machine that computes other bits."""
        start = self.start(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the run itself will warn
            x = (
                self._advanced(start, 1).x
                if self.n_steps
                else self._drawn(start)
                if self.n_steps is None
                else start.x
            )
        return hashlib.sha256(_archive.raw(start.x) + _archive.raw(x)).hexdigest()

    def samples(self, number: int, folder: Folder, look: Callable[..., None]) -> tuple[Tensor, bool]:
        """A micro-batch's samples, and whether their chains went on from a saved state; ``look`` is
        told which part of them is done, a hundred times at least."""
        state = self.start(number)
        if self.n_steps is None:
            return self._drawn(state), False
        end = state.noise.step + self.n_steps
        kept = folder.kept(number, state)
        state, at_once, due = kept or state, 1, time.perf_counter() + self.save_every
        most = most_between(self.n_steps)
        while state.noise.step < end:
            began = time.perf_counter()
            state = self._advanced(state, min(at_once, most, end - state.noise.step))
            now = time.perf_counter()
            at_once = at_once * 2 if now - began < self.save_every / 4 else max(at_once // 2, 1)
            look(part=1 - (end - state.noise.step) / self.n_steps)
            if now >= due and state.noise.step < end:
                folder.keep(number, state)
                due = time.perf_counter() + self.save_every
        return state.x, kept is not None

    def _advanced(self, state: State, count: int) -> State:
        after: State = self.sampler(state, count)
        return after

    def _drawn(self, start: State) -> Tensor:
        x: Tensor = without_grad(self.sampler)(start.x, noise=start.noise)
        check_samples("sample", "the sampler's result", x)
        if x.shape != start.x.shape:
            raise ValueError(
                f"sample: sampler must return {tuple(start.x.shape)} like x0, got {tuple(x.shape)}"
            )
        return x

    def members(self, x: Tensor, ids: list[int]) -> dict[str, bytes]:
        """The members of a micro-batch's file, without the copies that filled the batch up."""
        x = x[: len(ids)]
        if self.format == "npz":
            return {"x.npy": _archive.npy(x)}
        if not bool(x.isfinite().all()):
            bad = [
                one
                for one, fine in zip(ids, x.flatten(1).isfinite().all(1).tolist(), strict=True)
                if not fine
            ]
            raise ValueError(
                f"sample: a PNG can't show numbers that are not finite, as samples {shown(bad)} have; take"
                " format='npz'"
            )
        return {f"{one:010d}.png": _archive.png(image) for one, image in zip(ids, x, strict=True)}


def _described(what: Any) -> str:
    """A sampler or a function, described in words that are the same in every process."""
    name = getattr(what, "__qualname__", None)
    return re.sub(r" at 0x[0-9a-f]+", "", f"{what.__module__}.{name}" if name else repr(what))
