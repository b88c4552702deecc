"""Each sampler's stationary law against the truth, and proof that the tests can tell a biased
sampler."""

from __future__ import annotations

import math

import pytest
import torch
from cases import normal
from scipy import stats
from torch import Tensor

from pyebm import Noise
from pyebm._composed.metropolis import mean
from pyebm.samplers import (
    HMC,
    MALA,
    VE,
    VP,
    Langevin,
    PredictorCorrector,
    State,
    SubVP,
    UnderdampedLangevin,
    _metropolis,
)

pytestmark = pytest.mark.usefixtures("one_thread")
CHAINS = 20_000
SCALES = torch.tensor([0.5, 1.0, 2.0])  # a Gaussian's standard deviations


def gaussian(x: Tensor) -> Tensor:
    return 0.5 * (x / SCALES).square().sum(1)


def gaussian_score(x: Tensor) -> Tensor:
    return -x / SCALES.square()


def deviation(x: Tensor, scales: Tensor = SCALES) -> float:
    """How many standard errors the means, variances and correlations are from N(0, scales^2)'s,
    at worst."""
    z = x.double() / scales
    n = len(z)
    scores = [z.mean(0) * math.sqrt(n), (z.square().mean(0) - 1) * math.sqrt(n / 2)]
    pairs = torch.combinations(torch.arange(z.shape[1]))
    scores.append((z[:, pairs[:, 0]] * z[:, pairs[:, 1]]).mean(0) * math.sqrt(n))
    return float(torch.cat(scores).abs().max())


def kolmogorov(x: Tensor, scales: Tensor = SCALES) -> float:
    """The smallest p-value of the elements' Kolmogorov-Smirnov tests."""
    return min(stats.kstest((x[:, i] / scales[i]).double().numpy(), "norm").pvalue for i in range(x.shape[1]))


START = 1.5 * normal(CHAINS, 3)
COARSE = {  # so coarse that without the test the variance would be off by a quarter or more
    "mala": (lambda: MALA(gaussian, 0.25, score_fn=gaussian_score), 250),
    "mala-autograd": (lambda: MALA(gaussian, 0.25), 150),
    "mala-warmup": (lambda: MALA(gaussian, 3.0, score_fn=gaussian_score, warmup=60, per="batch"), 300),
    "hmc": (lambda: HMC(gaussian, 0.7, 3, score_fn=gaussian_score), 30),
    "hmc-warmup": (lambda: HMC(gaussian, 2.0, 3, score_fn=gaussian_score, warmup=40), 80),
}


@pytest.mark.parametrize("name", COARSE)
def test_metropolis_leaves_no_bias(name):
    make, steps = COARSE[name]
    run = make()(START, steps, noise=Noise(2), thin=steps)
    assert 0.4 < run.info["acceptance"].mean() < 0.98
    assert deviation(run.x) < 4.5
    assert kolmogorov(run.x) > 1e-4


def test_without_the_test_the_bias_shows(monkeypatch):
    """If the same steps are always accepted, ULA's variance is s^2 / (1 - eta / (2 s^2)), and
    leapfrog's s^2 / (1 - (eps / s)^2 / 4)."""
    x = Langevin(gaussian_score, 0.25)(START, 250, noise=Noise(2))
    assert deviation(x) > 20
    assert deviation(x, SCALES / (1 - 0.25 / (2 * SCALES.square())).sqrt()) < 4.5
    before = _metropolis.Metropolis.decide
    monkeypatch.setattr(
        _metropolis.Metropolis, "decide", lambda self, _, *rest: before(self, self.energy - 1e6, *rest)
    )
    run = HMC(gaussian, 0.7, 3, score_fn=gaussian_score)(START, 30, noise=Noise(2), thin=30)
    assert run.info["acceptance"].min() == 1
    assert deviation(run.x) > 20
    assert deviation(run.x, SCALES / (1 - (0.7 / SCALES).square() / 4).sqrt()) < 4.5


def test_temperature():
    for sampler in (
        MALA(gaussian, 0.25, temperature=0.3),
        HMC(gaussian, 0.6, 3, temperature=0.3),
        UnderdampedLangevin(gaussian_score, 0.6, temperature=0.3),
    ):
        x = sampler(START * 0.3**0.5, 150, noise=Noise(3))
        assert deviation(x, SCALES * 0.3**0.5) < 4.5


