"""ebmkit's samplers that keep their own code: with torch's draws they are ebmkit's runs, with a
Noise functions of it."""

from __future__ import annotations

import importlib
import pickle

import pytest
import torch
from cases import assert_equal, normal
from compare import assert_as_good
from peers import package

from pyebm import Noise

ebm = package("ebm")
from ebm import samplers as theirs  # noqa: E402
from ebm.nets import RBM  # noqa: E402

from pyebm.integrations import ebmkit as ours  # noqa: E402

NOISE = Noise(1, step=7)
SIGMAS = torch.logspace(1, -1, 5)


def energy(x):
    return x.flatten(1).cosh().log().sum(1) + 0.1 * x.flatten(1).pow(4).sum(1)


def categories(x):
    return (x * torch.linspace(-1, 1, x.shape[-1])).flatten(1).sum(1) ** 2


def smooth(x, sigma):
    return 0.5 * (x.square() + x.cos()).flatten(1).sum(1) / (1 + sigma**2)


MALA = {"step_size": 0.3, "steps": 4}
# Name: (arguments, the energy, a state).
MADE = {
    "PreconditionedLangevin": (lambda: {"precond": torch.tensor([1.0, 2.0, 0.5]), "steps": 4}, energy, None),
    "AdaptiveMALA": (lambda: {"steps": 4, "warmup": 0}, energy, None),
    "NUTS": (lambda: {"steps": 3, "warmup": 2, "max_depth": 4}, energy, None),
    "ParallelTempering": (lambda: {"base_sampler": theirs.MALA(**MALA), "steps": 3}, energy, None),
    "TemperedTransitions": (
        lambda: {"base_sampler": theirs.MALA(**MALA), "temperatures": (1.0, 2.0), "steps": 2},
        energy,
        None,
    ),
    "GibbsWithGradients": (lambda: {"steps": 4}, energy, torch.eye(6)[:, :3].round()),
    "CategoricalGibbsWithGradients": (lambda: {"steps": 4}, categories, torch.eye(4).repeat(2, 1)[:6, None]),
    "GibbsSampler": (lambda: {"steps": 3}, RBM(3, 2), torch.eye(6)[:, :3].round()),
    "PredictorCorrector": (lambda: {"sigmas": SIGMAS}, smooth, None),
}  # fmt: skip


def run(cls, name, noise=None, rows=slice(None), seed=3):
    options, target, state = MADE[name]
    torch.manual_seed(seed)
    sampler = cls(**options(), **({} if noise is None else {"noise": noise}))
    return sampler.sample(target, (normal(6, 3) if state is None else state)[rows])


def test_every_sampler_that_draws_is_here():
    assert set(theirs.__all__) - {"Sampler", "ProbabilityFlowODE", "SVGD"} <= set(ours.__all__)


def test_each_is_saved_as_the_class_it_replaces():
    for name in ours.__all__:
        cls = getattr(ours, name)
        module, _, last = cls._original.rpartition(".")
        assert name == last
        assert issubclass(cls, getattr(importlib.import_module(module), last))


@pytest.mark.parametrize("name", MADE)
def test_with_torchs_draws_it_is_ebmkits_run(name):
    plain = run(getattr(theirs, name), name)
    for noise in (None, torch.randn_like):
        if noise is not None or name not in ("PreconditionedLangevin", "PredictorCorrector"):
            torch.testing.assert_close(run(getattr(ours, name), name, noise), plain)


@pytest.mark.parametrize("name", MADE)
def test_a_run_is_a_function_of_the_noise(name):
    cls = getattr(ours, name)
    first = run(cls, name, NOISE, seed=4)
    assert_equal(run(cls, name, NOISE, seed=5), first)
    assert any(not torch.equal(run(cls, name, NOISE.at(stream=k)), first) for k in (5, 6, 7))
    # These three depend on the batch: by their tuning, by the deepest tree, or by one draw for all.
    if name not in ("NUTS", "GibbsSampler", "PredictorCorrector"):
        torch.testing.assert_close(run(cls, name, NOISE.shard(first_sample=2), slice(2, None)), first[2:])


@pytest.mark.parametrize("name", ["NUTS", "ParallelTempering"])
def test_a_pickle_goes_on(name):
    options, target, _ = MADE[name]
    sampler = getattr(ours, name)(**options(), noise=NOISE)
    sampler.sample(target, normal(6, 3))
    copy = pickle.loads(pickle.dumps(sampler))
    assert_equal(copy.sample(target, normal(6, 3)), sampler.sample(target, normal(6, 3)))


def test_whole_runs_of_the_predictor_corrector():
    results = []
    for cls, dtype in ((ours, torch.float32), (theirs, torch.float32), (theirs, torch.float64)):
        torch.manual_seed(3)
        with pytest.MonkeyPatch.context() as patch:
            if dtype == torch.float64:
                patch.setattr(torch, "randn_like", lambda x: torch.randn(x.shape).double())
            options = {"noise": torch.randn_like} if cls is ours else {}
            sampler = cls.PredictorCorrector(SIGMAS.to(dtype), n_corrector=2, **options)
            results.append(sampler.sample(smooth, 10 * normal(6, 3).to(dtype)))
    assert_as_good(*results, scale=10.0)


def test_the_law_of_the_discrete_chains():
    """Bits of a closed-form law, by the multinomial that the noise names."""
    field = torch.tensor([0.0, 1.0, -1.0])
    x = ours.GibbsWithGradients(30, noise=NOISE).sample(lambda x: x @ field, torch.zeros(4000, 3))
    torch.testing.assert_close(x.mean(0), torch.sigmoid(-field), atol=0.03, rtol=0)
    weights = torch.tensor([0.2, 0.5, -1.0, 0.0])
    x = torch.eye(4)[torch.zeros(4000).long()][:, None]
    x = ours.CategoricalGibbsWithGradients(20, noise=NOISE).sample(lambda x: (x @ weights).sum(1), x)
    torch.testing.assert_close(x.mean(0)[0], torch.softmax(-weights, 0), atol=0.03, rtol=0)
