"""Predictors and correctors of score_sde's shape against the published formulas in plain
PyTorch."""

from __future__ import annotations

import math

import pytest
import torch
from cases import assert_equal, column, normal
from compare import assert_as_good
from sdes import SDES, VE, VP, SubVP

from pyebm import Noise
from pyebm.integrations import score_sde

SHAPE = (6, 3, 8, 8)
NOISE = Noise(1, step=7)
every_sde = pytest.mark.parametrize("sde", SDES.values(), ids=SDES)
both_noises = pytest.mark.parametrize("ours", [True, False], ids=["regenerated", "caller's noise"])
TIME = torch.full((6,), 0.37)


def score(x, t):
    return -x / (1 + column(t, x).to(x.dtype)) + 0.1


def published_predictor(name, sde, x, z, t, flow):
    """score_sde's update of a state at time t."""
    k = (t * (sde.N - 1)).long()
    if name == "euler_maruyama":
        drift, g = sde.sde(x, t)
        dt, c = -1 / sde.N, 0.0 if flow else column(g, x) * math.sqrt(1 / sde.N)
        mean = x + (drift - (0.5 if flow else 1) * column(g, x) ** 2 * score(x, t)) * dt
    elif name == "reverse_diffusion":
        f, g = sde.discretize(x, t)
        mean = x - (f - (0.5 if flow else 1) * column(g, x) ** 2 * score(x, t))
        c = 0.0 if flow else column(g, x)
    elif isinstance(sde, VE):
        s, before = sde.discrete_sigmas.to(t)[k], sde.discrete_sigmas.to(t)[k - 1]
        mean = x + column(s**2 - before**2, x) * score(x, t)
        c = column((before**2 * (s**2 - before**2) / s**2).sqrt(), x)
    else:
        beta = sde.discrete_betas.to(t)[k]
        mean = (x + column(beta, x) * score(x, t)) / column((1 - beta).sqrt(), x)
        c = column(beta.sqrt(), x)
    return mean + c * z, mean


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
@both_noises
@every_sde
def test_precisions(sde, ours, dtype):
    """Half batches are promoted by the SDE's float32 numbers, as in score_sde."""
    for name in ("euler_maruyama", "reverse_diffusion"):
        x, z = normal(*SHAPE).to(dtype), NOISE.at(stream=3).randn(SHAPE, dtype=dtype)
        predictor = score_sde.predictors(NOISE if ours else lambda _, z=z: z)[name](sde, score, False)
        got, plain = predictor.update_fn(x, TIME), published_predictor(name, sde, x, z, TIME, False)
        exact = NOISE.at(stream=3).randn(SHAPE).double() if ours else z.double()
        truth = published_predictor(name, sde, x.double(), exact, TIME.double(), False)
        for one, other, third in zip(got, plain, truth, strict=True):
            assert one.dtype == other.dtype
            assert_as_good(one, other, third)


@pytest.mark.parametrize("flow", [False, True])
@pytest.mark.parametrize("name", ["euler_maruyama", "reverse_diffusion", "ancestral_sampling"])
@both_noises
@every_sde
def test_predictors(sde, name, flow, ours):
    if name == "ancestral_sampling" and (flow or (isinstance(sde, SubVP) and not isinstance(sde, VP))):
        with pytest.raises((NotImplementedError, ValueError), match="AncestralSamplingPredictor: "):
            score_sde.predictors()[name](sde, score, flow)
        return
    x, z = normal(*SHAPE), NOISE.at(stream=3).randn(SHAPE)
    predictor = score_sde.predictors(NOISE if ours else lambda _: z)[name](sde, score, flow)
    got, plain = predictor.update_fn(x, TIME), published_predictor(name, sde, x, z, TIME, flow)
    truth = published_predictor(name, sde, x.double(), z.double(), TIME.double(), flow)
    for triple in zip(got, plain, truth, strict=True):
        assert_as_good(*triple)


def published_corrector(name, sde, x, normals, t, snr):
    alpha = torch.ones_like(t) if isinstance(sde, VE) else VP().alphas.to(t)[(t * (sde.N - 1)).long()]
    for z in normals:
        g = score(x, t)
        if name == "langevin":
            size = snr * z.flatten(1).norm(dim=1).mean() / g.flatten(1).norm(dim=1).mean()
        else:
            size = snr * sde.marginal_prob(x, t)[1]
        eps = column(size**2 * 2 * alpha, x)
        mean = x + eps * g
        x = mean + (2 * eps).sqrt() * z
    return x, mean


@pytest.mark.parametrize("name", ["langevin", "ald"])
@both_noises
@every_sde
def test_correctors(sde, name, ours):
    """A corrector draws from the Noise's next stream, a step further each time."""
    x, normals = normal(*SHAPE), [NOISE.at(step=7 + k, stream=1).randn(SHAPE) for k in range(2)]
    given = iter(normals)
    corrector = score_sde.correctors(NOISE if ours else lambda _: next(given))[name](sde, score, 0.16, 2)
    got, plain = corrector.update_fn(x, TIME), published_corrector(name, sde, x, normals, TIME, 0.16)
    truth = published_corrector(name, sde, x.double(), [z.double() for z in normals], TIME.double(), 0.16)
    for triple in zip(got, plain, truth, strict=True):
        assert_as_good(*triple)


def test_the_first_step_of_ve():
    """At index 0 there is no smaller sigma, so the step removes all the noise."""
    x, t = normal(*SHAPE), torch.zeros(6)
    for name in ("reverse_diffusion", "ancestral_sampling"):
        _, mean = score_sde.predictors(NOISE)[name](VE(), score).update_fn(x, t)
        torch.testing.assert_close(mean, x + 0.01**2 * score(x, t))
    assert_equal(score_sde.predictors(NOISE)["ancestral_sampling"](VE(), score).update_fn(x, t)[0], mean)


def test_none_and_one_sequence_for_all():
    x = normal(*SHAPE)
    for made in (
        score_sde.predictors()["none"](VE(), score),
        score_sde.correctors()["none"](VE(), score, 0.1, 1),
    ):
        a, b = made.update_fn(x, TIME)
        assert a is b is x
    # score_sde's sampler makes new objects at every step; the draws go on nevertheless.
    made = score_sde.predictors(NOISE)["euler_maruyama"]
    first, second = (made(VE(), score).update_fn(x, TIME)[0] for _ in range(2))
    assert not torch.equal(first, second)
    again = score_sde.predictors(NOISE.at(step=8))["euler_maruyama"](VE(), score).update_fn(x, TIME)[0]
    assert_equal(second, again)


def test_every_class_is_of_the_bases():
    """A program asks for a Predictor or a Corrector, as score_sde's shapes are."""
    for base, made in (
        (score_sde.Predictor, score_sde.predictors()),
        (score_sde.Corrector, score_sde.correctors()),
    ):
        classes = {name: getattr(cls, "func", cls) for name, cls in made.items()}
        assert all(issubclass(cls, base) for cls in classes.values())
        assert base.__abstractmethods__ == {"update_fn"}
        with pytest.raises(TypeError, match="abstract"):
            base(VE(), score, *([0.1, 1] if base is score_sde.Corrector else []))

    class WithReverse(VE):
        def reverse(self, score_fn, probability_flow):
            return "reverse", score_fn, probability_flow

    predictor = score_sde.ReverseDiffusionPredictor(WithReverse(), score, True)
    assert predictor.rsde == ("reverse", score, True)
