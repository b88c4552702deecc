r"""A config of ``python -m pyebm sample`` in the shape of EDM's generate.py: each picture has an
id, and a class drawn as DiT's sample_ddp.py draws it, both the same for any number of processes.

    torchrun --nproc-per-node=2 -m pyebm sample examples/generate_digits.py \
        --ids 0-49999 --out out/generated

The denoiser is the exact one of a class's data; yours would be a network, whose weights you load
here. Needs scikit-learn.
"""

from __future__ import annotations

import itertools

import torch
from sklearn.datasets import load_digits

import pyebm

CLASSES, LABELS, CHURN, STEPS = 10, 1, 2, 12  # LABELS and CHURN are streams of the noise
digits = load_digits()
data, targets = torch.tensor(digits.data, dtype=torch.float32) / 8 - 1, torch.tensor(digits.target)
of_class = [data[targets == k] for k in range(CLASSES)]
ramp = torch.linspace(0, 1, STEPS, dtype=torch.float64)
times = [*((20 ** (1 / 7) + ramp * (0.02 ** (1 / 7) - 20 ** (1 / 7))) ** 7).tolist(), 0.0]


def denoised(x, sigma, label):
    """E[data of the class | x], one picture at a time, so that a picture's bits don't depend on
    the others."""
    rows = [
        x + sigma**2 * pyebm.targets.GaussianMixture.from_data(of_class[k], sigma).score(x)
        for k, x in zip(label, x, strict=True)
    ]
    return torch.cat(rows)


def sampler(x0, noise):
    """Karras et al. (2022), algorithm 2, first order."""
    label = (CLASSES * (1 - noise.at(stream=LABELS).rand((len(x0), 1)))).long().flatten().tolist()
    x = times[0] * x0.reshape(len(x0), 1, -1)
    for step, (now, after) in enumerate(itertools.pairwise(times)):
        raised = 1.2 * now
        z = noise.at(stream=CHURN, step=step).randn(x.shape)
        x = x + (raised**2 - now**2) ** 0.5 * z
        x = x + (after - raised) / raised * (x - denoised(x, raised, label).view_as(x))
    return x.view_as(x0)


shape, noise, batch, format = (1, 8, 8), pyebm.Noise(0), 16, "png"
