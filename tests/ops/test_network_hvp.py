"""network_hvp: an energy's Hessian times vectors, beside autograd's in float64; a sample's bits
depend only on the sample."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from cases import assert_equal
from network_cases import FUNCTIONS, Network, network
from test_network_ops import BOUND, LEVELS, normal
from torch import Tensor

from pyebm import _ops, reference

pytestmark = pytest.mark.usefixtures("poison", "one_thread")


@pytest.fixture(autouse=True)
def keep_level() -> Iterator[None]:
    before = _ops.simd()
    yield
    _ops.simd(before)


def hvp(net: Network, x: Tensor, v: Tensor, op=torch.ops.pyebm.network_hvp) -> Tensor:
    out = torch.empty_like(x)
    op(out, x, v, *net.packed(torch.float64 if x.dtype == torch.float64 else torch.float32))
    return out


def truth(net: Network, x: Tensor, v: Tensor) -> Tensor:
    x = x.double().requires_grad_()
    (gradient,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
    return torch.autograd.grad((gradient * v.double()).sum(), x)[0].detach()


def assert_right(net: Network, x: Tensor) -> None:
    v = normal(*x.shape, dtype=x.dtype, seed=5)
    want = truth(net, x, v)
    found = {"reference": hvp(net, x, v, reference.OPS["network_hvp"])}
    for level in LEVELS:
        _ops.simd(level)
        found[level] = hvp(net, x, v)
    for level, got in found.items():
        worst = (got.double() - want).abs().max() / want.abs().max()
        assert worst <= 2 * BOUND[x.dtype], (level, float(worst))
    if {"avx2", "avx512"} <= found.keys():
        assert_equal(found["avx2"], found["avx512"])


@pytest.mark.parametrize("dtype", BOUND, ids=str)
class TestTruth:
    @pytest.mark.parametrize("activation", FUNCTIONS)
    def test_every_activation(self, dtype, activation):
        assert_right(
            network("energy", 3, (20, 20), (activation, "silu"), last=activation), normal(21, 3, dtype=dtype)
        )

    @pytest.mark.parametrize(
        ("residual", "skip"),
        [((1,), ()), ((1, 2), ()), ((), (1, 2, 3)), ((1,), (0, 3)), ((0, 1, 2), (0, 2))],
        ids=str,
    )
    def test_residuals_and_skips(self, dtype, residual, skip):
        dim = 18 if 0 in residual else 5
        for batch in (1, 3, 35):
            assert_right(
                network("energy", dim, (18, 18, 18), "tanh", residual, skip), normal(batch, dim, dtype=dtype)
            )

    def test_a_layer_alone(self, dtype):
        assert_right(network("energy", 4, (), last="softplus"), normal(5, 4, dtype=dtype))

    def test_batches(self, dtype):
        net, x, v = (
            network("energy", 7, (33, 33), residual=(1,), skip=(2,)),
            normal(41, 7, dtype=dtype),
            normal(41, 7, dtype=dtype),
        )
        for level in LEVELS:
            _ops.simd(level)
            whole = hvp(net, x, v)
            for first, count in ((5, 1), (3, 2), (1, 11), (4, 20)):
                assert_equal(
                    hvp(net, x[first : first + count], v[first : first + count]), whole[first : first + count]
                )


@pytest.mark.parametrize("dtype", BOUND, ids=str)
@pytest.mark.parametrize("batch", [1, 3, 41])
def test_the_laplacian(batch, dtype):
    """The Laplacian has the bits of Hessian products with unit vectors, added one after another;
    a sample's depends only on the sample."""
    net, x = network("energy", 18, (18, 33), residual=(0,), skip=(2,)), normal(41, 18, dtype=dtype)[:batch]
    packed, unit = (
        net.packed(torch.float64 if dtype == torch.float64 else torch.float32),
        torch.eye(18, dtype=dtype),
    )
    for level in LEVELS:
        _ops.simd(level)
        trace, total = torch.empty(batch, dtype=dtype), torch.zeros(batch, dtype=dtype)
        torch.ops.pyebm.network_laplacian(trace, x, *packed)
        for d in range(18):
            total += hvp(net, x, unit[d].expand_as(x).contiguous())[:, d]
        assert_equal(trace, total)
        one = torch.empty(1, dtype=dtype)
        torch.ops.pyebm.network_laplacian(one, x[-1:], *packed)
        assert_equal(one, trace[-1:])
    want = sum(truth(net, x, unit[d].expand_as(x))[:, d] for d in range(18))
    reference.OPS["network_laplacian"](total, x, *packed)
    for got in (trace, total):
        assert (got.double() - want).abs().max() / want.abs().max() <= 8 * BOUND[dtype]


def test_a_score_has_no_hessian():
    x = normal(3, 2)
    for op in (torch.ops.pyebm.network_hvp, reference.OPS["network_hvp"]):
        with pytest.raises(ValueError, match="has no Hessian"):
            hvp(network("score", 2, (3,)), x, x, op)
    for op in (torch.ops.pyebm.network_laplacian, reference.OPS["network_laplacian"]):
        with pytest.raises(ValueError, match="has no Hessian"):
            op(torch.empty(3), x, *network("score", 2, (3,)).packed())