WEIGHTS, MEANS, WIDTH = torch.tensor([0.3, 0.7]), torch.tensor([-1.2, 1.2]), 0.6


def mixture(x: Tensor) -> Tensor:
    return -torch.logsumexp(WEIGHTS.log() - 0.5 * ((x - MEANS) / WIDTH).square(), 1)


def mixture_cdf(x: Tensor) -> Tensor:
    return (WEIGHTS * torch.special.ndtr((x - MEANS) / WIDTH)).sum(1)


@pytest.mark.parametrize("sampler", [MALA(mixture, 0.5), HMC(mixture, 0.5, 3)], ids=["mala", "hmc"])
def test_mixture_s_weights(sampler):
    """All chains start in one mode; they find the other, and its weight."""
    x = sampler(torch.full((CHAINS, 1), 1.2), 250, noise=Noise(4))
    truth = float(mixture_cdf(torch.zeros(1, 1).double()))
    share = float((x < 0).double().mean())
    assert abs(share - truth) < 4.5 * math.sqrt(truth * (1 - truth) / CHAINS)
    assert stats.kstest(mixture_cdf(x.double()).numpy(), "uniform").pvalue > 1e-4


class TestUnderdamped:
    def test_a_gaussian_s_positions_are_exact_at_coarse_steps(self):
        """In a harmonic well BAOAB's law of positions has no error in h; h = 0.9 here, below the
        limit of 1 (2 x 0.5)."""
        x = UnderdampedLangevin(gaussian_score, 0.9, 0.8)(START, 150, noise=Noise(5))
        assert deviation(x) < 4.5
        assert kolmogorov(x) > 1e-4
        assert (
            deviation(Langevin(gaussian_score, 0.9**2 / 2)(START, 150, noise=Noise(5))) > 100
        )  # the same time step without inertia

    def test_velocities(self):
        """The harmonic well's law under BAOAB is exp(-x^2 / 2 s^2 - v^2 / 2 (1 - h^2 / 4 s^2)):
        the velocity is a little too cold."""
        h = 0.4
        end = UnderdampedLangevin(gaussian_score, h, 0.8)(State(START, Noise(6)), 150)
        v = end.extra["velocity"] - 0.5 * h * gaussian_score(
            end.x
        )  # the velocity is half a kick ahead of the position: take it back
        assert deviation(v) > 10
        assert deviation(v, (1 - h**2 / (4 * SCALES**2)).sqrt()) < 4.5

    def test_an_anharmonic_well(self):
        """E = x^4 / 4, whose <x^2> is computed by quadrature."""
        grid = torch.linspace(-6, 6, 20_001, dtype=torch.float64)
        p = torch.exp(-(grid**4) / 4)
        truth, fourth = (float((p * grid**power).sum() / p.sum()) for power in (2, 4))
        square = (
            UnderdampedLangevin(lambda x: -(x**3), 0.3, 1.0)(0.7 * normal(CHAINS, 3), 80, noise=Noise(7))
            .double()
            .square()
        )
        assert abs(square.mean() - truth) < 0.005 * truth + 4.5 * math.sqrt(
            (fourth - truth**2) / square.numel()
        )


class TestAdaptation:
    def test_a_mean_for_any_number_of_threads(self):
        """The values are so many that torch would add them in parts, of 32,768 each."""
        values, means = normal(100_003, dtype=torch.float64), []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            means.append(mean(values))
        assert means[0] == means[1] == means[2]
        assert abs(float(means[0] - values.mean())) < 1e-12

    @pytest.mark.parametrize("per", ["sample", "batch"])
    @pytest.mark.parametrize("start", [0.01, 20.0])
    def test_it_finds_the_target_rate(self, per, start):
        """The adaptation starts far below and far above."""
        sampler = MALA(gaussian, start, score_fn=gaussian_score, warmup=400, per=per)
        warm = sampler(START[:500], 400, noise=Noise(8), thin=400)
        held = sampler(warm.state, 200, thin=100)
        assert abs(float(held.info["acceptance"].mean()) - 0.574) < 0.05
        step = held.info["step_size"]
        assert torch.equal(step[0], step[1])  # the step is held once warm
        assert bool((step[0] == step[0, 0]).all()) == (per == "batch")

    def test_higher_targets_give_smaller_steps(self):
        def adapted(target):
            sampler = HMC(
                gaussian, 0.5, 3, score_fn=gaussian_score, warmup=200, target_acceptance=target, per="batch"
            )
            return float(sampler(START[:500], 201, noise=Noise(9), thin=201).info["step_size"].mean())

        assert adapted(0.9) < 0.9 * adapted(0.6)


