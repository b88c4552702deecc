"""A noise whose step lives on the device, for CUDA graphs, which run without the host."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from ._name import WORD, Named, readable
from ._options import checked_count, checked_device, shown
from .noise import Noise


class NoiseCounter(Noise):
    """A :class:`Noise` on one device whose step is advanced in place, without the host: the form
    that CUDA graphs need.

    A captured graph replays the same launches, so a step that the host counts would replay the same
    noise. Here the advance is a launch of its own, which is captured too, so each replay draws the
    next step's noise. On the CPU a counter gives the same numbers, without a graph. The Noise that
    it was made from stays as it is.

    Args:
        noise: the sequence, and the step to begin at.
        device: the device of the tensors that it is used with.

    Raises:
        TypeError: noise is no plain Noise.
        ValueError: a device that there is no name of; steps to advance by that are not >= 0;
            tensors on another device than the counter's.
        RuntimeError: a device that is not available.

    Example:
        >>> import torch, pyebm
        >>> noise = pyebm.NoiseCounter(pyebm.Noise(0))
        >>> x = torch.zeros(4, 2)
        >>> for _ in range(3):
        ...     x = pyebm.langevin_step(x, -x, 0.1, noise.advance_())
        >>> noise.step
        3
    """

    __slots__ = ()

    def __init__(self, noise: Noise, device: torch.device | str = "cpu") -> None:
        if type(noise) is not Noise:
            raise TypeError(f"NoiseCounter: noise must be a Noise, got {type(noise).__name__}")
        self._set(noise._seed, noise._first_sample, noise._step, noise._stream, noise._seeds, noise._ids)
        try:
            self._name = self._name.to(checked_device("NoiseCounter", device))
        except AssertionError as error:  # a torch that was built without the device
            raise RuntimeError(f"NoiseCounter: device {device} is not available: {error}") from None
        seeds, ids = (None if rows is None else rows.to(device) for rows in (noise._seeds, noise._ids))
        self._copies = {self._name.device: (self._name, seeds, ids)}

    @property
    def step(self) -> int:
        """The current step; reading it waits for the device."""
        return int(self._name[2])

    def advance_(self, steps: int = 1) -> NoiseCounter:
        """Advance by ``steps`` >= 0, on the device. The step must stay below 2**32, which is
        checked on the CPU only. Returns itself."""
        steps = checked_count("NoiseCounter", "steps", steps)
        if steps >= WORD or (self._name.is_cpu and readable(self._name) and self.step + steps >= WORD):
            raise ValueError(f"NoiseCounter: steps must stay below 2**32, got {shown(steps)} more")
        self._name[2:3].add_(steps)
        return self

    def at(self, *, step: int | None = None, stream: int | None = None) -> Noise:
        """A plain Noise at another step or stream. Without a step it takes the counter's, and waits
        for the device to read it."""
        return Noise.at(self, step=self.step if step is None else step, stream=stream)

    def shard(self, *, first_sample: int) -> Noise:
        """As :meth:`Noise.shard`, of a plain Noise at the counter's step; reading that step waits
        for the device."""
        return self.at().shard(first_sample=first_sample)

    def _walk(self, n_steps: int, like: Tensor) -> Iterator[Noise]:
        return self.at()._walk(n_steps, like)

    def _named(self, batch: int, like: Tensor) -> Named:
        if like.device != self._name.device:
            raise ValueError(
                f"noise: this NoiseCounter lives on {self._name.device}, got samples on {like.device}"
            )
        return super()._named(batch, like)

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # it changes; two are equal that name the same step now, for which they wait for the device

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.at(), self._name)


def _restored(noise: Noise, like: Tensor) -> NoiseCounter:
    """A counter with a step of its own, on the device of ``like``. ``like`` is a tensor so that
    torch.load's map_location applies to it."""
    return NoiseCounter(noise, like.device)
