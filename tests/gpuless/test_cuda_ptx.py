"""The CUDA kernels as compiled: the PTX that nvcc emits, executed, gives the reference's bits."""

from __future__ import annotations

import re
from itertools import product

import cuda_ptx
import ptx
import pytest
import torch
from cases import DTYPES, assert_equal, levels, name_of, normal
from choice import thinned
from emulated import BACKEND
from target_cases import KINDS, make, start
from test_emulated import every_op, losses

import pyebm
from pyebm import Noise

pytestmark = pytest.mark.skipif(cuda_ptx.why_not() is not None, reason=str(cuda_ptx.why_not()))
NOISE = Noise(2**63 + 12345, step=7, stream=3, first_sample=11)


@pytest.fixture
def ran():
    """The kernels whose PTX was executed: a test that ran none proves nothing."""
    with cuda_ptx.executing() as names:
        yield names
    assert names


@pytest.mark.parametrize(
    ("dtype", "shape"), thinned(product(DTYPES, [(3, 72), (5, 17), (70, 2)]), 2), ids=name_of
)
def test_every_op(ran, dtype, shape):
    for got, want in zip(every_op(BACKEND, shape, dtype), every_op("reference", shape, dtype), strict=True):
        assert_equal(got, want)
    assert any("RowLayout" in name for name in ran) == (shape[1] > 8)


def test_a_strided_layout(ran):
    x, score = (
        normal(4, 6, 5, dtype=torch.bfloat16).transpose(1, 2),
        normal(4, 5, 6, dtype=torch.bfloat16, seed=1),
    )
    options = {"noise": NOISE, "return_mean": True}
    assert_equal(
        pyebm.langevin_step(x, score, 0.1, backend=BACKEND, **options),
        pyebm.langevin_step(x, score, 0.1, backend="reference", **options),
    )
    assert any("Strided" in name for name in ran)


def test_the_sums(ran):
    x, rows = normal(3, 4500), levels(3)
    for reduction in ("sample", "mean"):
        (got, got_grad), (want, want_grad) = (
            losses(backend, x, rows, reduction, NOISE) for backend in (BACKEND, "reference")
        )
        torch.testing.assert_close(got, want, rtol=1e-6, atol=0)
        assert_equal(got_grad, want_grad)
    assert any("sum_kernel" in name for name in ran)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=name_of)
def test_chains(ran, kind, dtype):
    for elements in (3, 37):
        target, x = make(kind, elements), start((3, elements), dtype)
        options = {
            "n_steps": 2,
            "step_size": [0.01, 0.02],
            "noise": NOISE,
            "thin": 1,
            "return_diverged": True,
        }
        assert_equal(
            pyebm.langevin_chain(x, target, backend=BACKEND, **options),
            pyebm.langevin_chain(x, target, backend="reference", **options),
        )
    assert any("chain_kernel" in name for name in ran)


class TestPlanted:
    """Faults in the PTX, which the executor must see."""

    def spoil(self, monkeypatch, pattern, replacement):
        made = {}

        def kernel(name):
            if name not in made:
                entry, text = cuda_ptx._entries()[name]
                made[name] = ptx.parse(re.sub(pattern, replacement, text), re.escape(entry))
            return made[name]

        monkeypatch.setattr(cuda_ptx, "kernel", kernel)

    def test_a_missing_barrier(self, monkeypatch):
        self.spoil(monkeypatch, r"bar\.sync[^;]*;", "")
        with pytest.raises(ptx.PtxError, match="a race in shared memory"), cuda_ptx.executing():
            pyebm.dsm_loss(normal(1, 9000), 0.5, NOISE, backend=BACKEND)

    def test_a_missing_warp_barrier(self, monkeypatch):
        self.spoil(monkeypatch, r"bar\.warp\.sync[^;]*;", "")
        with pytest.raises(ptx.PtxError, match="a race in shared memory"), cuda_ptx.executing():
            pyebm.langevin_chain(start((1, 40)), make("rosenbrock", 40), 2, 0.01, NOISE, backend=BACKEND)

    def test_a_fused_multiply_add(self, monkeypatch):
        """The first product of the sine, fused with the sum that follows it."""
        product, total = (
            r"mul\.rn\.f32\s+(%f\d+), (%f\d+), (%f\d+);",
            r"add\.rn\.f32\s+(%f\d+), \1, (%f\d+|0f\w+);",
        )
        self.spoil(monkeypatch, rf"{product}\s+{total}", r"fma.rn.f32 \4, \2, \3, \5;")
        with cuda_ptx.executing():
            got = NOISE.randn((3, 512), backend=BACKEND)
        want = NOISE.randn((3, 512), backend="reference")
        assert not torch.equal(got, want)
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)

    def test_one_element_too_far(self, monkeypatch):
        """Memory beyond the end that the executor knows of; the op itself refuses a storage that is
        too small."""
        x, short = normal(3, 48), torch.empty(3, 48)
        view, end = cuda_ptx._view, short.nbytes - 4
        monkeypatch.setattr(cuda_ptx, "_view", lambda at, n: view(at, end if at == short.data_ptr() else n))
        with pytest.raises(ptx.PtxError, match="out of bounds"), cuda_ptx.executing():
            pyebm._ops._TEST_BACKENDS[BACKEND]["perturb"](short, x, 1.0, 0.5, NOISE._name)
