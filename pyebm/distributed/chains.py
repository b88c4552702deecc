"""Many chains over ranks: which of them are a rank's, and all of them together for diagnostics."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from .._checks import check_plain, check_samples
from .._options import checked_count, checked_int, shown
from ._ranks import _initialised, among


def share(count: int) -> range:
    """This rank's part of ``range(count)``, the one that torch.chunk and a DTensor's ``Shard(0)``
    give it. Without torch.distributed and torchrun it is all of them.

    Raises TypeError or ValueError for a count that is none.

    Example:
        >>> import pyebm
        >>> mine = pyebm.distributed.share(1000)  # on rank 1 of 4: range(250, 500)
        >>> noise = pyebm.Noise(0, first_sample=mine.start)
        >>> x0 = noise.at(stream=9).randn((len(mine), 2))
    """
    count = checked_count("share", "count", count)
    dist = _initialised()
    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    return share_of(count, *((rank, ranks) if dist is None else (dist.get_rank(), dist.get_world_size())))


def share_of(count: int, rank: int, ranks: int) -> range:
    each = -(-count // ranks)
    return range(min(rank * each, count), min((rank + 1) * each, count))


def gather_chains(states: Tensor, dim: int = 1) -> Tensor:
    """All ranks' chains in one tensor, in the order of the ranks, on every rank: for R-hat and ESS
    over all of them.

    Args:
        states: (n_kept, B, ...) as a trajectory has them; B may differ between ranks.
        dim: the dimension of the chains.

    Returns:
        (n_kept, the ranks' B together, ...) on the device of states. Without torch.distributed,
        states.

    Raises TypeError or ValueError where states are no dense floating-point tensor with such a
    dimension, RuntimeError for several processes of torchrun without a process group.

    Example:
        >>> import torch, pyebm
        >>> run = pyebm.samplers.Langevin(torch.neg, 0.1)(torch.zeros(8, 2), 40, noise=0, thin=1)
        >>> pyebm.distributed.gather_chains(run.states).shape  # on two ranks: (40, 16, 2)
        torch.Size([40, 8, 2])
    """
    call = "gather_chains"
    check_samples(call, "states", states)
    check_plain(call, "states", states)
    dim = checked_int(call, "dim", dim)
    if not -states.dim() <= dim < states.dim():
        raise ValueError(f"{call}: dim must be one of states' {states.dim()} dimensions, got {shown(dim)}")
    dist = among(call)
    if dist is None:
        return states
    parts: list[Tensor] = [states] * dist.get_world_size()
    dist.all_gather_object(parts, states.detach().cpu())
    return torch.cat(parts, dim).to(states.device)
