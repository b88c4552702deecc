"""network_chain is the loop of scores and steps, wherever it is cut."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from cases import assert_equal
from network_calls import BOUND, NAME, chain, loop, normal, scored
from network_cases import Layer, Network, network
from torch import Tensor

from pyebm import _ops, reference

pytestmark = pytest.mark.usefixtures("poison", "one_thread")


@pytest.fixture(autouse=True)
def keep_level() -> Iterator[None]:
    before = _ops.simd()
    yield
    _ops.simd(before)


@pytest.mark.parametrize("dtype", [*BOUND, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("kind", "batch", "dim"), [("energy", 21, 2), ("score", 3, 5), ("energy", 18, 70)])
class TestChain:
    def test_is_the_loop(self, kind, batch, dim, dtype):
        net, x = network(kind, dim, (24, 24), residual=(1,)), normal(batch, dim, dtype=dtype)
        draw = torch.Generator().manual_seed(1)
        for options in (
            {},
            {"low": -0.8, "high": 0.9, "score_clip": 0.5},
            {
                "step_size_rows": torch.rand(batch, generator=draw),
                "temperature_rows": torch.rand(batch, generator=draw),
            },
            {"step_size_rows": torch.rand(5, generator=draw).double() / 50, "step_size_per_step": True},
            {"seeds": torch.arange(batch) * 2**40, "ids": torch.arange(batch).flip(0).contiguous()},
        ):
            want = loop(net, x, **options)
            states = x.new_empty(2, *x.shape)
            assert_equal(chain(net, x, states=states, thin=2, **options), want[-1])
            assert_equal((states[0], states[1]), (want[1], want[3]))

    def test_is_near_the_reference(self, kind, batch, dim, dtype):
        net, x = network(kind, dim, (24, 24)), normal(batch, dim, dtype=dtype)
        far = 4 * torch.finfo(dtype).eps * x.abs().max() * 5
        assert (chain(net, x) - chain(net, x, op=reference.OPS["network_chain"])).abs().max() <= far

    def test_biases(self, kind, batch, dim, dtype):
        """Biases for all samples, for each sample or for each step act like those of a network
        that has them."""
        net, x = network(kind, dim, (24, 24)), normal(batch, dim, dtype=dtype)
        all_of_them = net.biases() + normal(max(batch, 5), len(net.biases()), seed=2).double()

        def with_biases(biases: Tensor) -> Network:
            parts = biases.split([len(layer.bias) for layer in net.layers])
            layers = [
                Layer(layer.weight, part, layer.activation)
                for layer, part in zip(net.layers, parts, strict=True)
            ]
            return Network(net.kind, net.dim, layers, net.quadratic)

        assert_equal(scored(net, x, all_of_them[:1])[0], scored(with_biases(all_of_them[0]), x)[0])
        each = scored(net, x, all_of_them[:batch])[0]
        for b in range(batch):
            assert_equal(each[b : b + 1], scored(with_biases(all_of_them[b]), x[b : b + 1])[0])
        for biases, options in ((all_of_them[:batch], {}), (all_of_them[:5], {"biases_per_step": True})):
            assert_equal(chain(net, x, biases=biases, **options), loop(net, x, biases=biases, **options)[-1])
        far = 8 * torch.finfo(torch.float32 if dtype != torch.float64 else dtype).eps
        want, _ = reference.OPS["network_score"], None
        if dtype in BOUND:
            assert (each - scored(net, x, all_of_them[:batch], want)[0]).abs().max() <= far * each.abs().max()

    def test_is_cut_anywhere(self, kind, batch, dim, dtype):
        net, x = network(kind, dim, (24, 24)), normal(batch, dim, dtype=dtype)
        for cut in (0, 1, 4):
            rest = chain(net, chain(net, x, cut), 5 - cut, name=NAME + torch.tensor([0, 0, cut, 0]))
            assert_equal(rest, chain(net, x))


def test_divergence_is_reported():
    net, x = network("energy", 2, (16,), quadratic=-30.0), normal(20, 2)
    x[7], x[11, 1] = 1e37, math.nan
    diverged = torch.empty(20, dtype=torch.int64)
    got = chain(net, x, 3, diverged=diverged)
    assert_equal(diverged.ge(0), ~got.isfinite().all(1))
    assert diverged[11] == 0
    assert diverged[7] >= 0
    assert diverged[0] == -1
