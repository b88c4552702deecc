"""Calls of pyebm.distributed.sample, for processes to make, and a reader of the files that they
leave."""

from __future__ import annotations

import random
import time

import torch

import pyebm
from pyebm import Noise
from pyebm.distributed import sample
from pyebm.samplers import MALA, UnderdampedLangevin

IDS = "0-6,20,30-34"


def network(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.SiLU(), torch.nn.Linear(16, 3))


def slow(x, seconds=0.001):
    time.sleep(seconds * random.random() * 2)
    return -x


SAMPLERS = {
    "underdamped": lambda: UnderdampedLangevin(network(), 0.05),
    "mala": lambda: MALA(pyebm.targets.DoubleWell(), 0.05, warmup=10),
    "slow": lambda: UnderdampedLangevin(slow, 0.1),
}


def job(out, kind="underdamped", **options):
    given = {"ids": IDS, "noise": Noise(3, step=2, stream=1), "batch": 3, "n_steps": 40} | options
    return tuple(sample(SAMPLERS[kind](), (3,), out=out, **given))


def contents(out):
    """Returns the bytes of each file, except the run's own hidden files."""
    return {path.name: path.read_bytes() for path in sorted(out.iterdir()) if not path.name.startswith(".")}


def batch_size(x0, noise):
    """Acts as a sampler whose results depend on the batch, as a network's bits may."""
    return x0 * 0 + len(x0) + noise.sample_ids[:, None]
