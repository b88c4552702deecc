"""Runs MALA and HMC with all steps in one launch, and again with each step by several ops."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import assert_equal

from pyebm import Noise
from pyebm.samplers import HMC, MALA
from pyebm.samplers._metropolis import Metropolis

SAMPLERS = {
    "mala": lambda target, size, **options: MALA(target, size, **options),
    "hmc of one": lambda target, size, **options: HMC(target, size, 1, **options),
    "hmc": lambda target, size, **options: HMC(target, size, 4, **options),
    "hmc, jitter": lambda target, size, **options: HMC(target, size, 3, jitter=0.5, **options),
}
NAMED = Noise(3, first_sample=7, step=2, stream=1)


def run(monkeypatch: pytest.MonkeyPatch, fused: bool, sampler: Any, *args: Any, **options: Any) -> Any:
    with monkeypatch.context() as patch:
        if not fused:
            patch.setattr(Metropolis, "_fits_a_chain", lambda _: False)
        else:  # without this the test could compare the ops with themselves
            patch.setattr(Metropolis, "decide", None)
        return sampler(*args, **options)


def equals_the_ops(
    monkeypatch: pytest.MonkeyPatch, sampler: Any, x0: torch.Tensor, n_steps: int, noise: Noise, thin: int = 3
) -> Any:
    """Returns the kernel's Trajectory, after asserting that everything in it equals the ops'."""
    ours, theirs = (
        run(monkeypatch, fused, sampler, x0, n_steps, noise=noise, thin=thin) for fused in (True, False)
    )
    assert_equal(ours.x, theirs.x)
    assert_equal(ours.state.x, theirs.state.x)
    assert ours.info.keys() == theirs.info.keys()
    for name, value in ours.info.items():
        torch.testing.assert_close(
            value, theirs.info[name], rtol=0, atol=0, equal_nan=True, msg=lambda m, n=name: f"{n}: {m}"
        )
    return ours
