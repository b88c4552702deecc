"""The rows of a buffer, spread over ranks as a DTensor's ``Shard(0)`` spreads them: a rank fetches
and stores any of them by their numbers."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .._options import shown
from .._parts import Parts


def checked_mesh(op: str, mesh: Any) -> Any:
    """A device mesh of one dimension, or None."""
    if mesh is None:
        return None
    module = sys.modules.get("torch.distributed.device_mesh")
    kind = getattr(module, "DeviceMesh", None)
    if kind is None or not isinstance(mesh, kind):
        raise TypeError(f"{op}: mesh must be a DeviceMesh of torch.distributed or None, got {shown(mesh)}")
    if mesh.ndim != 1:
        raise ValueError(
            f"{op}: mesh must have one dimension, got {mesh.ndim}; take one of them, mesh['name']"
        )
    return mesh


class Shards:
    """Where each of ``size`` rows is: every rank has as many as torch.chunk gives it."""

    def __init__(self, mesh: Any, size: int) -> None:
        self.mesh, self.size, self.group = mesh, size, mesh.get_group()
        self.rank, self.ranks = mesh.get_local_rank(), mesh.size()
        self.each = -(-size // self.ranks)
        self.first = min(self.rank * self.each, size)
        self.count = min(size - self.first, self.each)

    def __deepcopy__(self, memo: Any) -> Shards:
        return self  # it holds no rows, and a process group can't be copied

    def zeros(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        from torch.distributed.tensor import Shard, zeros

        made: Tensor = zeros((self.size, *shape), dtype=dtype, device_mesh=self.mesh, placements=[Shard(0)])
        return made

    def route(self, ids: Tensor) -> Route:
        return Route(self, ids)


class Route:
    """The way between rows and the ranks that want them. ``ids`` are the rows that this rank wants.
    Every rank knows all ranks' ids, 8 bytes each, so that all see the same mistakes."""

    def __init__(self, shards: Shards, ids: Tensor) -> None:
        self.group, ranks = shards.group, shards.ranks
        parts = Parts(shards.group, ids.shape[0], ids.device)
        self.every = parts.whole(ids)
        counts = torch.tensor(parts.counts, device=ids.device)
        wanted_by = torch.arange(ranks, device=ids.device).repeat_interleave(counts)
        here, holder = self.every // shards.each == shards.rank, ids // shards.each
        self.rows = self.every[here] - shards.first  # of those here, which are wanted, by who wants them
        self.order = holder.argsort(stable=True)
        self.leave = torch.bincount(wanted_by[here], minlength=ranks).tolist()
        self.arrive = torch.bincount(holder, minlength=ranks).tolist()

    def fetched(self, held: Tensor) -> Tensor:
        """The rows with this rank's ids, out of the rows that each rank holds."""
        made = held.new_empty((len(self.order), *held.shape[1:]))
        made[self.order] = self._moved(held[self.rows], self.leave, self.arrive)
        return made

    def sent(self, made: Tensor) -> Tensor:
        """Gives rows with this rank's ids to those who hold them; returns what came here, for
        ``self.rows``."""
        return self._moved(made[self.order], self.arrive, self.leave)

    def _moved(self, rows: Tensor, leave: list[int], arrive: list[int]) -> Tensor:
        import torch.distributed as dist

        shape = (sum(arrive), *rows.shape[1:])
        out = rows.new_empty((shape[0], math.prod(shape[1:])))
        dist.all_to_all_single(out, rows.reshape(len(rows), out.shape[1]), arrive, leave, group=self.group)
        return out.reshape(shape)
