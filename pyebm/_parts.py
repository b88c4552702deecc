"""Rows of samples, one for each chain, that the ranks of a process group hold in parts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._checks import is_dtensor
from ._options import shown


def checked_group(op: str, group: Any) -> Any:
    """A process group that this process belongs to, or None. torch.distributed is imported only if
    there is one."""
    if group is None:
        return None
    import torch.distributed as dist

    if not dist.is_available() or not isinstance(group, dist.ProcessGroup):
        raise TypeError(
            f"{op}: group must be a process group of torch.distributed or None, got {shown(group)}"
        )
    return group


class Parts:
    """How many rows each rank has. The whole is the ranks' rows in the order of the ranks.

    Args:
        group: the process group; None for a process alone, whose rows are the whole.
        count: the rows of this rank.
        device: where they are.
    """

    def __init__(self, group: Any, count: int, device: torch.device) -> None:
        self.group, self.counts, rank = group, [count], 0
        if group is not None:
            import torch.distributed as dist

            rank, ranks = dist.get_rank(group), dist.get_world_size(group)
            counts = torch.empty(ranks, dtype=torch.int64, device=device)
            mine = torch.full((1,), count, dtype=torch.int64, device=device)
            dist.all_gather(list(counts.split(1)), mine, group=group)
            self.counts = counts.tolist()
        first = sum(self.counts[:rank])
        self.mine, self.total = slice(first, first + count), sum(self.counts)

    def own(self, rows: Tensor) -> Tensor:
        """This rank's rows of the whole; they share its memory."""
        return rows if self.group is None else rows[self.mine]

    def whole(self, rows: Tensor) -> Tensor:
        """All ranks' rows. Ranks with fewer rows send some that are dropped, since all must send
        equally many."""
        if self.group is None:
            return rows
        import torch.distributed as dist

        sent = rows.new_zeros((max(self.counts), *rows.shape[1:]))
        sent[: rows.shape[0]] = rows
        parts = [torch.empty_like(sent) for _ in self.counts]
        dist.all_gather(parts, sent, group=self.group)
        return torch.cat([part[:count] for part, count in zip(parts, self.counts, strict=True)])


def local(rows: Tensor) -> Tensor:
    """The rows that are here, of a DTensor; all of another tensor. They share their memory."""
    sharded: Any = rows
    return sharded.to_local() if is_dtensor(rows) else rows
