"""score_sde's whole samplers, inpainter, colorizer, ODE sampler and likelihood against the
published algorithms in plain PyTorch, and against the exact law of a normal."""

from __future__ import annotations

import math

import pytest
import torch
from cases import assert_equal, normal
from sdes import VE, VP, SubVP

from pyebm import Noise
from pyebm.integrations import score_sde

SHAPE = (6, 3, 4, 4)
NOISE = Noise(3, step=5)


class Prior:
    def prior_sampling(self, shape):
        return torch.randn(*shape) * getattr(self, "sigma_max", 1.0)

    def prior_logp(self, z):
        scale = getattr(self, "sigma_max", 1.0)
        log = -0.5 * (z / scale) ** 2 - math.log(scale * math.sqrt(2 * math.pi))
        return log.flatten(1).sum(1)


class SmallVE(Prior, VE):
    pass


class SmallVP(Prior, VP):
    pass


class SmallSubVP(Prior, SubVP):
    alphas = 1 - torch.linspace(0.1 / 8, 20.0 / 8 / 2.5, 8)


SDES = {"ve": SmallVE(8), "vp": SmallVP(8, 0.1, 5.0), "subvp": SmallSubVP(8, 0.1, 5.0)}


class Net(torch.nn.Module):
    """A network of standard normal data: what it predicts follows from the SDE."""

    def __init__(self, sde):
        super().__init__()
        self.sde = sde

    def forward(self, x, labels):
        labels = labels.reshape(-1, 1, 1, 1)
        if hasattr(self.sde, "discrete_sigmas"):
            return -x / (1 + labels**2)
        t = (labels / 999).flatten()
        mean, std = self.sde.marginal_prob(torch.ones_like(labels), t)
        std = std.reshape(-1, 1, 1, 1)
        return x * std / (mean**2 + std**2)


def score(sde, x, t):
    mean, std = sde.marginal_prob(torch.ones(len(x), 1, 1, 1), t)
    return -x / (mean**2 + std.reshape(-1, 1, 1, 1) ** 2)


def published(sde, x, draw, snr, known=None, eps=1e-3):
    """Langevin corrector and reverse-diffusion predictor."""
    mean = x
    known = known or (lambda x, mean, _t: (x, mean))
    for time in torch.linspace(sde.T, eps, sde.N):
        t = time.expand(len(x))
        s, z = score(sde, x, t), draw("corrector")
        index = (t * (sde.N - 1)).long()
        alpha = 1.0 if hasattr(sde, "discrete_sigmas") else sde.alphas[index].reshape(-1, 1, 1, 1)
        norm = z.flatten(1).norm(dim=1).mean() / s.flatten(1).norm(dim=1).mean()
        step = 2 * alpha * (snr * norm) ** 2
        mean = x + step * s
        x, mean = known(mean + (2 * step) ** 0.5 * z, mean, t)
        f, g = sde.discretize(torch.ones(len(x), 1, 1, 1), t)
        g = g.reshape(-1, 1, 1, 1)
        mean = x - f * x + g**2 * score(sde, x, t)
        x, mean = known(mean + g * draw("predictor"), mean, t)
    return mean


def drawn():
    """The draws of a run, by the uses that they are for."""
    counts = {}

    def draw(use):
        stream = {"corrector": 1, "predictor": 3, "prior": 4, "known": 5}[use]
        counts[use] = counts.get(use, -1) + 1
        return NOISE.at(step=NOISE.step + counts[use], stream=stream).randn(SHAPE)

    return draw


def scale(sde):
    return getattr(sde, "sigma_max", 1.0)


CLASSES = score_sde.ReverseDiffusionPredictor, score_sde.LangevinCorrector


