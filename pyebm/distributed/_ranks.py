"""The processes of a run: torch.distributed's where there are several, else this one alone."""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

_POLL = 0.5  # seconds between two looks at how far the others are
_PATIENCE = timedelta(
    days=365
)  # a rank may be slow; one that died closes its connections, which the others notice at once


class Ranks:
    """This process among the others. What moves between them is a few numbers, so gloo carries it
    on GPUs too."""

    def __init__(self) -> None:
        self.rank, self.size = 0, 1
        self._dist = _initialised()
        if (
            self._dist is None and "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1
        ):  # torchrun's
            import torch.distributed as dist

            # It stays: torchrun's store is there for one set-up in a process's life.
            dist.init_process_group("gloo")
            atexit.register(dist.destroy_process_group)
            self._dist = dist
        if self._dist is not None:
            self.rank, self.size = self._dist.get_rank(), self._dist.get_world_size()
            self._group = self._dist.new_group(backend="gloo", timeout=_PATIENCE)

    def gathered(self, value: Any) -> list[Any]:
        """Every rank's value, on every rank."""
        if self._dist is None:
            return [value]
        values: list[Any] = [None] * self.size
        self._dist.all_gather_object(values, value, group=self._group)
        return values

    def wait(self, look: Callable[[], object]) -> None:
        """Until all ranks are here, looking around now and then."""
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


def _initialised() -> Any:
    """torch.distributed, where the program has set it up."""
    dist = sys.modules.get("torch.distributed")
    return dist if dist is not None and dist.is_available() and dist.is_initialized() else None
