"""The processes of a run: those of torch.distributed if there are several, else this one alone."""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

_POLL = 0.5  # seconds between two checks whether the other ranks are here
# A rank may be slow. A rank that dies closes its connections, and the others notice at once.
_PATIENCE = timedelta(days=365)

_Made = TypeVar("_Made")


class Ranks:
    """This process among the others. Only a few numbers move between them, so gloo carries them on
    GPUs too."""

    def __init__(self) -> None:
        self.rank, self.size = 0, 1
        self._dist = _initialised()
        # These variables mean that torchrun started the process.
        if self._dist is None and "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            import torch.distributed as dist

            # The process group stays until exit, since torchrun's store allows one set-up in a
            # process's life.
            dist.init_process_group("gloo")
            atexit.register(dist.destroy_process_group)
            self._dist = dist
        if self._dist is not None:
            self.rank, self.size = self._dist.get_rank(), self._dist.get_world_size()
            self._group = self._dist.new_group(backend="gloo", timeout=_PATIENCE)

    @property
    def group(self) -> Any:
        """The gloo group of all ranks; None for one process."""
        return None if self._dist is None else self._group

    def __enter__(self) -> Ranks:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def gathered(self, value: Any) -> list[Any]:
        """Every rank's value, on every rank."""
        if self._dist is None:
            return [value]
        values: list[Any] = [None] * self.size
        self._dist.all_gather_object(values, value, group=self._group)
        return values

    def by_first(self, call: Callable[[], _Made]) -> _Made:
        """Call ``call`` on rank 0 alone; return its result, or raise its error, on every rank."""
        result: Any = None
        if self.rank == 0:
            try:
                result = call()
            except (OSError, ValueError) as error:
                result = error
        first: _Made | Exception = self.gathered(result)[0]
        if isinstance(first, Exception):
            raise first
        return first

    def wait(self, look: Callable[[], object]) -> None:
        """Wait until all ranks are here; meanwhile call ``look`` now and then."""
        if self._dist is None:
            return
        there = self._dist.barrier(group=self._group, async_op=True)
        while self.rank == 0 and not there.is_completed():
            look()
            time.sleep(_POLL)
        there.wait()

    def close(self) -> None:
        if self._dist is not None:
            self._dist.destroy_process_group(self._group)


def among(call: str) -> Any:
    """The module torch.distributed, or None for a process alone.

    Raises RuntimeError where torchrun started several processes that don't know each other yet,
    since each would take itself for all.
    """
    dist = _initialised()
    if dist is None and "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RuntimeError(
            f"{call}: this is one of {os.environ['WORLD_SIZE']} processes, which must know each other: call"
            " torch.distributed.init_process_group() first"
        )
    return dist


def _initialised() -> Any:
    """The module torch.distributed if the program has set it up, else None."""
    dist = sys.modules.get("torch.distributed")
    return dist if dist is not None and dist.is_available() and dist.is_initialized() else None
