"""A noise's name: its numbers, and the tensors that the kernels read, on the device where they
run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch._subclasses import FakeTensor

from ._checks import check_dense, check_plain
from ._options import checked_int, shown
from ._small_calls import in_one_step

WORD = 2**32
_CPU = torch.device("cpu")  # names are made on the CPU, whatever the default device
_BLOCK = 1024  # a walk makes the names of so many steps at once
Named = tuple[Tensor, Tensor | None, Tensor | None]


class Name:
    """The numbers that name a :class:`pyebm.Noise`, and the tensors made from them."""

    __slots__ = (
        "__weakref__",
        "_copies",
        "_first_sample",
        "_ids",
        "_name",
        "_seed",
        "_seeds",
        "_step",
        "_stream",
    )

    _seed: int | Tensor  # a tensor if there is one per sample, or if compiled code drew it
    _first_sample: int
    _step: int
    _stream: int
    _seeds: Tensor | None
    _ids: Tensor | None
    _name: Tensor  # int64 (seed, first_sample, step, stream), as the ops take it
    _copies: dict[torch.device, Named]  # the name, seeds and ids on other devices

    def _set(
        self,
        seed: int | Tensor,
        first_sample: int,
        step: int,
        stream: int,
        seeds: Tensor | None,
        ids: Tensor | None,
    ) -> None:
        self._seed, self._first_sample, self._step, self._stream = seed, first_sample, step, stream
        self._seeds, self._ids = seeds, ids
        if seeds is None and isinstance(seed, Tensor):
            rest = torch.tensor([first_sample, step, stream], dtype=torch.int64, device=_CPU)
            self._name = torch.cat((seed.reshape(1), rest))
        else:
            key = 0 if isinstance(seed, Tensor) else to_int64(seed)
            self._name = name_tensor(key, first_sample, step, stream)
        self._copies = {}

    # The properties have no setters, since a Noise is immutable.
    @property
    def seed(self) -> int | Tensor:
        """The seed given, an int or int64 (B,)."""
        if self._seeds is not None:
            return self._seeds.clone()
        # The seed is a tensor if compiled code drew it.
        return self._seed if isinstance(self._seed, int) else int(self._seed)

    @property
    def first_sample(self) -> int:
        """The id of the first sample."""
        return self._first_sample

    @property
    def sample_ids(self) -> Tensor | None:
        """The ids given, int64 (B,), or None where they run from ``first_sample``."""
        return None if self._ids is None else self._ids.clone()

    @property
    def step(self) -> int:
        """The step, the counter's third word."""
        return self._step

    @property
    def stream(self) -> int:
        """The stream, the counter's fourth word."""
        return self._stream

    def _key(self) -> tuple[Any, ...]:
        """A key that is equal for two Noises that name the same numbers for the same samples."""
        seeds = to_int64(cast(int, self.seed)) if self._seeds is None else tuple(self._seeds.tolist())
        ids = None if self._ids is None else tuple(self._ids.tolist())
        return seeds, self.first_sample, ids, self.step, self.stream

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def _of(self, ids: Tensor | None) -> Any:
        """The same sequence for other samples: those with these ids, int64 on the CPU, in
        [0, 2**32), which nobody else writes to; or those from 0 on."""
        new = object.__new__(type(self))
        new._set(self._seed, 0, self._step, self._stream, self._seeds, ids)
        return new

    def _walk(self, n_steps: int, like: Tensor) -> Iterator[Any]:
        """Yields this noise at its step, the next step, and so on. Samplers use it so that a step
        needs neither build nor move a tensor."""
        for first in range(0, n_steps, _BLOCK):
            names = self._block(first, min(_BLOCK, n_steps - first), 1, self._name).squeeze(1)
            on_device = names.to(like.device)
            _, seeds, ids = self._named(like.shape[0], like)
            for k, (name, copy) in enumerate(zip(names.unbind(), on_device.unbind(), strict=True)):
                noise = object.__new__(type(self))
                noise._seed, noise._first_sample, noise._stream = self._seed, self._first_sample, self._stream
                noise._step = self._step + first + k
                noise._seeds, noise._ids, noise._name = self._seeds, self._ids, name
                noise._copies = {like.device: (copy, seeds, ids)}
                yield noise

    def _block(self, first: int, count: int, streams: int, like: Tensor) -> Tensor:
        """The names of ``count`` steps from ``step + first`` on, each for ``streams`` streams:
        int64 (count, streams, 4).

        They are filled in on the device, so nothing is copied and nothing waits.
        """
        device = like.device
        begin = self._step + first
        step = (
            torch.arange(begin, begin + count, dtype=torch.int64, device=device)
            .unsqueeze(1)
            .expand(count, streams)
        )
        stream = torch.arange(self._stream, self._stream + streams, dtype=torch.int64, device=device).expand(
            count, streams
        )
        if self._seeds is None and isinstance(self._seed, Tensor):
            seed = self._seed.to(device).expand_as(step)
        else:
            seed = torch.full_like(step, 0 if isinstance(self._seed, Tensor) else to_int64(self._seed))
        return torch.stack((seed, torch.full_like(step, self._first_sample), step, stream), dim=-1)

    def _rows(self, batch: int, like: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Checks that the batch fits; returns the seeds and ids per sample, or None for each that
        is missing, on the device of ``like``."""
        if self._seeds is None and self._ids is None and self._first_sample + batch <= WORD:
            return None, None
        return self._named(batch, like)[1:]

    def _check_batch(self, batch: int) -> None:
        """Checks that this noise names so many samples."""
        # The check is left out under torch.compile, where it would be a guard on first_sample; the
        # CPU kernel still makes its own.
        if self._ids is None and not torch.compiler.is_compiling() and self._first_sample + batch > WORD:
            raise ValueError(
                f"noise: sample ids must be in [0, 2**32), got first_sample={self._first_sample} and"
                f" {shown(batch)} samples"
            )
        if self._seeds is not None or self._ids is not None:
            for name, rows in (("seed", self._seeds), ("sample_ids", self._ids)):
                if rows is not None and rows.shape[0] != batch:
                    raise ValueError(f"noise: {name} names {rows.shape[0]} samples, got a batch of {batch}")

    def _named(self, batch: int, like: Tensor) -> Named:
        """Checks that the batch fits; returns the tensors that name this noise to a kernel, on the
        device of ``like``."""
        self._check_batch(batch)
        seeds, ids = self._seeds, self._ids
        # A fake mode that takes no real tensors gets fake ones. (Tracers take real ones, as
        # constants.)
        if type(like) is FakeTensor and not like.fake_mode.allow_non_fake_inputs:
            made = [
                None if t is None else like.fake_mode.from_tensor(t).to(like.device)
                for t in (self._name, seeds, ids)
            ]
            return cast(Named, tuple(made))
        if like.is_cpu:
            return self._name, seeds, ids
        device = like.device
        copy = self._copies.get(device)
        if copy is None:
            copy = cast(Named, tuple(None if t is None else t.to(device) for t in (self._name, seeds, ids)))
            if _lasting(copy[0]):
                self._copies[device] = copy
        return copy


@in_one_step
def name_tensor(seed: int, first_sample: int, step: int, stream: int) -> Tensor:
    """The numbers as the ops take them, int64 (4,)."""
    return torch.tensor([seed, first_sample, step, stream], dtype=torch.int64, device=_CPU)


def to_int64(seed: int) -> int:
    """The 64 bits of ``seed`` as the signed number that an int64 tensor holds."""
    return seed - 2**64 if seed >= 2**63 else seed


def word(name: str, value: int) -> int:
    """A number of 32 bits, checked."""
    if type(value) is not int:
        value = checked_int("Noise", name, value)
    if not 0 <= value < WORD:
        raise ValueError(f"Noise: {name} must be in [0, 2**32), got {shown(value)}")
    return value


def per_sample(name: str, value: Tensor) -> Tensor:
    """A copy on the CPU, int64 (B,). It is a copy so that a later write to the caller's tensor
    can't change the noise; it is on the CPU whatever the default device."""
    if value.dtype != torch.int64:
        raise TypeError(f"Noise: {name} must be int64, got {value.dtype}")
    check_plain("Noise", name, value)
    check_dense("Noise", name, value)
    if value.dim() != 1:
        raise ValueError(f"Noise: {name} must have shape (B,), got {tuple(value.shape)}")
    if value.is_meta:
        raise ValueError(
            f"Noise: {name} must hold numbers, got a tensor on the meta device, which holds none"
        )
    return value.detach().to(_CPU, copy=True)


def drawn_seed() -> int | Tensor:
    """A seed from the CPU's default generator; a tensor in traced code, where the seed is not known
    before the code runs."""
    drawn = torch.randint(-(2**63), 2**63 - 1, (), dtype=torch.int64, device=_CPU)
    return drawn if torch.compiler.is_compiling() or type(drawn) is FakeTensor else int(drawn)


def readable(value: Tensor) -> bool:
    """Whether the host may read the tensor's numbers; not while code is traced."""
    return not torch.compiler.is_compiling() and type(value) is not FakeTensor


def _lasting(made: Tensor) -> bool:
    """Whether a tensor stays valid after the call; a tracer's or a transform's tensor does not."""
    return (
        readable(made) and type(made) is Tensor and not torch._C._functorch.is_functorch_wrapped_tensor(made)
    )
