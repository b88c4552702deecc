"""The networks' Triton kernels as compiled: the PTX, executed, gives the bits of the CPU."""

import re

import ptx
import pyebm.kernels
import pytest
import torch
from cases import assert_equal
from compiled import compiling
from network_calls import chain, curvatures, normal, painting, scored
from network_cases import network
from ptx_memory import PtxError
from test_ptx import execute

from pyebm import _ops

pytestmark = pytest.mark.skipif(
    _ops.simd() == "baseline", reason="without a fused multiply-add the bits are others"
)
SCORE, CHAIN = pyebm.kernels.OPS["network_score"], pyebm.kernels.OPS["network_chain"]
ENERGY = network("energy", 3, (3, 5), ("softplus", "gelu"), (0,), (1,))
CASES = [
    ("sm_80", ENERGY, torch.float32),
    ("sm_90", network("energy", 2, (66,), "tanh"), torch.float64),
    ("sm_90", network("score", 5, (6,)), torch.bfloat16),
]


@pytest.mark.parametrize(("target", "net", "dtype"), CASES, ids=["energy", "float64", "score"])
def test_bits(target, net, dtype):
    x = normal(18, net.dim, dtype=dtype)
    options = painting(x, 2) | {"score_clip": 0.5}
    want = scored(net, x), chain(net, x, 2, **options)
    with compiling(target, execute):
        assert_equal(scored(net, x, op=SCORE), want[0])
        assert_equal(chain(net, x, 2, op=CHAIN, **options), want[1])


def test_bits_of_second_derivatives():
    x, v = normal(17, 3), normal(17, 3, seed=1)
    want = curvatures(ENERGY, x, v)
    with compiling("sm_90", execute):
        assert_equal(curvatures(ENERGY, x, v, pyebm.kernels.OPS), want)


def test_a_missing_barrier_is_a_race():
    def without(launch):
        text = re.sub(r"bar\.sync[^;]*;", "", launch.compiled.asm["ptx"])
        metadata = launch.compiled.metadata
        threads = metadata.target.warp_size * metadata.num_warps
        ptx.launch(text, launch.grid, threads, launch.run_time_arguments, metadata.shared)

    with compiling("sm_90", without), pytest.raises(PtxError, match="a race in"):
        scored(ENERGY, normal(3, 3), op=SCORE)