@pytest.mark.parametrize("name", ["ve", "vp"])
def test_pc_sampler(name):
    sde = SDES[name]
    sampler = score_sde.get_pc_sampler(
        sde, SHAPE, *CLASSES, lambda x: 2 * x, 0.1, continuous=True, device="cpu", noise=NOISE
    )
    got, evaluations = sampler(Net(sde))
    draw = drawn()
    torch.testing.assert_close(
        got, 2 * published(sde, scale(sde) * draw("prior"), draw, 0.1), rtol=1e-3, atol=1e-4
    )
    assert evaluations == 16
    with_theirs = score_sde.get_pc_sampler(
        sde, SHAPE, score_sde.predictors(NOISE)["reverse_diffusion"], score_sde.correctors(NOISE)["langevin"],
        lambda x: 2 * x, 0.1, continuous=True, device="cpu", noise=NOISE,
    )  # fmt: skip
    assert_equal(with_theirs(Net(sde))[0], got)


def test_one_update_alone_and_theirs_own_prior():
    sde = SDES["ve"]
    options = {"continuous": True, "device": "cpu", "denoise": False}
    torch.manual_seed(0)
    states = [
        score_sde.get_pc_sampler(sde, SHAPE, *classes, lambda x: x, 0.1, **options, noise=torch.randn_like)(
            Net(sde)
        )[0]
        for classes in ((CLASSES[0], None), (None, CLASSES[1]), (None, None))
    ]
    torch.manual_seed(0)
    x = sde.prior_sampling(SHAPE)
    for time in torch.linspace(1, 1e-3, 8):
        t = time.expand(6)
        g = sde.discretize(x, t)[1].reshape(-1, 1, 1, 1)
        x = x + g**2 * score(sde, x, t) + g * torch.randn(SHAPE)
    torch.testing.assert_close(states[0], x, rtol=1e-4, atol=1e-4)
    assert all(bool(state.isfinite().all()) for state in states)


def test_inpainter():
    sde, data = SDES["vp"], normal(*SHAPE)
    mask = torch.zeros(SHAPE)
    mask[..., :2] = 1
    inpainter = score_sde.get_pc_inpainter(
        sde, *CLASSES, lambda x: x, 0.1, continuous=True, eps=0.3, noise=NOISE
    )
    got, draw = inpainter(Net(sde), data, mask), drawn()

    def known(x, _mean, t):
        mean, std = sde.marginal_prob(data, t)
        x = x * (1 - mask) + (mean + std.reshape(-1, 1, 1, 1) * draw("known")) * mask
        return x, x * (1 - mask) + mean * mask

    expected = published(sde, data * mask + draw("prior") * (1 - mask), draw, 0.1, known, eps=0.3)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


