"""The choice of cases: every two values meet, in few cases."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
from cases import DTYPES, in_turn
from choice import in_two_dtypes, once_each, pairs_of, pairwise, thinned


@pytest.mark.parametrize("sizes", [(20, 4, 2), (8, 20, 4, 3), (2, 2, 2, 2, 2, 2), (5, 1, 3)], ids=str)
def test_every_two_values_meet_in_few_cases(sizes):
    cases = list(itertools.product(*map(range, sizes)))
    for every in (1, 3):  # all cases, and a product with holes
        some = cases[::every]
        chosen = [some[k] for k in pairwise(some)]
        assert set().union(*map(pairs_of, chosen)) == set().union(*map(pairs_of, some))
        assert len(set(chosen)) == len(chosen)
    most, second = sorted(sizes)[-1:-3:-1]
    assert len(pairwise(cases)) <= 1.5 * most * second + 2


def test_the_choice_is_always_the_same():
    cases = list(itertools.product(range(7), range(5), range(3)))
    assert pairwise(cases) == pairwise(list(cases))


def test_every_value_is_among_the_thinned():
    product = [(a, b) for a in "abc" for b in range(4)]
    always = [one.values for one in thinned(product, 3) if not one.marks]
    assert len(always) == 4
    assert [set(values) for values in zip(*always, strict=True)] == [set("abc"), set(range(4))]


def test_every_thing_is_there_once():
    given = in_turn(range(7))
    always = [one.values for one in once_each(given) if not one.marks]
    assert [thing for thing, _ in always] == list(range(7))
    assert len({dtype for _, dtype in always}) == 4
    assert {one.values for one in once_each(given)} == set(given)


def test_a_shape_meets_the_first_dtype_and_another():
    def items(**lists):
        given = itertools.product(*lists.values())
        return [
            SimpleNamespace(callspec=SimpleNamespace(params=dict(zip(lists, one, strict=True))))
            for one in given
        ]

    shapes, kinds = [(k,) for k in range(6)], ["a", "b", "c"]
    for name, things, more in (("shape", shapes, {"own": [True, False]}), ("kind", kinds, {})):
        kept = in_two_dtypes(items(**{name: things, "dtype": DTYPES, "backend": ["cuda"]}, **more))
        for thing in things:
            met = {each.callspec.params["dtype"] for each in kept if each.callspec.params[name] == thing}
            assert len(met) == 2
            assert DTYPES[0] in met
        assert {each.callspec.params["dtype"] for each in kept} == set(DTYPES)
    for some in (items(dtype=DTYPES, threads=[1, 2]), items(shape=shapes, dtype=DTYPES[:2])):
        assert in_two_dtypes(some) == some  # nothing to take turns, or not all dtypes
