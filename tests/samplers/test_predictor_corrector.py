"""PredictorCorrector against the published formulas (Song et al. 2021), transcribed into plain
PyTorch with given noise."""

from __future__ import annotations

import math

import pytest
import torch
from cases import assert_equal, normal
from torch import Tensor

from pyebm import Noise
from pyebm.samplers import SDE, VE, VP, PredictorCorrector, SubVP

pytestmark = pytest.mark.usefixtures("poison", "one_thread")
N, SNR = 40, 0.2


def score(x: Tensor, t: Tensor) -> Tensor:
    return -torch.tanh(x) * (1 + t.reshape(-1, 1)) ** 2


class Published:
    """One SDE's formulas, selected by its name, in float64; ``t`` is a tensor (B,), as in the
    paper's code."""

    def __init__(self, name: str, low: float, high: float) -> None:
        self.name, self.low, self.high = name, low, high
        self.betas = torch.linspace(low / N, high / N, N, dtype=torch.float64)
        self.sigmas = torch.exp(torch.linspace(math.log(low), math.log(high), N, dtype=torch.float64))

    def at(self, t: Tensor) -> Tensor:
        return (t * (N - 1)).long()

    def sde(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        if self.name == "ve":
            sigma = self.low * (self.high / self.low) ** t
            return torch.zeros_like(x), sigma * math.sqrt(2 * (math.log(self.high) - math.log(self.low)))
        beta = self.low + t * (self.high - self.low)
        drift = -0.5 * beta[:, None] * x
        if self.name == "vp":
            return drift, beta.sqrt()
        discount = 1 - torch.exp(-2 * self.low * t - (self.high - self.low) * t**2)
        return drift, (beta * discount).sqrt()

    def discretize(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        k = self.at(t)
        if self.name == "ve":
            below = torch.where(k == 0, torch.zeros_like(t), self.sigmas[(k - 1).clamp(min=0)])
            return torch.zeros_like(x), (self.sigmas[k] ** 2 - below**2).sqrt()
        if self.name == "vp":
            beta = self.betas[k]
            return (1 - beta).sqrt()[:, None] * x - x, beta.sqrt()
        drift, diffusion = self.sde(x, t)
        return drift / N, diffusion * math.sqrt(1 / N)

    def predict(self, kind: str | None, x: Tensor, t: Tensor, z: Tensor, flow: bool) -> tuple[Tensor, Tensor]:
        s, half = score(x, t), 0.5 if flow else 1.0
        if kind is None:
            return x, x
        if kind == "euler_maruyama":
            drift, diffusion = self.sde(x, t)
            drift = drift - diffusion[:, None] ** 2 * s * half
            mean = x - drift / N
            return (mean if flow else mean + diffusion[:, None] * math.sqrt(1 / N) * z), mean
        if kind == "reverse_diffusion":
            f, g = self.discretize(x, t)
            mean = x - (f - g[:, None] ** 2 * s * half)
            return (mean if flow else mean + g[:, None] * z), mean
        k = self.at(t)
        if self.name == "ve":
            sigma, below = (
                self.sigmas[k],
                torch.where(k == 0, torch.zeros_like(t), self.sigmas[(k - 1).clamp(min=0)]),
            )
            mean = x + s * (sigma**2 - below**2)[:, None]
            return mean + (below**2 * (sigma**2 - below**2) / sigma**2).sqrt()[:, None] * z, mean
        beta = self.betas[k][:, None]
        mean = (x + beta * s) / (1 - beta).sqrt()
        return mean + beta.sqrt() * z, mean

    def correct(self, x: Tensor, t: Tensor, z: Tensor, per: str) -> Tensor:
        alpha = torch.ones_like(t) if self.name == "ve" else 1 - self.betas[self.at(t)]
        s = score(x, t)
        grad_norm, noise_norm = s.norm(dim=1), z.norm(dim=1)
        if per == "batch":
            grad_norm, noise_norm = grad_norm.mean(), noise_norm.mean()
        step = (SNR * noise_norm / grad_norm) ** 2 * 2 * alpha
        return x + step[:, None] * s + (step * 2).sqrt()[:, None] * z

    def marginal(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        if self.name == "ve":
            return x, self.low * (self.high / self.low) ** t
        log_mean = -0.25 * t**2 * (self.high - self.low) - 0.5 * t * self.low
        std = 1 - torch.exp(2 * log_mean)
        return torch.exp(log_mean)[:, None] * x, std.sqrt() if self.name == "vp" else std


SDES: dict[str, tuple[SDE, Published]] = {
    "ve": (VE(0.05, 8.0), Published("ve", 0.05, 8.0)),
    "vp": (VP(0.1, 15.0), Published("vp", 0.1, 15.0)),
    "subvp": (SubVP(0.1, 15.0), Published("subvp", 0.1, 15.0)),
}
KINDS = [(None, False), ("reverse_diffusion", False), ("euler_maruyama", False), ("ancestral", False)]
FLOWS = [("reverse_diffusion", True), ("euler_maruyama", True)]


def z(stream: int, k: int) -> Tensor:
    return Noise(3, step=k, stream=5 + stream).randn((7, 4)).double()


@pytest.mark.parametrize("per", ["batch", "sample"])
@pytest.mark.parametrize(("kind", "flow"), [*KINDS, *FLOWS], ids=str)
@pytest.mark.parametrize("name", SDES)
def test_the_published_loop(name, kind, flow, per):
    sde, published = SDES[name]
    if (name, kind) == ("subvp", "ancestral"):
        with pytest.raises(ValueError, match="ancestral sampling is not defined for SubVP"):
            PredictorCorrector(score, sde, N, predictor=kind)
        return
    options = {"predictor": kind, "probability_flow": flow, "per": per, "snr": SNR, "corrector_steps": 2}
    x = mean = normal(7, 4, dtype=torch.float64)
    sampler = PredictorCorrector(score, sde, N, denoise=False, **options)
    steps = sampler(x, noise=Noise(3, stream=5), thin=1).states
    for k, at in enumerate(torch.linspace(1, sde.eps, N, dtype=torch.float64)):
        t = at.expand(7)
        if (
            k == 0 and name == "ve"
        ):  # truncation of t (N - 1) must not fall a step short at the very first time
            assert published.at(t)[0] == N - 1
        for j in range(2):
            x = published.correct(x, t, z(1 + j, k), per)
        x, mean = published.predict(kind, x, t, z(0, k), flow)
        torch.testing.assert_close(steps[k], x, rtol=1e-9, atol=1e-9)
        x = steps[k]  # start from the run's own state, so that rounding does not add up
    denoised = PredictorCorrector(score, sde, N, **options)(
        normal(7, 4, dtype=torch.float64), noise=Noise(3, stream=5)
    )
    torch.testing.assert_close(denoised, mean, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", SDES)
def test_inpainting(name):
    """As in score_sde, known elements follow the forward process, and the score of the unknown
    ones sees them."""
    sde, published = SDES[name]
    mask, known, x = (
        normal(7, 4, seed=3) > 0,
        normal(7, 4, dtype=torch.float64, seed=4),
        normal(7, 4, dtype=torch.float64),
    )
    sampler = PredictorCorrector(score, sde, N, snr=SNR, mask=mask, known=known)
    got = sampler(x, 3, noise=Noise(3, stream=5))
    for k in range(3):
        t = torch.linspace(1, sde.eps, N, dtype=torch.float64)[k].expand(7)
        mean, std = published.marginal(known, t)
        x = torch.where(mask, x, mean + std[:, None] * z(2, k))
        x = torch.where(mask, published.correct(x, t, z(1, k), "batch"), x)
        x = torch.where(mask, x, mean + std[:, None] * z(3, k))
        x = torch.where(mask, published.predict("reverse_diffusion", x, t, z(0, k), False)[0], x)
    torch.testing.assert_close(got, x, rtol=1e-9, atol=1e-9)
    assert_equal(
        torch.where(mask, 0.0, sampler(got, noise=Noise(3, stream=5, step=3))), torch.where(mask, 0.0, known)
    )


@pytest.mark.parametrize("name", SDES)
def test_marginals(name):
    sde, published = SDES[name]
    for t in (sde.eps, 0.3, 1.0):
        mean, std = published.marginal(
            torch.ones(1, 1, dtype=torch.float64), torch.tensor([t], dtype=torch.float64)
        )
        assert sde.alpha(t) == pytest.approx(float(mean), rel=1e-12)
        assert sde.sigma(t) == pytest.approx(float(std), rel=1e-9)
        # Checks d sigma^2 / dt = 2 f sigma^2 + g^2 and d alpha / dt = f alpha.
        h = 1e-6
        rate = (sde.sigma(t + h) ** 2 - sde.sigma(t - h) ** 2) / (2 * h)
        assert rate == pytest.approx(2 * sde.f(t) * sde.sigma(t) ** 2 + sde.g(t) ** 2, rel=1e-5, abs=1e-7)
        assert (sde.alpha(t + h) - sde.alpha(t - h)) / (2 * h) == pytest.approx(
            sde.f(t) * sde.alpha(t), rel=1e-6, abs=1e-9
        )


def test_prior_and_info():
    sde, _ = SDES["ve"]
    sampler, seen = PredictorCorrector(score, sde, N), []
    assert_equal(sampler.prior((7, 4), Noise(1)), 8.0 * Noise(1).randn((7, 4)))
    sampler(sampler.prior((7, 4), Noise(1)), noise=Noise(2), callback=lambda *args: seen.append(args[2]))
    assert seen[0] == {"t": 1.0, "sigma": pytest.approx(8.0)}
    assert seen[-1]["t"] == pytest.approx(sde.eps)
    assert len(sampler) == len(seen) == N


BAD = {
    "sde": (lambda: PredictorCorrector(score, "ve", 10), TypeError, "sde must be VE, VP or SubVP, got str"),
    "score_fn": (
        lambda: PredictorCorrector(3, VE(), 10),
        TypeError,
        "score_fn must be a function of x and t, got int",
    ),
    "n": (lambda: PredictorCorrector(score, VE(), 1), ValueError, "n must be >= 2, got 1"),
    "beta": (lambda: PredictorCorrector(score, VP(), 20), ValueError, "VP needs n > beta_max = 20, got 20"),
    "predictor": (
        lambda: PredictorCorrector(score, VE(), 10, predictor="ddim"),
        ValueError,
        "predictor must be one of .*'ddim'",
    ),
    "nothing": (
        lambda: PredictorCorrector(score, VE(), 10, predictor=None, corrector_steps=0),
        ValueError,
        "corrector_steps",
    ),
    "corrector_steps": (
        lambda: PredictorCorrector(score, VE(), 10, corrector_steps=-1),
        ValueError,
        "corrector_steps .* got -1",
    ),
    "snr": (
        lambda: PredictorCorrector(score, VE(), 10, snr=0.0),
        ValueError,
        "snr must be > 0 and finite, got 0",
    ),
    "per": (
        lambda: PredictorCorrector(score, VE(), 10, per="x"),
        ValueError,
        "per must be one of 'batch', 'sample', got 'x'",
    ),
    "flow": (
        lambda: PredictorCorrector(score, VE(), 10, predictor="ancestral", probability_flow=True),
        ValueError,
        "probability_flow needs .* got 'ancestral'",
    ),
    "sigma": (
        lambda: VE(1.0, 0.5),
        ValueError,
        "VE: sigma_min and sigma_max must be 0 < min <= max and finite, got 1.0 and 0.5",
    ),
    "betas": (lambda: SubVP(0.0, 1.0), ValueError, "SubVP: beta_min must be > 0"),
    "known": (
        lambda: PredictorCorrector(score, VE(), 10, known=torch.zeros(2, 4))(torch.zeros(2, 4)),
        ValueError,
        "known needs a",
    ),
    "beyond": (
        lambda: PredictorCorrector(score, VE(), 9)(torch.zeros(2, 4), noise=Noise(0, step=10)),
        ValueError,
        "9 steps, got 10",
    ),
    "no score": (
        lambda: PredictorCorrector(lambda x, _: torch.zeros_like(x), VE(), 9)(torch.zeros(2, 4)),
        ValueError,
        "step_size must be > 0 and finite, got inf",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
