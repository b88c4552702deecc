"""No normals are drawn where their coefficient is 0: a zero that normals of either sign were
multiplied into would have either sign. The results equal the reference's all the same."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, normal

import pyebm
from pyebm import Noise, _ops

pytestmark = pytest.mark.skipif(_ops.backends()["cpu"] is not True, reason="the CPU library is not built")
ZERO, ONE = torch.full((3, 700), -0.0), torch.ones(3, 700)

CALLS = {
    "perturb": lambda c: pyebm.perturb(ZERO, c, Noise(0)),
    "langevin_step": lambda c: pyebm.langevin_step(ZERO, -0.0 * ONE, 0.1, Noise(0), temperature=c),
    "affine_step": lambda c: pyebm.affine_step(ZERO, -0.0 * ONE, 1.0, 1.0, c, Noise(0)),
    "denoising_loss": lambda c: torch.autograd.grad(
        pyebm.denoising_loss(x := ZERO.clone().requires_grad_(), Noise(0), lam=c), x
    )[0],
    "langevin_chain": lambda c: pyebm.langevin_chain(
        ZERO, pyebm.targets.DoubleWell(), 1, 1e-3, Noise(0), temperature=c
    ),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_nothing_is_drawn(call):
    drawn = call(0.5)
    assert drawn.unique().numel() > 2000
    zeros = call(0.0)
    assert (zeros == 0).all()
    assert zeros.signbit().unique().numel() == 1


@pytest.mark.parametrize("shape", [(5, 3), (3, 700), (2, 2500)], ids=str)
def test_schedules_that_begin_and_end_at_zero(shape):
    """The chain lays out its noise in the first step, also where that step's temperature is 0."""
    x, target = normal(*shape), pyebm.targets.DoubleWell()
    temperature = torch.tensor([0.0, 0.7, 0.0, 0.0, 1.0, 0.0])
    run = [
        pyebm.langevin_chain(x, target, 6, 0.01, Noise(3), temperature=temperature, backend=backend)
        for backend in ("cpu", "reference")
    ]
    assert_equal(*run)
