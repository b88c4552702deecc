"""The objectives of score matching refuse what they would get wrong."""

from __future__ import annotations

import functools

import pytest
import torch
from cases import normal
from torch import Tensor

import pyebm
from pyebm import Noise

NOISE = Noise(3, step=2)


def detached(x: Tensor) -> Tensor:
    return pyebm.energy_score(lambda x: x.square().sum(1), x)


X = normal(4, 3)
REFUSED = {
    "energy for a score": (
        lambda: pyebm.score_matching(lambda x: x.sum(1), X),
        ValueError,
        r"score of x's shape \(4, 3\).*energy_score",
    ),
    "partial without a graph": (
        lambda: pyebm.fisher_divergence(
            functools.partial(pyebm.energy_score, lambda x: x.square().sum(1)), torch.neg, X
        ),
        ValueError,
        "score_fn must keep the graph.*create_graph=True",
    ),
    "no graph": (
        lambda: pyebm.score_matching(detached, X),
        ValueError,
        "depends on x through autograd.*create_graph=True",
    ),
    "constant": (lambda: pyebm.sliced_score_matching(torch.ones_like, X, NOISE), ValueError, "depends on x"),
    "no function": (lambda: pyebm.score_matching(3, X), TypeError, "fn must be a score function"),
    "target": (lambda: pyebm.fisher_divergence(torch.neg, 3, X), TypeError, "target must be"),
    "target's shape": (
        lambda: pyebm.fisher_divergence(torch.neg, lambda x: x[:, :1], X),
        ValueError,
        "target must return",
    ),
    "no noise": (lambda: pyebm.score_matching(torch.neg, X, "hutchinson"), ValueError, "noise must be given"),
    "noise": (lambda: pyebm.score_matching(torch.neg, X, noise=NOISE), ValueError, "noise must be None"),
    "by element": (
        lambda: pyebm.sliced_score_matching(torch.neg, X, NOISE, variance_reduced=False, reduction="none"),
        ValueError,
        "weight and reduction must be by sample",
    ),
    "weight by element": (
        lambda: pyebm.sliced_score_matching(torch.neg, X, NOISE, variance_reduced=False, weight=X),
        ValueError,
        "weight and reduction must be by sample",
    ),
    "weight": (
        lambda: pyebm.score_matching(torch.neg, X, weight=torch.tensor([1.0, torch.nan, 1, 1])),
        ValueError,
        "weight must be fin",
    ),
    "batch": (
        lambda: pyebm.sliced_score_matching(torch.neg, X, Noise(0, sample_ids=[1, 2])),
        ValueError,
        "sample_ids names 2 samples",
    ),
    "ladder": (
        lambda: pyebm.denoising_score_matching(torch.neg, X, [1.0, 0.0], NOISE),
        ValueError,
        "sigma must be a ladder",
    ),
    "weight's name": (
        lambda: pyebm.denoising_score_matching(torch.neg, X, 1.0, NOISE, weight="vp"),
        ValueError,
        "weight must be one of",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    call, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        call()
