"""The losses of the field's libraries, written out in plain PyTorch, equal ours with the right
coefficients.

Formulas and conventions only, from the papers and the public code's mathematics. "Equal" means: no
further from the formula in float64 than twice the error of the formula's own evaluation in float32.
"""

from __future__ import annotations

import pytest
import torch
from cases import column, normal
from torch.nn.functional import mse_loss

import pyebm
from pyebm import Noise

BATCH, SHAPE = 16, (16, 3, 8, 8)
NOISE = Noise(5, step=2)
DATA = 0.5  # EDM's and k-diffusion's sigma_data
GAMMA = 5.0  # min-SNR's


def rows(low, high, seed):
    return low + (high - low) * torch.rand(BATCH, generator=torch.Generator().manual_seed(seed))


SIGMA = rows(0.05, 3.0, 1)
ABAR = rows(0.01, 0.99, 2)
TIME = rows(0.05, 0.95, 3)
G2 = rows(0.1, 20.0, 4)  # squared diffusion coefficient of an SDE at each sample's time
ONE, ROOT, STD = torch.ones(BATCH), ABAR.sqrt(), (1 - ABAR).sqrt()


def as_in(x, *values):
    """Reshapes values of each sample to (B, 1, 1, 1), in x's dtype."""
    return [column(value, x).to(x.dtype) for value in values]


def sums(loss):
    return loss.flatten(1).sum(1)


def means(loss):
    return loss.flatten(1).mean(1)


# --- their losses, of (pred, z, x0) ---


def vincent(pred, z, x0):
    (s,) = as_in(x0, SIGMA)
    noisy = x0 + s * z
    return 0.5 * sums((pred - (x0 - noisy) / s**2) ** 2).mean()


def ncsnv2(pred, z, power):
    (s,) = as_in(pred, SIGMA)
    target = -1 / s**2 * (z * s)
    return (0.5 * sums((pred - target) ** 2) * s.flatten() ** power).mean()


def score_sde(score, std, z, reduce_mean):
    loss = (score * std + z) ** 2
    return (means(loss) if reduce_mean else 0.5 * sums(loss)).mean()


def score_sde_vp(pred, z, reduce_mean):
    """The network's raw output is the noise, from which the score is made."""
    (std,) = as_in(pred, STD)
    return score_sde(-pred / std, std, z, reduce_mean)


def score_sde_likelihood(pred, z, reduce_mean):
    std, g2 = as_in(pred, STD, G2)
    loss = (pred + z / std) ** 2
    return ((means(loss) if reduce_mean else 0.5 * sums(loss)) * g2.flatten()).mean()


def edm(pred, x0):
    (s,) = as_in(x0, SIGMA)
    return (s**2 + DATA**2) / (s * DATA) ** 2 * (pred - x0) ** 2


def k_diffusion(pred, z, x0):
    (s,) = as_in(x0, SIGMA)
    skip, out = DATA**2 / (s**2 + DATA**2), s * DATA / (s**2 + DATA**2).sqrt()
    target = (x0 - skip * (x0 + s * z)) / out
    return means((pred - target) ** 2) * s.flatten() ** 0.5


def min_snr(pred, target, added):
    """Hang et al. (2023): min(snr, gamma) / snr for epsilon (added = 0), / (snr + 1) for v."""
    (abar,) = as_in(pred, ABAR)
    snr = (abar / (1 - abar)).flatten()
    return (means((pred - target) ** 2) * snr.clamp(max=GAMMA) / (snr + added)).mean()


def velocity(pred, z, x0):
    root, std = as_in(x0, ROOT, STD)
    return min_snr(pred, root * z - std * x0, added=1)


def torchebm(pred, z):
    """torchebm's pred is +grad E, so the score is -pred; it sums over dimensions, without a
    half."""
    (s,) = as_in(pred, SIGMA)
    return sums((-pred - (-z / s)) ** 2).mean()


# --- and ours, of (pred, x0), with the coefficients made in float64 ---

S, A = SIGMA.double(), ABAR.double()
SNR, MEAN, SUM = A / (1 - A), {"reduction": "mean"}, {"half": True, "reduction": "batchmean"}
SKIP, OUT = DATA**2 / (S**2 + DATA**2), S * DATA / (S**2 + DATA**2).sqrt()


def loss(pred, **coefficients):
    return pyebm.denoising_loss(pred, NOISE, **coefficients)


def ours_k_diffusion(pred, x0):
    """The mean over a sample's dimensions: its sum, with the weight divided by their number."""
    weight = S**0.5 / x0[0].numel()
    return loss(pred, lam=SKIP * S / OUT, mu=-(1 - SKIP) / OUT, x0=x0, weight=weight, reduction="sample")


