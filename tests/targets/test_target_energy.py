"""target_energy: the targets' energies by the CPU's kernel, against the reference, against the
targets' own energies, and a sample's alone."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from cases import assert_equal, normal
from choice import thinned
from dense_cases import SCALES, SIZES, energy_bound, mixture
from target_cases import KINDS, make, start

import pyebm
from pyebm import Noise, _ops, reference, targets
from pyebm.samplers import HMC, MALA
from pyebm.samplers._density import energy_and_score_of

pytestmark = [
    pytest.mark.usefixtures("poison"),
    pytest.mark.skipif(_ops.backends()["cpu"] is not True, reason="the CPU library is not built"),
]
KERNEL = _ops._REGISTERED["target_energy"]
FULL = pyebm._schemas.TARGETS.index("gaussian_full")
SHAPES = [(0, 5), (1, 2), (37, 3), (300, 4), (9, 40), (7, 3, 11), (5, 600), (3, 1024), (3, 2500)]


def energy_and_score(op, target, x, dtype=torch.float64):
    energy, score = torch.empty(x.shape[:1], dtype=dtype), torch.empty_like(x)
    op(energy, score, x, target._index, target._checked("test", x), target._constant(math.prod(x.shape[1:])))
    return energy, score


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_bits_of_the_reference(kind, shape, dtype):
    target, x = make(kind, math.prod(shape[1:])), start(shape, dtype)
    energy, score = energy_and_score(KERNEL, target, x)
    for ours, theirs in zip(
        (energy, score), energy_and_score(reference.target_energy, target, x), strict=True
    ):
        assert_equal(ours, theirs)
    assert_equal(score, target.score(x))
    truth = target(x.double())
    unit = torch.finfo(torch.promote_types(dtype, torch.float32)).eps
    torch.testing.assert_close(energy, truth, rtol=30 * unit, atol=30 * unit * math.prod(shape[1:]))
    assert_equal(energy_and_score(KERNEL, target, x, torch.float32)[0], energy.float())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("simd")
def test_the_same_at_every_simd_level(kind, dtype):
    target, x = make(kind, 37), start((50, 37), dtype)
    got = energy_and_score(KERNEL, target, x)
    _ops.simd("baseline")  # the fixture takes the level back
    for ours, theirs in zip(got, energy_and_score(KERNEL, target, x), strict=True):
        assert_equal(ours, theirs)


@pytest.mark.parametrize(("size", "scale"), thinned(product(SIZES, SCALES), 3), ids=str)
def test_a_mixture_s_is_within_the_bound(size, scale):
    target = mixture(*size, scale)
    for dtype in (torch.float32, torch.float64):
        # Near the components, between them, and so far out that every density is 0 in float64.
        x = torch.cat((2 * normal(20, size[1]), 100 * normal(3, size[1], seed=4))).to(dtype)
        energy, score = energy_and_score(KERNEL, target, x)
        truth, bound = energy_bound(target, x)
        assert ((energy.numpy() - truth).__abs__() <= bound).all()
        assert_equal(score, target.score(x))
        torch.testing.assert_close(
            energy_and_score(reference.target_energy, target, x)[0], target(x.double()), rtol=1e-5, atol=1e-4
        )


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(
    "target", [mixture(50, 2), mixture(50, 9, "both"), make("double_well", 9), make("ackley", 9)], ids=repr
)
def test_a_sample_does_not_depend_on_its_batch(target):
    x = 2 * normal(41, target.dim or 9)
    whole = energy_and_score(KERNEL, target, x)[0]
    for size in (1, 3, 8, 9, 16, 17, 40):
        assert_equal(torch.cat([energy_and_score(KERNEL, target, part)[0] for part in x.split(size)]), whole)
    assert_equal(energy_and_score(KERNEL, target, x.t().contiguous().t())[0], whole)
    assert_equal(energy_and_score(KERNEL, target, x[::2])[0], whole[::2])


def test_far_away_and_not_finite():
    target = mixture(50, 3)
    x = torch.tensor([[1e25, 0.0, 0.0], [math.nan, 0.0, 0.0], [math.inf, 0.0, 0.0], [0.0, 0.0, 0.0]])
    energy, _ = energy_and_score(KERNEL, target, x)
    assert energy.isfinite().tolist() == [False, False, False, True]
    x = torch.tensor([[1e15, 0.0], [math.nan, 0.0], [0.0, 0.0]])
    assert energy_and_score(KERNEL, make("double_well", 2), x)[0].isfinite().tolist() == [False, False, True]


class TestTheSamplersUseIt:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(
        "sampler", [lambda t: MALA(t, 0.01), lambda t: HMC(t, 0.05, 3)], ids=["mala", "hmc"]
    )
    def test_as_the_energy_is(self, sampler, kind, monkeypatch):
        """The decisions are those of torch's operations, and so are the energies up to rounding."""
        target, x = make(kind, 4), start((50, 4), torch.float64)
        got = sampler(target)(x, 10, noise=Noise(1), thin=1)
        monkeypatch.setattr("pyebm.samplers._density.energy_and_score_of", lambda *_: None)
        want = sampler(target)(x, 10, noise=Noise(1), thin=1)
        assert_equal(got.x, want.x)
        torch.testing.assert_close(got.info["energy"], want.info["energy"], rtol=1e-12, atol=1e-12)

    def test_not_where_a_subclass_has_its_own(self):
        class OtherEnergy(targets.DoubleWell):
            def energy(self, x):
                return 2 * super().energy(x)

        class OtherForward(targets.DoubleWell):
            def forward(self, x):
                return 2 * self.energy(x)

        class OtherScore(targets.DoubleWell):
            def score(self, x, *, backend=None):
                return 2 * super().score(x, backend=backend)

        class Same(targets.DoubleWell):
            pass

        x = normal(6, 2)
        for cls in (OtherEnergy, OtherForward, OtherScore):
            assert energy_and_score_of(_run(x), cls(), None) is None, cls
        for target in (Same(), make("funnel", 2), mixture(5, 2)):
            assert energy_and_score_of(_run(x), target, None) is not None
        assert (
            energy_and_score_of(_run(x), targets.Gaussian(covariance=torch.eye(2)), None) is None
        )  # Cholesky's energy is more exact
        assert energy_and_score_of(_run(x), lambda x: x.sum(1), None) is None
        run = MALA(OtherEnergy(), 0.01)(x, 1, noise=Noise(0), thin=1)
        torch.testing.assert_close(run.info["energy"][0], 2 * targets.DoubleWell()(run.x).double())

    def test_where_a_subclass_has_other_numbers_of_which_the_energy_is_made(self):
        class OtherNumbers(targets.DoubleWell):
            def _numbers(self):
                return 2 * super()._numbers()

        x = normal(6, 2)
        run = MALA(OtherNumbers(), 0.01)(x, 1, noise=Noise(0), thin=1)
        torch.testing.assert_close(run.info["energy"][0], 2 * targets.DoubleWell()(run.x).double())
        assert_equal(OtherNumbers()(x), 2 * targets.DoubleWell()(x))


def _run(x):
    return pyebm.samplers._body.Run("test", pyebm.samplers.State(x, Noise(0)), None, 1, False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"energy": torch.empty(3)}, "energy must have one value for each of 4 samples"),
        ({"energy": torch.empty(4).half()}, "energy must be float32 or float64"),
        ({"target": FULL}, "target_energy: the target gaussian_full"),
        ({"params": torch.ones(3)}, "double_well with 3 parameters has no samples of 2 elements"),
    ],
)
def test_refusals(arguments, message):
    x = normal(4, 2)
    given = {
        "energy": torch.empty(4),
        "score": x.clone(),
        "x": x,
        "target": 1,
        "params": torch.ones(2),
        "constant": 0.0,
    } | arguments
    if given["target"] == FULL:
        given["params"] = torch.ones(6)
    with pytest.raises(ValueError, match=message):
        KERNEL(*given.values())