def test_colorizer():
    """The gray of the result is that of the image, and a sample does not depend on its batch."""
    sde = SDES["ve"]
    gray = normal(6, 1, 4, 4).expand(SHAPE)
    options = {"continuous": True, "eps": 1e-3}

    def run(images, noise):
        # Euler-Maruyama has no norms of the whole batch in it.
        made = score_sde.get_pc_colorizer(
            sde, score_sde.EulerMaruyamaPredictor, None, lambda x: x, 0.1, **options, noise=noise
        )
        return made(Net(sde), images)

    got = run(gray, NOISE)
    torch.testing.assert_close(got.mean(1), gray.mean(1), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(got[:, 0], got[:, 1])
    torch.testing.assert_close(run(gray[2:], NOISE.shard(first_sample=2)), got[2:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["ve", "vp", "subvp"])
def test_ode_sampler(name):
    """Of normal data the flow is a scaling, whatever the SDE: x keeps its distance in std's."""
    pytest.importorskip("scipy")
    sde = SDES[name]
    sampler = score_sde.get_ode_sampler(sde, SHAPE, lambda x: x, device="cpu", noise=NOISE)
    got, evaluations = sampler(Net(sde))
    first = scale(sde) * NOISE.at(stream=4).randn(SHAPE)
    ones = torch.ones(1, 1, 1, 1)
    std = []
    for time in (1e-3, 1.0):
        mean, noise = sde.marginal_prob(ones, torch.tensor([time]))
        std.append(math.sqrt(float(mean) ** 2 + float(noise) ** 2))
    torch.testing.assert_close(got, first * std[0] / std[1], rtol=1e-3, atol=1e-3)
    assert evaluations > 10
    assert_equal(sampler(Net(sde), first)[0], got)
    denoised = score_sde.get_ode_sampler(sde, SHAPE, lambda x: x, denoise=True, device="cpu", noise=NOISE)
    torch.testing.assert_close(denoised(Net(sde))[0], got, rtol=0.2, atol=0.2)


@pytest.mark.parametrize("kind", ["Rademacher", "Gaussian"])
def test_likelihood(kind):
    """Of normal data along Rademacher directions the estimate is exact."""
    pytest.importorskip("scipy")
    sde, data = SDES["vp"], normal(*SHAPE)
    likelihood = score_sde.get_likelihood_fn(sde, lambda x: (x + 1) / 2, kind, noise=NOISE)
    bits, latent, _ = likelihood(Net(sde), data)
    exact = (0.5 * data**2 + 0.5 * math.log(2 * math.pi)).flatten(1).mean(1) / math.log(2) + 7
    torch.testing.assert_close(bits, exact, rtol=0, atol=1e-3 if kind == "Rademacher" else 0.5)
    torch.testing.assert_close(latent, data, rtol=1e-2, atol=1e-2)
    half = score_sde.get_likelihood_fn(sde, lambda x: (x + 1) / 2, kind, noise=NOISE.shard(first_sample=3))
    torch.testing.assert_close(half(Net(sde), data[3:])[0], bits[3:], rtol=0, atol=1e-4)


def test_classes_of_your_own():
    """A class of score_sde's shape, over our base, gets the sampler's named noise."""

    class Reverse:
        def __init__(self, sde, score_fn, probability_flow):
            self.sde, self.score, self.flow = sde, score_fn, probability_flow

        def discretize(self, x, t):
            f, g = self.sde.discretize(x, t)
            return f - g.reshape(-1, 1, 1, 1) ** 2 * self.score(x, t), g

    class WithReverse(SmallVE):
        def reverse(self, score_fn, probability_flow=False):
            return Reverse(self, score_fn, probability_flow)

    class Mine(score_sde.Predictor):
        def update_fn(self, x, t):
            f, g = self.rsde.discretize(x, t)
            return x - f + g.reshape(-1, 1, 1, 1) * self.normals(x), x - f

    class Still(score_sde.Corrector):
        def update_fn(self, x, _t):
            assert (self.snr, self.n_steps) == (0.1, 1)
            return x + 0 * self.normals(x), x

    sde = WithReverse(8)
    options = {"continuous": True, "device": "cpu", "noise": NOISE}
    got, expected = (
        score_sde.get_pc_sampler(sde, SHAPE, *classes, lambda x: x, 0.1, **options)(Net(sde))[0]
        for classes in ((Mine, Still), (score_sde.ReverseDiffusionPredictor, None))
    )
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_what_they_refuse():
    sde = SDES["vp"]
    for make, message in (
        (lambda: score_sde.get_pc_sampler(sde, SHAPE, "name", None, abs, 0.1), "predictor must be"),
        (lambda: score_sde.get_pc_sampler(sde, SHAPE, None, None, abs, 0.1, eps=2.0), "eps must be below"),
        (lambda: score_sde.get_pc_sampler(object(), SHAPE, None, None, abs, 0.1), "sde must be"),
        (lambda: score_sde.get_ode_sampler(sde, SHAPE, None), "inverse_scaler must be"),
        (lambda: score_sde.get_likelihood_fn(sde, abs, "Cauchy"), "hutchinson_type must be"),
    ):
        with pytest.raises((TypeError, ValueError, NotImplementedError), match=message):
            make()
    with pytest.raises(ValueError, match="gray_scale_img must be"):
        score_sde.get_pc_colorizer(sde, None, None, abs, 0.1)(Net(sde), torch.zeros(2, 1, 4, 4))
