"""The composed ops: the operations that a device runs where it has no kernel."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, normal

from pyebm import Noise, _composed, _ops
from pyebm.samplers import HMC, MALA, VE, PredictorCorrector

COMPOSED = {"corrector_step", "leapfrog", "metropolis", "dual_averaging"}
pytestmark = pytest.mark.skipif(_ops.backends()["cpu"] is not True, reason="the CPU library is not built")


@pytest.fixture
def few(monkeypatch):
    """A backend with the kernels that a GPU has, here the CPU's, and no others."""
    kernels = {name: _ops._REGISTERED[name] for name in _ops._OPS_OF_CUDA}
    monkeypatch.setitem(_ops._TEST_BACKENDS, "few", _ops.Table("few", kernels))
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


@pytest.mark.parametrize("table", [_ops._ON_CUDA, _ops.Table("few", {})], ids=["cuda", "few"])
def test_every_table_has_them(table):
    assert set(_composed.around({})) == COMPOSED == set(table) - set(_ops._OPS_OF_CUDA)
    with pytest.raises(RuntimeError, match=f"backend '{table.backend}' does not have the op target_energy"):
        table["target_energy"]


def test_they_refuse_what_the_op_refuses(few):
    leapfrog = _ops.kernels(few, torch.empty(0))["leapfrog"]
    with pytest.raises(ValueError, match="leapfrog: p must have x's shape"):
        leapfrog(normal(6, 5), normal(5), 0.1)


def test_a_kernel_comes_first():
    kernel = _ops._REGISTERED["leapfrog"]
    assert _ops.Table("one", {"leapfrog": kernel})["leapfrog"] is kernel
