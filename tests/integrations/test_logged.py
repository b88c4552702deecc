"""What the repositories log stays what it was."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from cases import column, normal

from pyebm import Noise
from pyebm.integrations import _edm_losses
from pyebm.integrations.edm import EDM2Loss, EDMLoss, VELoss, VPLoss
from pyebm.integrations.ncsnv2 import anneal_Langevin_dynamics, anneal_Langevin_dynamics_inpainting

SHAPE = (4, 3, 8, 8)
NOISE = Noise(1, step=7)
SIGMAS = torch.tensor([5.0, 1.0, 0.1])


def network(x, sigma, labels=None, augment_labels=None):
    del labels, augment_labels
    return x / (1 + sigma)


# --- EDM


def reported(loss):
    """The moments that EDM's training_stats keeps of a tensor: count, sum, sum of squares."""
    values = torch.as_tensor(loss).detach().flatten().to(torch.float32)
    return [values.numel(), values.sum().item(), values.square().sum().item()]


def network2(x, sigma, labels=None, return_logvar=False):
    del labels, return_logvar
    return x / (1 + sigma), sigma.log() / 4


@pytest.mark.parametrize(
    ("cls", "net"),
    [(EDMLoss, network), (VELoss, network), (VPLoss, network), (EDM2Loss, network2)],
    ids=["EDM", "VE", "VP", "EDM2"],
)
@pytest.mark.parametrize("shape", [SHAPE, (4, 1, 5, 7), (4, 1, 1, 1)])
def test_the_statistics_of_edm(cls, net, shape):
    """Count, mean and standard deviation are those of the elements, which are not stored."""
    x = normal(*shape)
    elements, summed = (cls(noise=NOISE, reduction=reduction)(net, x) for reduction in ("none", "sum"))
    assert summed.shape == x.shape
    assert summed.untyped_storage().nbytes() <= 4 * len(x) * 5  # a few numbers a sample
    assert reported(summed) == pytest.approx(reported(elements), rel=1e-4)
    torch.testing.assert_close(summed.flatten(1).mean(1), elements.flatten(1).mean(1))
    assert summed.sum().item() == pytest.approx(elements.sum().item(), rel=1e-5)


def test_in_blocks(monkeypatch):
    x = normal(*SHAPE)
    whole = EDMLoss(noise=NOISE, reduction="sum")(network, x)
    monkeypatch.setattr(_edm_losses, "BLOCK", 400)
    torch.testing.assert_close(EDMLoss(noise=NOISE, reduction="sum")(network, x), whole)


def test_the_options_of_edm():
    """EDM prints them as JSON, and writes them to training_options.json."""
    options = {"class_name": "pyebm.integrations.edm.EDMLoss", "noise": [7, 2], "reduction": "sum"}
    again = json.loads(json.dumps(options))
    del again["class_name"]
    x = normal(*SHAPE)
    want = EDMLoss(noise=Noise(7, step=2), reduction="sum")(network, x)
    torch.testing.assert_close(EDMLoss(**again)(network, x), want, rtol=0, atol=0)


# --- ncsnv2


def score(x, labels):
    return -x / (1 + column(SIGMAS[labels], x) ** 2)


def norm(x):
    return torch.norm(x.reshape(x.shape[0], -1), dim=-1).mean().item()


@pytest.mark.parametrize("sigmas", [SIGMAS.numpy(), SIGMAS, SIGMAS.tolist()], ids=["array", "tensor", "list"])
@pytest.mark.parametrize("noise", [NOISE, torch.randn_like], ids=["ours", "theirs"])
def test_the_lines_of_a_chain(sigmas, noise, capsys):
    x, lr, n = normal(*SHAPE), 8e-6, 2
    torch.manual_seed(3)
    anneal_Langevin_dynamics(x, score, sigmas, n, lr, verbose=True, noise=noise)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(SIGMAS) * n
    torch.manual_seed(3)
    step = NOISE.step
    for c, sigma in enumerate(sigmas):
        step_size = lr * (sigma / sigmas[-1]) ** 2
        for _ in range(n):
            grad = score(x, torch.full((4,), c))
            z = torch.randn_like(x) if noise is torch.randn_like else NOISE.at(step=step).randn(SHAPE)
            step += 1
            x = x + float(step_size) * grad + z * math.sqrt(2 * step_size)
            named = dict(part.split(": ") for part in lines.pop(0).split(", "))
            assert list(named) == ["level", "step_size", "grad_norm", "image_norm", "snr", "grad_mean_norm"]
            assert named["level"] == str(c)
            assert named["step_size"] == f"{step_size}"
            want = {
                "grad_norm": norm(grad),
                "image_norm": norm(x),
                "snr": np.sqrt(float(step_size) / 2) * norm(grad) / norm(z),
                "grad_mean_norm": (torch.norm(grad.mean(0)) ** 2 * float(sigma) ** 2).item(),
            }
            assert {name: float(named[name]) for name in want} == pytest.approx(want, rel=1e-4)


def test_the_lines_of_an_inpainting(capsys):
    """ncsnv2 always prints them."""
    known, start = normal(2, 3, 8, 8, seed=1), normal(2, 3, 3, 8, 8)
    states = anneal_Langevin_dynamics_inpainting(
        start.clone(), known, score, SIGMAS.numpy(), 8, 2, noise=NOISE
    )
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(states) == 6
    words = lines[0].split()
    assert (words[0], words[1], words[2], words[4], words[6]) == ("class:", "0,", "step_size:", "mean", "max")
    assert words[3] == f"{8e-6 * (SIGMAS.numpy()[0] / SIGMAS.numpy()[-1]) ** 2},"
    assert float(words[5].strip(",")) < float(words[7])
    anneal_Langevin_dynamics_inpainting(
        start.clone(), known, score, SIGMAS.numpy(), 8, 2, noise=NOISE, verbose=False
    )
    assert capsys.readouterr().out == ""
