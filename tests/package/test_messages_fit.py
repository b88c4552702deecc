"""An error's message fits a screen, whatever was given: twenty lines of 80."""

from __future__ import annotations

import pytest
import torch

import pyebm

SCREEN = 1600
LONG = list(range(20000))
TEXT = "x" * 20000
X = torch.zeros(3, 2)
NOISE = pyebm.Noise(0)


def score(x):
    return -x


@pytest.mark.parametrize(
    "call",
    [
        lambda: pyebm.Noise(LONG),
        lambda: NOISE.at(step=LONG),
        lambda: NOISE.randn((3, *LONG), dtype=torch.float16),
        lambda: NOISE.randn((3, 2), dtype=LONG),
        lambda: NOISE.randn((-3, *LONG)),
        lambda: pyebm.perturb(X, 0.1, LONG),
        lambda: pyebm.perturb(X, torch.zeros(7, 7, 7), NOISE),
        lambda: pyebm.perturb(X, 0.1, NOISE, backend=TEXT),
        lambda: pyebm.dsm_loss(X, 0.1, NOISE, weight=TEXT),
        lambda: pyebm.dsm_loss(X, 0.1, NOISE, reduction=TEXT),
        lambda: pyebm.denoising_score_matching(score, X, LONG, NOISE),
        lambda: pyebm.denoising_score_matching(score, X, 0.1, NOISE, weight=TEXT),
        lambda: pyebm.score_matching(score, X, method=TEXT),
        lambda: pyebm.langevin_step(X, X, 0.1, NOISE, clamp=LONG),
        lambda: pyebm.langevin_chain(X, pyebm.targets.DoubleWell(), 10, LONG, NOISE),
        lambda: pyebm.langevin_chain(X, pyebm.targets.DoubleWell(), LONG, 0.1, NOISE),
        lambda: pyebm.ReplayBuffer(100, LONG),
        lambda: pyebm.targets.Gaussian(LONG, 1.0),
        lambda: pyebm.targets.MLPEnergy(torch.nn.Linear(2, 1), condition=1, embedding=LONG),
        lambda: pyebm.targets.MLPEnergy(torch.nn.Sequential(*[torch.nn.Tanhshrink()] * 2000)),
        lambda: pyebm.samplers.AnnealedLangevin(lambda x, _: -x, [1.0 + k for k in LONG], 0.1, 2),
        lambda: pyebm.samplers.AnnealedLangevin(lambda x, _: -x, [-1.0 - k for k in LONG], 0.1, 2),
        lambda: pyebm.samplers.Langevin(score, 0.1, temperature=LONG, noise_scale=LONG),
        lambda: pyebm.samplers.Langevin(score, LONG)(X, 10, noise=0),
        lambda: pyebm.samplers.MALA(score, 0.1, per=TEXT),
        lambda: pyebm.samplers.HMC(score, 0.1, LONG),
        lambda: pyebm.samplers.State(X, NOISE, {TEXT: X}),
        lambda: pyebm.distributed.sample(score, LONG, ids=TEXT, noise=0, batch=8, out="out"),
        lambda: pyebm.diagnostics.kernel_stein_discrepancy(X, LONG),
    ],
)
def test_a_message_fits_a_screen(call):
    with pytest.raises((TypeError, ValueError, RuntimeError)) as caught:
        call()
    assert len(str(caught.value)) < SCREEN