# name: (alpha, beta, theirs, ours); the sample is perturbed to alpha x0 + beta z.
PEERS = {
    "vincent": (ONE, SIGMA, vincent, lambda pred, _: pyebm.dsm_loss(pred, SIGMA, NOISE)),
    **{
        f"ncsnv2 {power}": (
            *(ONE, SIGMA, lambda pred, z, _, power=power: ncsnv2(pred, z, power)),
            lambda pred, _, power=power: pyebm.dsm_loss(pred, SIGMA, NOISE, weight=S**power),
        )
        for power in (1.0, 2.0)
    },
    "song & ermon": (
        ONE,
        SIGMA,
        lambda pred, z, _: ncsnv2(pred, z, 2),
        lambda pred, _: pyebm.dsm_loss(pred, SIGMA, NOISE, weight="sigma2"),
    ),
    "score_sde ve mean": (
        ONE,
        SIGMA,
        lambda p, z, _: score_sde(p, *as_in(p, SIGMA), z, True),
        lambda p, _: loss(p, kappa=SIGMA, lam=1, **MEAN),
    ),
    "score_sde ve sum": (
        ONE,
        SIGMA,
        lambda p, z, _: score_sde(p, *as_in(p, SIGMA), z, False),
        lambda p, _: loss(p, kappa=SIGMA, lam=1, **SUM),
    ),
    "score_sde vp mean": (
        ROOT,
        STD,
        lambda p, z, _: score_sde_vp(p, z, True),
        lambda p, _: loss(p, kappa=-1, lam=1, **MEAN),
    ),
    "score_sde vp sum": (
        ROOT,
        STD,
        lambda p, z, _: score_sde_vp(p, z, False),
        lambda p, _: loss(p, kappa=-1, lam=1, **SUM),
    ),
    "score_sde likelihood mean": (
        *(ROOT, STD, lambda p, z, _: score_sde_likelihood(p, z, True)),
        lambda p, _: loss(p, kappa=STD, lam=1, weight=G2.double() / STD.double() ** 2, **MEAN),
    ),
    "score_sde likelihood sum": (
        *(ROOT, STD, lambda p, z, _: score_sde_likelihood(p, z, False)),
        lambda p, _: loss(p, kappa=STD, lam=1, weight=G2.double() / STD.double() ** 2, **SUM),
    ),
    "edm": (
        *(ONE, SIGMA, lambda pred, _, x0: edm(pred, x0)),
        lambda pred, x0: loss(
            pred, lam=0, mu=-1, x0=x0, weight=(S**2 + DATA**2) / (S * DATA) ** 2, reduction="none"
        ),
    ),
    "k-diffusion": (ONE, SIGMA, k_diffusion, ours_k_diffusion),
    "diffusers epsilon": (ROOT, STD, lambda pred, z, _: mse_loss(pred, z), lambda pred, _: loss(pred)),
    "diffusers epsilon min-snr": (
        *(ROOT, STD, lambda pred, z, _: min_snr(pred, z, added=0)),
        lambda pred, _: loss(pred, weight=SNR.clamp(max=GAMMA) / SNR),
    ),
    "diffusers v min-snr": (
        *(ROOT, STD, velocity),
        lambda pred, x0: loss(pred, lam=-ROOT, mu=STD, x0=x0, weight=SNR.clamp(max=GAMMA) / (SNR + 1)),
    ),
    "diffusers sample": (
        ROOT,
        STD,
        lambda pred, _, x0: mse_loss(pred, x0),
        lambda pred, x0: loss(pred, lam=0, mu=-1, x0=x0),
    ),
    "torchebm": (
        ONE,
        SIGMA,
        lambda pred, z, _: torchebm(pred, z),
        lambda pred, _: loss(pred, lam=-1 / S, reduction="batchmean"),
    ),
    "flow matching": (
        1 - TIME,
        TIME,
        lambda pred, z, x0: mse_loss(pred, z - x0),
        lambda pred, x0: loss(pred, mu=1, x0=x0),
    ),
}


def assert_as_good(got, plain, exact):
    """A plain evaluation may be lucky, so its error counts as at least half an ulp."""
    ours, theirs = ((value.double() - exact).abs().max().item() for value in (got, plain))
    assert got.shape == exact.shape
    assert ours <= 2 * max(theirs, 2**-24 * exact.abs().max().item()), (ours, theirs)


@pytest.mark.parametrize("name", PEERS)
def test_loss_and_gradient(name):
    *_, formula, ours = PEERS[name]
    pred, x0, z = normal(*SHAPE), normal(*SHAPE, seed=1), NOISE.randn(SHAPE)

    def evaluated(call, dtype):
        at = pred.to(dtype).requires_grad_()
        value = call(at)
        return value.detach(), torch.autograd.grad(value.sum(), at)[0]

    got = evaluated(lambda at: ours(at, x0), torch.float32)
    plain = evaluated(lambda at: formula(at, z, x0), torch.float32)
    exact = evaluated(lambda at: formula(at, z.double(), x0.double()), torch.float64)
    for triple in zip(got, plain, exact, strict=True):
        assert_as_good(*triple)


@pytest.mark.parametrize("name", PEERS)
def test_perturbation(name):
    x0, z = normal(*SHAPE, seed=1), NOISE.randn(SHAPE)
    a, b = as_in(x0, *PEERS[name][:2])
    got = pyebm.perturb(x0, b, NOISE, alpha=a)
    assert_as_good(got, a * x0 + b * z, a.double() * x0.double() + b.double() * z.double())
