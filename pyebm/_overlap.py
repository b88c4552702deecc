"""Tests whether two tensors have a byte of memory in common: csrc/common/overlap.h in Python."""

from __future__ import annotations

from torch import Tensor

_MOST = 4096  # trials; after so many, in doubt, the tensors count as overlapping


def reach(tensor: Tensor) -> int:
    """The distance from the first element to the last in memory, in elements."""
    return sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))


def overlaps_itself(tensor: Tensor) -> bool:
    """Whether two elements may have one address. They can't if, with the dimensions sorted by
    stride, each one steps over all that the smaller ones reach."""
    below = 0
    for stride, size in sorted(
        (stride, size) for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if size > 1
    ):
        if stride <= below:
            return True
        below += stride * (size - 1)
    return False


def same(a: Tensor, b: Tensor) -> bool:
    """Whether every element shares its address with the other's element of the same index."""
    return (
        a.data_ptr() == b.data_ptr()
        and a.dtype == b.dtype
        and a.shape == b.shape
        and _strides(a) == _strides(b)
    )


def share_memory(a: Tensor, b: Tensor) -> bool:
    """Whether an element of a and one of b share memory: the distance between the tensors must then
    be a sum of multiples of their strides, each within its dimension."""
    terms: dict[int, list[int]] = {1: [1 - b.itemsize, a.itemsize - 1]}
    for tensor, sign in ((a, 1), (b, -1)):
        for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
            if stride and size > 1:
                term = terms.setdefault(stride * tensor.itemsize, [0, 0])
                term[sign > 0] += sign * (size - 1)
    tried = [0]
    return _reaches(
        sorted(((s, low, high) for s, (low, high) in terms.items()), reverse=True),
        b.data_ptr() - a.data_ptr(),
        tried,
    )


def _reaches(terms: list[tuple[int, int, int]], distance: int, tried: list[int]) -> bool:
    if not terms:
        return distance == 0
    (stride, least, most), *rest = terms
    low, high = (sum(term[0] * term[k] for term in rest) for k in (1, 2))
    for c in range(max(least, -((high - distance) // stride)), min(most, (distance - low) // stride) + 1):
        tried[0] += 1
        if tried[0] > _MOST or _reaches(rest, distance - c * stride, tried):
            return True
    return False


def _strides(tensor: Tensor) -> list[int]:
    return [stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if size != 1]
