"""The objectives of learned targets come from the kernel where it takes them, and equal the
composed objectives of a function."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import normal
from test_learned_gradients import launches, learned  # noqa: F401 (a fixture)
from torch import Tensor

import pyebm
from pyebm._streams import CHAINS, beside
from pyebm.samplers import Langevin
from pyebm.targets import MLPScore

NOISE = pyebm.Noise(3)
LEVELS = torch.linspace(0.2, 1.0, 21)
CALLS: dict[str, Any] = {
    "exact": lambda fn, x, **options: pyebm.score_matching(fn, x, **options),
    "hutchinson": lambda fn, x, **options: pyebm.score_matching(
        fn, x, "hutchinson", noise=NOISE, n_projections=3, **options
    ),
    "sliced": lambda fn, x, **options: pyebm.sliced_score_matching(fn, x, NOISE, 2, "sphere", **options),
    "sliced, with its variance": lambda fn, x, **options: pyebm.sliced_score_matching(
        fn, x, NOISE, 2, "gaussian", False, **options
    ),
    "Fisher": lambda fn, x, **options: pyebm.fisher_divergence(
        fn, pyebm.targets.Gaussian(torch.zeros(3)), x, **options
    ),
    "denoising": lambda fn, x, **options: pyebm.denoising_score_matching(fn, x, 0.3, NOISE, **options),
    "denoising, levels": lambda fn, x, **options: pyebm.denoising_score_matching(
        fn, x, LEVELS, NOISE, **options
    ),
    "denoising, EDM": lambda fn, x, **options: pyebm.denoising_score_matching(
        fn, x, LEVELS, NOISE, **{"weight": "edm"} | options
    ),
    "denoising, Vincent": lambda fn, x, **options: pyebm.denoising_score_matching(
        fn, x, [0.3, 0.1], NOISE, **{"weight": None} | options
    ),
}


@pytest.mark.parametrize("kind", ["energy", "score"])
@pytest.mark.parametrize("name", CALLS)
class TestObjectives:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"reduction": "sum"},
            {"reduction": "mean", "weight": 0.7},
            {"weight": torch.linspace(0.5, 2.0, 21)},
        ],
        ids=["batchmean", "sum", "weighted", "weights"],
    )
    def test_are_the_composed_ones(self, launches, kind, name, options):  # noqa: F811
        target, x = learned(kind, torch.float64), normal(21, 3, dtype=torch.float64)
        parameters = list(target.net.parameters())
        loss = CALLS[name](target, x, **options)
        assert "network_loss" in launches
        assert "network_score" not in launches
        want = CALLS[name](lambda x: target.score(x), x, **options)
        torch.testing.assert_close(loss, want, rtol=1e-11, atol=1e-11)
        found, right_ones = (
            torch.autograd.grad(one, parameters, materialize_grads=True) for one in (loss, want)
        )
        for got, right in zip(found, right_ones, strict=True):
            torch.testing.assert_close(got, right, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    "options", [{}, {"l2": 0.3}, {"reduction": "sum", "weight": 0.7}], ids=["plain", "l2", "sum"]
)
def test_contrastive_divergence(launches, options):  # noqa: F811
    target, x, y = (
        learned("energy", torch.float64),
        normal(21, 3, dtype=torch.float64),
        normal(21, 3, dtype=torch.float64, seed=1),
    )
    parameters = list(target.net.parameters())
    loss = pyebm.contrastive_divergence(target, x, y, **options)
    assert launches == ["network_loss"]
    want = pyebm.contrastive_divergence(lambda x: target.energy(x), x, y, **options)
    torch.testing.assert_close(loss, want, rtol=1e-11, atol=1e-11)
    for got, right in zip(
        torch.autograd.grad(loss, parameters), torch.autograd.grad(want, parameters), strict=True
    ):
        torch.testing.assert_close(got, right, rtol=1e-9, atol=1e-10)
    if not options:
        fewer = pyebm.contrastive_divergence(target, x, y[:5])
        torch.testing.assert_close(
            fewer, pyebm.contrastive_divergence(lambda x: target.energy(x), x, y[:5]), rtol=1e-11, atol=1e-11
        )


@pytest.mark.parametrize("l2", [0.0, 0.3])
def test_a_training_step_of_contrastive_divergence(launches, l2):  # noqa: F811
    """Without l2 the kernel makes the history's energies beside the loss."""
    target, x = learned("energy", torch.float64), normal(21, 3, dtype=torch.float64)
    sampler, parameters = Langevin(target, 0.01), list(target.net.parameters())
    cd = pyebm.losses.ContrastiveDivergence(target, sampler, 3, l2=l2)
    loss = cd(x, NOISE.at(step=2))
    found = torch.autograd.grad(loss, parameters)
    assert launches == ["network_chain", *(["network_score", "network_grad"] if l2 else ["network_loss"])]
    model = sampler(x, 3, noise=beside(NOISE, CHAINS).at(step=6))
    of_data, of_model = (target.energy(one).mean() for one in (x, model))
    want = pyebm.contrastive_divergence(lambda x: target.energy(x), x, model, l2=l2)
    torch.testing.assert_close(loss, want, rtol=1e-11, atol=1e-11)
    for got, right in zip(found, torch.autograd.grad(want, parameters), strict=True):
        torch.testing.assert_close(got, right, rtol=1e-9, atol=1e-10)
    seen = {"energy_data": of_data, "energy_model": of_model, "gap": of_data - of_model}
    for name, value in seen.items():
        assert cd.history[name][0] == pytest.approx(value.item(), rel=1e-11)


