"""Training over ranks: names the noise of a rank's samples."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .._options import checked_flag, checked_int, shown
from ..noise import Noise, as_noise
from ._ranks import among


def noise_for(
    indices: Tensor | Sequence[int], noise: Noise | int | None = None, *, check: bool = True
) -> Noise:
    """The noise of this rank's samples, by their indices in the data set. A sample gets the noise
    that it would get in one process with all samples.

    With it, DDP's gradient is that of one process on the whole batch, whatever the number of ranks.

    Args:
        indices: the indices of this rank's batch, (B,), ints or an int64 tensor, as a
            DistributedSampler gives them.
        noise: names the seed, step and stream, the same on all ranks; an int n is ``Noise(n)``.
            None draws a seed on rank 0 from torch's default generator, for all ranks, a new one in
            each call.
        check: warn where samples share their noise; the ranks then tell each other their indices, 8
            bytes a sample.

    Returns:
        A :class:`pyebm.Noise` with ``sample_ids=indices``.

    Raises TypeError or ValueError for indices that are none, and for a noise that lists samples of
    its own; RuntimeError for several processes of torchrun that have no process group, if they
    must tell each other anything.

    Warns (RuntimeWarning) where an index is twice in the batch of all ranks: both samples get the
    same noise. A DistributedSampler without ``drop_last`` fills the ranks' shares up with such
    copies.

    Example:
        >>> import torch, pyebm
        >>> noise = pyebm.distributed.noise_for([7, 2], pyebm.Noise(0, step=3))
        >>> torch.equal(noise.randn((2, 4)), pyebm.Noise(0, step=3).randn((8, 4))[[7, 2]])
        True
    """
    call = "noise_for"
    check = checked_flag(call, "check", check)
    dist = among(call) if check or noise is None else None
    if noise is None:
        drawn = [Noise()]
        if dist is not None:
            dist.broadcast_object_list(drawn, src=0)
        noise = drawn[0]
    noise = as_noise(call, noise)
    if not isinstance(noise.seed, int) or noise.sample_ids is not None or noise.first_sample:
        raise ValueError(f"{call}: noise must have one seed and leave its samples to indices, got {noise!r}")
    try:
        listed = indices
        if isinstance(indices, (str, bytes, dict, set)):
            raise TypeError(f"got {shown(indices)}")
        if not isinstance(indices, Tensor):
            listed = torch.tensor(
                [checked_int(call, "indices", one) for one in indices], dtype=torch.int64, device="cpu"
            )
        named = Noise(noise.seed, sample_ids=listed, step=noise.step, stream=noise.stream)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{call}: indices must be ints in [0, 2**32) or an int64 tensor (B,): {error}") from None
    if check:
        _warn_of_shared(named, dist)
    return named


def _warn_of_shared(noise: Noise, dist: Any) -> None:
    ids = noise.sample_ids
    assert ids is not None
    every = [ids]
    if dist is not None:
        every = [ids] * dist.get_world_size()
        dist.all_gather_object(every, ids)
    values, counts = torch.cat(every).unique(return_counts=True)
    twice = values[counts > 1]
    if len(twice):
        some = ", ".join(map(str, twice[:5].tolist())) + (", ..." if len(twice) > 5 else "")
        warnings.warn(
            f"noise_for: {len(twice)} of the batch's samples have their index more than once, and so the same"
            f" noise: {some}",
            RuntimeWarning,
            stacklevel=3,
        )
