"""langevin_chain: the bits of the loop it stands for, with every option, and the law of what it samples."""

from __future__ import annotations

import pytest
import torch
from cases import LARGE, assert_equal, levels, name_of
from target_cases import KINDS, elements_of, loop, make, start

import pyebm
from pyebm import Noise

pytestmark = pytest.mark.usefixtures("poison", "one_thread")

NOISE = Noise(3, step=4)
STEPS = 5


@pytest.fixture(autouse=True)
def _has_the_op(backend):
    """Backends whose kernel is still to come."""
    try:
        pyebm._ops.kernels(backend, torch.empty(0))["langevin_chain"]
    except RuntimeError:
        pytest.skip(f"{backend} does not have langevin_chain yet")


def chain(x, target, n_steps=STEPS, step_size=0.003, noise=NOISE, **options):
    return pyebm.langevin_chain(x, target, n_steps, step_size, noise, **options)


@pytest.mark.parametrize("kind", KINDS)
class TestEveryTarget:
    def test_equals_the_loop_and_the_reference(self, backend, device, dtype, shape, kind):
        target, x = make(kind, elements_of(shape)).to(device), start(shape, dtype, device)
        if elements_of(shape) < target.least_dim and shape[0]:
            with pytest.raises(ValueError, match="x must have samples of at least"):
                chain(x, target, backend=backend)
            return
        steps = 2 if shape in LARGE else STEPS
        before = x.clone()
        got = chain(x, target, steps, backend=backend)
        assert_equal(x, before)
        # The funnel's first element leaves float16 where the others are many.
        assert_equal(got, loop(x, target, steps, 0.003, NOISE, backend=backend), equal_nan=True)
        assert_equal(got, chain(x, target, steps, backend="reference"), equal_nan=True)
        assert got.isnan().sum() <= (kind == "funnel" and shape in LARGE)

    def test_no_steps_give_a_copy(self, backend, device, kind):
        x = start((5, 6), device=device)
        got = chain(x, make(kind, 6).to(device), 0, backend=backend)
        assert_equal(got, x)
        assert got.data_ptr() != x.data_ptr()

    @pytest.mark.parametrize("shape", [(6, 2), (70, 17), (6, 1100)], ids=name_of)
    def test_every_option(self, backend, device, dtype, shape, kind):
        target, x = make(kind, elements_of(shape)).to(device), start(shape, dtype, device)
        rows = levels(shape[0], device) * 0.006
        for step_size in (0.003, rows, [0.003, 0.002, 0.004, 0.001, 0.005]):
            for temperature in (0.0, 0.7, levels(shape[0], device, seed=1), [1.0, 0.5, 0.0, 2.0, 1.0]):
                options = {"temperature": temperature, "clamp": (-1.0, 1.2), "thin": 2, "backend": backend}
                got = chain(x, target, step_size=step_size, **options)
                assert_equal(got, loop(x, target, STEPS, step_size, NOISE, **options))
