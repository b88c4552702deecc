"""The networks' CUDA kernels as compiled: the PTX, executed, gives the bits of the CPU."""

from __future__ import annotations

import re

import cuda_ptx
import ptx
import pytest
import torch
from cases import assert_equal
from network_calls import chain, curvatures, normal, painting, scored
from network_cases import network
from test_network_cuda import hold

from pyebm import _ops

pytestmark = [
    pytest.mark.skipif(cuda_ptx.why_not() is not None, reason=str(cuda_ptx.why_not())),
    pytest.mark.skipif(_ops.simd() == "baseline", reason="without a fused multiply-add the bits are others"),
]
ENERGY = network("energy", 3, (3, 5), ("softplus", "gelu"), (0,), (1,))
WAYS = {"all": 2, "activations": 1, "none": 0}  # network_tile.h kHoldsAll and so on


def ops():
    table = _ops._TEST_BACKENDS["cuda-emulated"]
    return table["network_score"], table["network_chain"]


@pytest.mark.parametrize(
    ("net", "dtype"),
    [(ENERGY, torch.float32), (ENERGY, torch.float64), (network("score", 5, (6,)), torch.bfloat16)],
    ids=["energy", "float64", "score"],
)
@pytest.mark.parametrize("held", WAYS)
def test_bits(monkeypatch, held, net, dtype):
    hold(monkeypatch, held, net, 8 if dtype == torch.float64 else 4)
    x = normal(18, net.dim, dtype=dtype)
    options = painting(x, 2) | {"score_clip": 0.5}
    want = scored(net, x), chain(net, x, 2, **options)
    with cuda_ptx.executing() as ran:
        score, steps = ops()
        assert_equal(scored(net, x, op=score), want[0])
        assert_equal(chain(net, x, 2, op=steps, **options), want[1])
    for kernel in ("score", "chain") if held != "activations" else ("chain",):
        assert any(f"network_{kernel}_kernel" in name and f", {WAYS[held]}>" in name for name in ran), ran


@pytest.mark.parametrize(("held", "dtype"), [("all", torch.float32), ("none", torch.float64)], ids=str)
def test_bits_of_second_derivatives(monkeypatch, held, dtype):
    hold(monkeypatch, held, ENERGY, 8 if dtype == torch.float64 else 4, twice=True)
    x, v = normal(17, 3, dtype=dtype), normal(17, 3, dtype=dtype, seed=1)
    want = curvatures(ENERGY, x, v)
    with cuda_ptx.executing() as ran:
        assert_equal(curvatures(ENERGY, x, v, _ops._TEST_BACKENDS["cuda-emulated"]), want)
    assert any("network_hvp_kernel" in name and f", {WAYS[held]}>" in name for name in ran), ran


def test_a_missing_barrier_is_a_race(monkeypatch):
    made = {}

    def spoiled(name):
        if name not in made:
            entry, text = cuda_ptx._entries()[name]
            made[name] = ptx.parse(re.sub(r"bar\.sync[^;]*;", "", text), re.escape(entry))
        return made[name]

    monkeypatch.setattr(cuda_ptx, "kernel", spoiled)
    with pytest.raises(ptx.PtxError, match="a race in shared memory"), cuda_ptx.executing():
        scored(ENERGY, normal(3, 3), op=ops()[0])
