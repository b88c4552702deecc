"""The composed ops: the samplers' ops around a backend's other kernels, for the calls that no
kernel takes."""

from __future__ import annotations

import pytest
from cases import assert_equal, normal

from pyebm import Noise, _composed, _ops
from pyebm.samplers import HMC, MALA, VE, PredictorCorrector

COMPOSED = {"corrector_step", "leapfrog", "metropolis", "dual_averaging"}
pytestmark = pytest.mark.skipif(_ops.backends()["cpu"] is not True, reason="the CPU library is not built")


@pytest.fixture
def few(monkeypatch):
    """A backend with the CPU's kernels, and the composed operations in the place of some."""
    kernels = {name: _ops._REGISTERED[name] for name in _ops._OPS_OF_CUDA if name not in COMPOSED}
    composed = _composed.around(kernels)
    assert set(composed) == COMPOSED
    monkeypatch.setitem(_ops._TEST_BACKENDS, "few", _ops.Table("few", kernels | composed))
    return "few"


def energy(x):
    return 0.5 * x.square().sum(1)


@pytest.mark.parametrize(
    "make",
    [
        lambda backend: HMC(energy, 0.4, 3, jitter=0.5, warmup=3, backend=backend),
        lambda backend: MALA(energy, 0.1, warmup=3, per="batch", backend=backend),
        lambda backend: PredictorCorrector(lambda x, _: -x, VE(), 6, backend=backend, per="sample"),
    ],
    ids=["HMC", "MALA", "PredictorCorrector"],
)
def test_samplers_have_the_kernels_bits(few, make):
    x0 = normal(16, 3)
    assert_equal(make(few)(x0, 6, noise=Noise(3)), make("cpu")(x0, 6, noise=Noise(3)))


def test_a_gpu_has_kernels_of_them():
    assert set(_ops._OPS_OF_CUDA) >= COMPOSED


def test_a_table_says_which_op_it_lacks():
    table = _ops.Table("few", {})
    with pytest.raises(RuntimeError, match="backend 'few' does not have the op network_score"):
        table["network_score"]
