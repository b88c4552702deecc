"""The functions of ncsnv2's shape against the published formulas in plain PyTorch."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from cases import assert_equal, column, normal
from compare import DTYPES, assert_as_good, gradient

from pyebm import Noise
from pyebm.integrations.ncsnv2 import (
    anneal_dsm_score_estimation,
    anneal_Langevin_dynamics,
    anneal_Langevin_dynamics_inpainting,
)

SHAPE = (6, 3, 8, 8)
NOISE = Noise(1, step=7)
SIGMAS = torch.tensor([5.0, 1.0, 0.1, 0.01])
LABELS = torch.tensor([0, 1, 2, 3, 3, 0])


def published_loss(score_of, x, z, power):
    """1/2 |s - target|^2 sigma^p with target = -(x~ - x) / sigma^2."""
    s = column(SIGMAS[LABELS], x).to(x.dtype)
    target = -(s * z) / s**2
    return 0.5 * (score_of(x + s * z, LABELS) - target).flatten(1).square().sum(1) * s.flatten() ** power


class Net:
    """A score with one parameter, divided by its level as ncsnv2's networks are."""

    def __init__(self, dtype):
        self.weight = normal(3, 8, 8, dtype=dtype, seed=5, grad=True)

    def __call__(self, x, labels):
        return -self.weight * x / column(SIGMAS[labels], x).to(x.dtype)


@pytest.mark.parametrize("power", [2.0, 1.0])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ours", [True, False], ids=["regenerated", "caller's noise"])
def test_loss_and_gradient(dtype, power, ours):
    x, z = normal(*SHAPE, dtype=dtype), NOISE.randn(SHAPE, dtype=dtype)
    exact_z = NOISE.randn(SHAPE, dtype=torch.float64) if ours else z.double()
    net, exact = Net(dtype), Net(torch.float64)
    exact.weight = net.weight.detach().double().requires_grad_()
    seen = []
    got = anneal_dsm_score_estimation(
        net, x, SIGMAS, LABELS, power, hook=lambda *values: seen.append(values), noise=NOISE if ours else z
    )
    plain, truth = published_loss(net, x, z, power), published_loss(exact, x.double(), exact_z, power)
    ((losses, labels),) = seen
    assert labels is LABELS
    results = zip(
        gradient(got, net.weight),
        gradient(plain.mean(), net.weight),
        gradient(truth.mean(), exact.weight),
        strict=True,
    )
    for triple in ((losses.detach(), plain.detach(), truth.detach()), *results):
        if triple[1].isfinite().all():
            assert_as_good(*triple)
        else:  # the published form overflows float16 at small sigma; ours must not
            assert dtype == torch.float16
            torch.testing.assert_close(
                triple[0].double(), triple[2], rtol=2e-2, atol=1e-3 * triple[2].abs().max().item()
            )


def test_labels_and_noise_as_in_their_run():
    """After torch.manual_seed, ncsnv2 draws labels and then noise: with torch.randn_like ours
    repeats its run."""
    x, net = normal(*SHAPE), Net(torch.float32)
    torch.manual_seed(3)
    got = anneal_dsm_score_estimation(net, x, SIGMAS, noise=torch.randn_like)
    torch.manual_seed(3)
    labels = torch.randint(0, 4, (6,))
    z = torch.randn_like(x)
    torch.testing.assert_close(
        got, anneal_dsm_score_estimation(net, x, SIGMAS, labels, noise=z), rtol=0, atol=0
    )


def score(x, labels):
    """The score of a standard normal, smoothed by the level."""
    return -x / (1 + column(SIGMAS[labels], x) ** 2)


def published_chain(x, score_of, normals, n, lr, denoise):
    states = []
    for level, sigma in enumerate(SIGMAS.tolist()):
        labels = torch.full((len(x),), level)
        eta = lr * (sigma / SIGMAS[-1].item()) ** 2
        for _ in range(n):
            x = x + eta * score_of(x, labels) + math.sqrt(2 * eta) * next(normals)
            states.append(x)
    if denoise:
        states.append(x + SIGMAS[-1].item() ** 2 * score_of(x, torch.full((len(x),), 3)))
    return states


def drawn(shape, dtype=torch.float32):
    return (NOISE.at(step=NOISE.step + k).randn(shape, dtype=dtype) for k in itertools.count())


@pytest.mark.parametrize("sigmas", [SIGMAS, SIGMAS.numpy(), SIGMAS.tolist()], ids=["tensor", "array", "list"])
@pytest.mark.parametrize("denoise", [True, False])
def test_chain(sigmas, denoise):
    x = normal(*SHAPE)
    got = anneal_Langevin_dynamics(x, score, sigmas, 5, 8e-6, denoise=denoise, noise=NOISE)
    truth = published_chain(x.double(), score, drawn(SHAPE, torch.float64), 5, 8e-6, denoise)
    assert len(got) == len(truth) == 20 + denoise
    for a, b in zip(got, truth, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-5)
    last = anneal_Langevin_dynamics(x, score, sigmas, 5, 8e-6, final_only=True, denoise=denoise, noise=NOISE)
    assert len(last) == 1
    assert_equal(last[0], got[-1])


def test_their_own_chain():
    """With torch.randn_like as noise, the states are those of eager PyTorch, which draws in the
    same order."""
    x = normal(*SHAPE)
    torch.manual_seed(3)
    got = anneal_Langevin_dynamics(x, score, SIGMAS, 5, noise=torch.randn_like)
    torch.manual_seed(3)
    want = published_chain(x, score, (torch.randn_like(x) for _ in itertools.count()), 5, 8e-6, True)
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)


def test_verbose(capsys):
    anneal_Langevin_dynamics(normal(*SHAPE), score, SIGMAS, 2, verbose=True, noise=NOISE)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert lines[0].startswith("level: 0, step_size: 2.0, grad_norm: ")


def test_inpainting():
    """In each step the known half is the reference plus fresh noise of the level; the other half
    is a chain."""
    known, start = normal(2, 3, 8, 8, seed=1), normal(2, 3, 3, 8, 8)
    got = anneal_Langevin_dynamics_inpainting(start.clone(), known, score, SIGMAS, 8, 5, noise=NOISE)
    steps = (NOISE.at(step=NOISE.step + k) for k in itertools.count())
    x, reference = start.reshape(6, 3, 8, 8).double(), known.repeat_interleave(3, dim=0)[..., :4].double()
    assert len(got) == 20
    for k in range(20):
        torch.testing.assert_close(got[k].double(), x, rtol=1e-5, atol=1e-5)
        level = k // 5
        eta = 8e-6 * (SIGMAS[level].item() / SIGMAS[-1].item()) ** 2
        x = x.clone()
        x[..., :4] = reference + SIGMAS[level].item() * next(steps).randn((6, 3, 8, 4), dtype=torch.float64)
        z = next(steps).randn((6, 3, 8, 8), dtype=torch.float64)
        x = x + eta * score(x, torch.full((6,), level)) + math.sqrt(2 * eta) * z
    assert np.isfinite(got[-1].numpy()).all()
