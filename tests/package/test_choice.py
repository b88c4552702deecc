"""The choice of cases: every two values meet, in few cases."""

from __future__ import annotations

import itertools

import pytest
from choice import pairs_of, pairwise


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
