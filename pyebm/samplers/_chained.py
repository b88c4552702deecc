"""The base of bodies that take many steps in one kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._stretches import first_stretch
from ._body import Body
from ._run import Run


class Chained(Body):
    """A body with a chain's kernel. A subclass has ``params``, the target's numbers, and defines
    :meth:`launch`."""

    fused = keeps = True
    params: Tensor
    last: Tensor | None = None  # the kept state that the last launch ended with, if it is kept

    def __init__(self, run: Run, *rest: Any) -> None:
        super().__init__(run, *rest)
        self.name_noise()

    def name_noise(self) -> None:
        """Make the name of the noise. On a GPU the device fills it in, so nothing waits."""
        run, on_host = self.run, self.run.x.is_cpu
        self._noise_name = (
            run.noise._named(run.x.shape[0], run.x)[0].clone()
            if on_host
            else run.noise._block(0, 1, 1, run.x).flatten()
        )

    def launch(self, first: int, count: int, name: Tensor, states: Tensor | None, thin: int | None) -> None:
        """Take the steps first, ..., first + count - 1 by one call of an op. With thin, every
        thin-th state goes to ``states``."""
        raise NotImplementedError

    def at_once(self) -> int:
        return first_stretch(self.x, self.params, self.run.n_steps)

    def advance(self, done: int, count: int, kept: Tensor | None, thin: int | None) -> None:
        first, self.last = self.run.first + done, None
        name = self._noise_name
        if torch.compiler.is_compiling():  # AOTInductor refuses a write into a slice
            self._noise_name = torch.cat((name[:2], name.new_full((1,), first), name[3:]))
        else:
            name.select(0, 2).fill_(first)
        if kept is None or thin is None:
            return self.launch(first, count, self._noise_name, None, None)
        if (done + count) % thin == 0:
            self.last = kept.select(0, (done + count) // thin - 1)
        inside = done % thin == 0 and count >= thin
        states = kept.narrow(0, done // thin, count // thin) if inside else None
        self.launch(first, count, self._noise_name, states, thin if inside else None)
        if not inside and self.last is not None:
            self.last.copy_(self.x)
        return None

    def finish(self) -> None:
        super().finish()
        if self.last is not None:  # the schedule's last state is the finished one
            self.last.copy_(self.x)
