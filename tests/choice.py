"""Which cases of a test run: where three things or more vary, enough for every two of their values
to meet, with each implementation. A GPU's kernels are one template for all dtypes: there each shape
meets float32 and one other dtype. The other cases run with --slow.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations

import pytest
from cases import DTYPES

APART = ("dtype", "backend", "threads")
Case = tuple[int, ...]  # the place of each varied thing's value in its list


def pairs_of(case: Case) -> set[tuple[int, int, int, int]]:
    """The pairs of values that meet in a case."""
    return {(i, case[i], j, case[j]) for i, j in combinations(range(len(case)), 2)}


def pairwise(cases: Sequence[Case]) -> list[int]:
    """The places of some cases in which every pair of values meets that meets in any case. First
    those that have the most pairs that are new, so that few are needed."""
    left = [pairs_of(case) for case in cases]
    chosen, met = [], set()
    for least in range(max(map(len, left), default=0), 0, -1):
        for place, pairs in enumerate(left):
            if len(pairs) >= least and len(new := pairs - met) >= least:
                met |= new
                chosen.append(place)
    return chosen


def thinned(cases: Iterable[tuple[object, ...]], every: int) -> list[object]:
    """Cases that take seconds each: the first of every so many, and the others with --slow. Of a
    product, all values are among them where the last list's length is no multiple of ``every``."""
    return [pytest.param(*case, marks=pytest.mark.slow if k % every else ()) for k, case in enumerate(cases)]


def once_each(in_turn: Iterable[tuple[object, ...]]) -> list[object]:
    """Of cases.in_turn: each thing once, every second one in float32; the others with --slow."""
    return [
        pytest.param(*case, marks=pytest.mark.slow if (k // 2 + k) % 2 else ())
        for k, case in enumerate(in_turn)
    ]


def in_two_dtypes(same: list[pytest.Item]) -> list[pytest.Item]:
    """Of a product with all dtypes: each shape, or each case of the rest, in the first dtype and in
    another in turn."""
    given = [item.callspec.params for item in same]
    if {params.get("dtype") for params in given} != set(DTYPES):
        return same
    names = ["shape"] if "shape" in given[0] else [name for name in given[0] if name not in APART]
    rest = list(zip(*(_places([params[name] for params in given]) for name in names), strict=True))
    first, *others = DTYPES
    turn = {case: others[k % len(others)] for k, case in enumerate(dict.fromkeys(rest))}
    if len(turn) < len(others):
        return same
    return [
        item
        for item, params, case in zip(same, given, rest, strict=True)
        if params["dtype"] in (first, turn[case])
    ]


def left_out(items: Iterable[pytest.Item]) -> set[pytest.Item]:
    """The cases that a run can do without."""
    tests = defaultdict(list)
    for item in items:
        if spec := getattr(item, "callspec", None):
            backend = spec.params.get("backend")
            implementation = backend[0] if isinstance(backend, tuple) else backend  # at any SIMD level
            tests[item.nodeid.partition("[")[0], implementation].append(item)
    out: set[pytest.Item] = set()
    for (_, implementation), same in tests.items():
        if implementation not in (None, "cpu"):  # it knows nothing of torch's threads
            alone = [item for item in same if item.callspec.params.get("threads", 1) == 1]
            out |= set(same) - set(alone) if alone else set()
            same = in_two_dtypes(alone or same)
            out |= set(alone) - set(same)
        things = {_places([item.callspec.params[name] for item in same]) for name in same[0].callspec.params}
        varied = sorted(places for places in things if any(places))
        if len(varied) > 2:
            out |= set(same) - {same[k] for k in pairwise(list(zip(*varied, strict=True)))}
    return out


def _places(values: list[object]) -> Case:
    """Each value's place among the different ones; they may be unhashable, and are not copied."""
    first: dict[int, int] = {}
    return tuple(first.setdefault(id(value), len(first)) for value in values)