S = 0.8  # the data's standard deviation


def marginal_score(sde):
    """The score of N(0, S^2) data under the diffusion: every marginal is Gaussian."""

    def score(x, t):
        at = float(t[0])
        return -x / (sde.alpha(at) ** 2 * S**2 + sde.sigma(at) ** 2)

    return score


PREDICTED = {
    "ve-reverse": (VE(0.01, 20.0), "reverse_diffusion", False),
    "ve-ancestral": (VE(0.01, 20.0), "ancestral", False),
    "ve-euler": (VE(0.01, 20.0), "euler_maruyama", False),
    "vp-reverse": (VP(), "reverse_diffusion", False),
    "vp-ancestral": (VP(), "ancestral", False),
    "vp-flow": (VP(), "euler_maruyama", True),
    "subvp-euler": (SubVP(), "euler_maruyama", False),
    "subvp-flow": (SubVP(), "reverse_diffusion", True),
}


class TestPredictorCorrector:
    @pytest.mark.parametrize("name", PREDICTED)
    def test_a_gaussian_comes_back(self, name):
        """With the exact score and no corrector, the samples have the data's variance, up to the
        predictor's own O(1/n)."""
        sde, predictor, flow = PREDICTED[name]
        sampler = PredictorCorrector(
            marginal_score(sde),
            sde,
            400,
            predictor=predictor,
            corrector_steps=0,
            probability_flow=flow,
            denoise=False,
        )
        x = sampler(sampler.prior((40, 500), Noise(10)), noise=Noise(11))
        assert abs(float(x.double().std()) / S - 1) < 0.03 + 4.5 / math.sqrt(2 * x.numel())

    @pytest.mark.parametrize("sde", [VE(0.01, 20.0), VP(), SubVP()], ids=lambda sde: type(sde).__name__)
    @pytest.mark.parametrize("per", ["batch", "sample"])
    def test_with_correctors(self, sde, per):
        """Few times suffice with correctors, which make up for a coarse predictor."""
        sampler = PredictorCorrector(marginal_score(sde), sde, 150, corrector_steps=3, snr=0.16, per=per)
        x = sampler(sampler.prior((40, 500), Noise(10)), noise=Noise(11))
        assert abs(float(x.double().std()) / S - 1) < 0.05

    def test_the_corrector_alone_reaches_each_marginal(self):
        """Without a predictor, Langevin steps follow the score down."""
        sde = VE(0.05, 5.0)
        sampler = PredictorCorrector(
            marginal_score(sde), sde, 300, predictor=None, corrector_steps=4, snr=0.3
        )
        x = sampler(sampler.prior((40, 500), Noise(10)), noise=Noise(11))
        assert abs(float(x.double().std()) / S - 1) < 0.08

    def test_a_wrong_score_shows(self):
        sde = VP()
        score = marginal_score(sde)
        sampler = PredictorCorrector(lambda x, t: 0.8 * score(x, t), sde, 400, corrector_steps=0)
        x = sampler(sampler.prior((40, 500), Noise(10)), noise=Noise(11))
        assert abs(float(x.double().std()) / S - 1) > 0.08

    def test_inpainting_follows_the_conditional(self):
        """One of two correlated elements is known: the other follows its conditional law, which
        replacement approximates at small steps."""
        rho, known = 0.8, 1.0
        covariance = torch.tensor([[1.0, rho], [rho, 1.0]])
        sde = VE(0.01, 10.0)

        def score(x, t):
            smoothed = covariance + sde.sigma(float(t[0])) ** 2 * torch.eye(2)
            return -x @ torch.linalg.inv(smoothed)

        mask, data = torch.tensor([[True, False]]), torch.full((5000, 2), known)
        sampler = PredictorCorrector(score, sde, 200, corrector_steps=4, snr=0.3, mask=mask, known=data)
        x = sampler(sampler.prior((5000, 2), Noise(12)), noise=Noise(13)).double()
        assert (x[:, 1] == known).all()
        assert abs(float(x[:, 0].mean()) - rho * known) < 0.08
        assert abs(float(x[:, 0].std()) - math.sqrt(1 - rho**2)) < 0.08
