"""Seeds given one a sample, as a Noise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .._checks import check_tensor
from .._name import to_int64
from .._options import checked_int, shown
from ..noise import Noise


def noise_of_seeds(call: str, name: str, seeds: Sequence[int] | Tensor, bits: int = 64) -> Noise:
    """A Noise in which a sample's numbers follow its own seed, whatever its place in the batch.
    With bits=32 only the lowest 32 bits of a seed count."""
    named = _int64(call, name, seeds, bits)
    return Noise(named, sample_ids=torch.zeros_like(named))


def _int64(call: str, name: str, seeds: Sequence[int] | Tensor, bits: int) -> Tensor:
    if isinstance(seeds, Tensor):
        check_tensor(call, name, seeds)
        if seeds.is_floating_point() or seeds.dtype == torch.bool or seeds.dim() != 1 or seeds.is_meta:
            raise TypeError(f"{call}: {name} must be ints, one a sample, got {shown(seeds)}")
        named = seeds.to("cpu", torch.int64)
        return named & 0xFFFFFFFF if bits == 32 else named
    listed = hasattr(seeds, "__iter__") and hasattr(seeds, "__len__") and not isinstance(seeds, (str, bytes))
    if not listed or not len(seeds):
        raise TypeError(f"{call}: {name} must be ints, one a sample, got {shown(seeds)}")
    numbers = [checked_int(call, name, seed) for seed in seeds]
    if bits == 32:
        numbers = [seed & 0xFFFFFFFF for seed in numbers]
    if not all(-(2**63) <= seed < 2**64 for seed in numbers):
        raise ValueError(f"{call}: {name} must fit 64 bits, [-2**63, 2**64)")
    return torch.tensor([to_int64(seed) for seed in numbers], dtype=torch.int64, device="cpu")
