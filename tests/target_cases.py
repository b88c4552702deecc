"""The tests of targets and chains share one of each target, for samples of a given size, and
starting points."""

from __future__ import annotations

import torch
from cases import normal

import pyebm
from pyebm import targets


def make(kind: str, elements: int) -> targets.Target:
    """Makes the target with numbers that are nobody's default, for samples of so many elements."""
    return {
        "harmonic": lambda: targets.Harmonic(1.7, 0.3),
        "double_well": lambda: targets.DoubleWell(1.9, 1.1),
        "gaussian": lambda: targets.Gaussian(normal(elements, seed=3), normal(elements, seed=4).abs() + 0.5),
        "polynomial": lambda: targets.Polynomial([1.0, 0.3, -1.1, 0.2, 0.25]),
        "rastrigin": lambda: targets.Rastrigin(1.3),
        "rosenbrock": lambda: targets.Rosenbrock(0.9, 2.1),
        "ackley": lambda: targets.Ackley(7.0, 0.4, 5.0),
        "funnel": lambda: targets.Funnel(1.4),
    }[kind]()


# Every backend gives the same bits for these targets; the dense ones have tests of their own
# (test_mixture.py, test_gaussian_full.py).
KINDS = tuple(name for name, kind in pyebm._schemas.KINDS.items() if not kind.dense)
DENSE = tuple(name for name, kind in pyebm._schemas.KINDS.items() if kind.dense)
COUPLED = tuple(name for name, kind in pyebm._schemas.KINDS.items() if kind.coupled)


def lacks(target: targets.Target, method: str, elements: int) -> bool:
    """Whether the target has no ``log_prob`` or no ``sample`` of samples of so many elements."""
    if isinstance(target, targets.Rosenbrock):
        return elements != 2
    return getattr(type(target), method) is getattr(targets.Target, method)


def start(shape, dtype=torch.float32, device="cpu"):
    """States around the minima."""
    return normal(*shape, dtype=dtype, device=device)


def elements_of(shape):
    return torch.Size(shape[1:]).numel()


def loop(x, target, n_steps, step_size, noise, *, temperature=1.0, clamp=None, thin=None, backend=None):
    """The chain must equal this loop, one step at a time. step_size and temperature are as
    langevin_step takes them, or lists with a value for each step."""
    states = []
    for k in range(n_steps):
        eta, t = (value[k] if isinstance(value, list) else value for value in (step_size, temperature))
        score = target.score(x, backend=backend)
        x = pyebm.langevin_step(
            x, score, eta, noise.at(step=noise.step + k), temperature=t, clamp=clamp, backend=backend
        )
        if thin and (k + 1) % thin == 0:
            states.append(x)
    kept = torch.stack(states) if states else x.new_empty((0, *x.shape))
    return x if thin is None else (x, kept)
