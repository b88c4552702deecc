"""A config of ``python -m pyebm sample``: new digits by annealed Langevin dynamics, as pictures, by
any number of processes.

    python -m pyebm sample examples/sample_digits.py --ids 0-999 --out out/digits

Two processes write the same files:

    torchrun --nproc-per-node=2 -m pyebm sample examples/sample_digits.py --ids 0-999 --out out/two

The score is the exact one of smoothed data; yours would be a network, whose weights you load here.
Needs scikit-learn.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits

import pyebm

data = torch.tensor(load_digits().data, dtype=torch.float32) / 8 - 1
sigmas = [2.0, 1.0, 0.5, 0.25]
smoothed = {sigma: pyebm.targets.GaussianMixture.from_data(data, sigma) for sigma in sigmas}


def score(x, sigma):
    return smoothed[sigma[0].item()].score(x.flatten(1)).view_as(x)


sampler = pyebm.samplers.AnnealedLangevin(score, sigmas, step_lr=0.02, n_steps_each=20)
shape, noise, batch, format = (1, 8, 8), pyebm.Noise(0), 32, "png"


def init(ids, noise):
    return sigmas[0] * noise.randn((len(ids), *shape))
