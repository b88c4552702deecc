"""network_hvp and network_laplacian on CUDA, emulated: the bits of the CPU's kernels."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal
from emulated import BACKEND
from network_calls import curvatures, normal
from network_cases import FUNCTIONS, far_out, network
from test_network_cuda import NETWORKS, hold

from pyebm import _ops

pytestmark = [
    pytest.mark.usefixtures("poison", "one_thread"),
    pytest.mark.skipif(_ops.simd() == "baseline", reason="without a fused multiply-add the bits are others"),
]
OPS = _ops._TEST_BACKENDS[BACKEND]
CASES = [
    ("plain", "all", torch.float32),
    ("plain", "none", torch.float64),
    ("wired", "all", torch.float64),
    ("wired", "activations", torch.float32),
    ("wired", "none", torch.bfloat16),
    ("deep", "activations", torch.float64),
    ("alone", "all", torch.float16),
    ("wide", "activations", torch.float32),
]


@pytest.mark.parametrize(("name", "held", "dtype"), CASES, ids=str)
def test_the_cpus_bits(monkeypatch, name, held, dtype):
    net, batch = NETWORKS[name]
    hold(monkeypatch, held, net, 8 if dtype == torch.float64 else 4, twice=True)
    x, v = normal(batch, net.dim, dtype=dtype), normal(batch, net.dim, dtype=dtype, seed=1)
    assert_equal(curvatures(net, x, v, OPS), curvatures(net, x, v))


@pytest.mark.parametrize("activation", FUNCTIONS)
def test_every_activation(activation):
    """Also far out, and where it is not finite."""
    net = network("energy", 1, (3,), activation, last=activation)
    x = far_out(30, torch.float32)
    got, want = (curvatures(net, x, torch.full_like(x, 0.5), ops) for ops in (OPS, None))
    for one, other in zip(got, want, strict=True):
        assert_equal(one.nan_to_num(7.0), other.nan_to_num(7.0))


def test_biases_strides_and_residual_last_layers():
    net = network("energy", 1, (1, 1), "tanh", residual=(0, 1, 2), skip=(1, 2))
    x = normal(20, 2, seed=3)[:, :1]
    biases = normal(20, 3, seed=2)
    v = normal(1, 20).t()
    assert_equal(curvatures(net, x, v, OPS, biases), curvatures(net, x, v, biases=biases))
    net, x = network("energy", 12, (9,), skip=(1,)), normal(3, 4, 3).transpose(1, 2)
    v = normal(3, 3, 4)
    assert_equal(curvatures(net, x, v, OPS), curvatures(net, x, v))


def test_every_thread_order_gives_the_same_bits(monkeypatch):
    net, _ = NETWORKS["wired"]
    x, v = normal(18, net.dim), normal(18, net.dim, seed=1)
    want = curvatures(net, x, v)
    for order in range(1, 9):
        monkeypatch.setenv("PYEBM_EMULATOR_SEED", str(order))
        assert_equal(curvatures(net, x, v, OPS), want)


def test_what_does_not_fit_is_refused():
    net, x = network("score", 2, (3,)), normal(3, 2)
    layout, params = net.packed()
    with pytest.raises(ValueError, match="a network that gives scores has no Hessian"):
        OPS["network_hvp"](torch.empty_like(x), x, x.clone(), layout, params)
    with pytest.raises(ValueError, match="a network that gives scores has no Hessian"):
        OPS["network_laplacian"](torch.empty(3), x, layout, params)
    net, empty = network("energy", 2, (3,)), torch.empty(0, 2)
    assert curvatures(net, empty, torch.empty(0, 2), OPS)[0].shape == (0, 2)
