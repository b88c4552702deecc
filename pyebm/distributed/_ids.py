"""A run's sample ids, in the order given, held as a few ranges however many ids there are."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from .._name import WORD
from .._options import checked_int, shown

_PART = re.compile(r"\s*(\d{1,10})(?:\s*-\s*(\d{1,10}))?\s*", re.ASCII)


class Ids(Sequence[int]):
    """Ids of 32 bits, each at most once.

    Args:
        call: the name of the public call, for messages.
        given: a range, ints in a sequence or an int64 tensor, or text such as "0-49999" or
            "0-9,20,30-39".
    """

    def __init__(self, call: str, given: Any) -> None:
        self.call = call
        self.parts = list(self._read(given))
        if not self.parts:
            raise ValueError(f"{call}: ids must name one sample or more, got none")
        for part in self.parts:
            if not 0 <= part[0] <= part[-1] < WORD:
                raise ValueError(f"{call}: ids must be in [0, 2**32), got {_text(part)}")
        ordered = sorted(self.parts, key=lambda part: part.start)
        for before, after in pairwise(ordered):
            if after.start < before.stop:
                raise ValueError(
                    f"{call}: ids must name a sample once, got {_text(before)} and {_text(after)}, which"
                    " overlap"
                )
        self.ends = list(accumulate(map(len, self.parts)))

    def _read(self, given: Any) -> Iterator[range]:
        if isinstance(given, Ids):
            return iter(given.parts)
        if isinstance(given, str):
            return _joined(self._parsed(part) for part in given.split(","))
        if isinstance(given, range) and given.step == 1:
            return iter([given] if len(given) else [])
        if isinstance(given, Tensor):
            plain = given.dtype is torch.int64 and given.dim() == 1 and given.layout is torch.strided
            if not plain or given.is_nested or given.is_meta:
                raise TypeError(
                    f"{self.call}: ids must be an int64 tensor (n,) where they are a tensor, got"
                    f" {shown(given)}"
                )
            given = given.tolist()
        elif hasattr(given, "tolist"):  # a numpy array
            given = given.tolist()
        if isinstance(given, (bytes, bytearray)) or not isinstance(given, Sequence):
            must = "a range, ints, an int64 tensor or text like '0-49999'"
            raise TypeError(f"{self.call}: ids must be {must}, got {shown(given)}")
        numbers = [checked_int(self.call, "ids", one) for one in given]
        return _joined(range(one, one + 1) for one in numbers)

    def _parsed(self, part: str) -> range:
        found = _PART.fullmatch(part)
        if found is None:
            raise ValueError(f"{self.call}: ids must be like '0-49999' or '0-9,20,30-39', got {shown(part)}")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            raise ValueError(f"{self.call}: ids must be ascending in a range, got {shown(part)}")
        return range(first, last + 1)

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self[k] for k in range(*at.indices(len(self)))]
        if not 0 <= at < len(self):
            raise IndexError(at)
        part = bisect_right(self.ends, at)
        return self.parts[part][at - self.ends[part]]  # a negative index, from the part's end

    def __str__(self) -> str:
        return ",".join(map(_text, self.parts))


def _joined(parts: Iterable[range]) -> Iterator[range]:
    """The ranges with those joined that follow each other."""
    last: range | None = None
    for part in parts:
        if last is not None and part.start == last.stop:
            last = range(last.start, part.stop)
            continue
        if last is not None:
            yield last
        last = part
    if last is not None:
        yield last


def _text(part: range) -> str:
    return f"{part[0]}-{part[-1]}" if len(part) > 1 else shown(part[0])
