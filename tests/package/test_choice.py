"""The choice of cases: every two values meet, in few cases."""

from __future__ import annotations

import itertools

import pytest
from cases import in_turn
from choice import once_each, pairs_of, pairwise, thinned


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