def test_images_and_strides():
    target = learned("energy", torch.float64, dim=6)
    x = normal(5, 2, 3, dtype=torch.float64).transpose(1, 2)
    for call in (CALLS["exact"], CALLS["sliced"], CALLS["denoising"]):
        torch.testing.assert_close(
            call(target, x), call(lambda x: target.score(x), x), rtol=1e-11, atol=1e-11
        )


def test_a_condition_is_the_level(launches):  # noqa: F811
    target, x = (
        MLPScore(
            learned("score", torch.float64, dim=4).net[:-1].append(torch.nn.Linear(12, 3).double()),
            condition=1,
        ),
        None,
    )
    x = normal(21, 3, dtype=torch.float64)
    loss = pyebm.denoising_score_matching(target, x, LEVELS, NOISE)
    assert "network_loss" in launches

    def given(x: Tensor, sigma: Tensor) -> Tensor:
        return target.score(x, sigma)

    want = pyebm.denoising_score_matching(given, x, LEVELS, NOISE, conditional=True)
    torch.testing.assert_close(loss, want, rtol=1e-11, atol=1e-11)


def test_an_embedding_alone_learns(launches):  # noqa: F811
    """The gradient by one row of biases comes with that of the parameters, which are frozen."""
    net = learned("score", torch.float64, dim=4).net[:-1].append(torch.nn.Linear(12, 3).double())
    embedding = torch.nn.Linear(2, 1).double()
    target = MLPScore(net.requires_grad_(False), condition=1, embedding=embedding)
    given, x = target.given(normal(1, 2, dtype=torch.float64)), normal(21, 3, dtype=torch.float64)
    found = torch.autograd.grad(CALLS["denoising"](given, x), embedding.weight)
    assert "network_loss" in launches
    want = torch.autograd.grad(CALLS["denoising"](lambda x: given.score(x), x), embedding.weight)
    torch.testing.assert_close(found, want, rtol=1e-10, atol=1e-11)


def test_bad_levels_are_refused_by_name():
    target, x = learned("energy"), normal(21, 3)
    for weight in ("ncsn", "edm", None):
        with pytest.raises(ValueError, match="sigma must be"):
            pyebm.denoising_score_matching(target, x, LEVELS * torch.nan, NOISE, weight=weight)
    with pytest.raises(ValueError, match="sigma must be > 0"):
        pyebm.denoising_score_matching(target, x, LEVELS * 0, NOISE, weight=None)
    with pytest.raises(ValueError, match="weight must be finite"):
        pyebm.score_matching(target, x, weight=LEVELS * torch.nan)


def test_under_no_grad_it_is_a_constant():
    target, x = learned("energy"), normal(21, 3)
    with torch.no_grad():
        value = pyebm.sliced_score_matching(target, x, NOISE)
    assert not value.requires_grad
    torch.testing.assert_close(value, pyebm.sliced_score_matching(target, x, NOISE).detach(), rtol=0, atol=0)
