"""network_grad and network_loss: the bits do not depend on the threads, a sample's bits only on
the sample; and the refusals."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from cases import assert_equal
from network_cases import network
from test_network_gradient import OPS, graded
from test_network_loss import directions, lost
from test_network_ops import LEVELS, normal

from pyebm import _ops, reference

pytestmark = pytest.mark.usefixtures("poison", "one_thread")


@pytest.fixture(autouse=True)
def keep_level() -> Iterator[None]:
    before = _ops.simd()
    yield
    _ops.simd(before)


class TestOrder:
    @pytest.mark.parametrize("batch", [3, 40, 300])
    def test_threads(self, batch):
        net, x, v = network("energy", 2, (64, 64)), normal(batch, 2), directions(1, 2, torch.float32, batch)
        want = (*lost(net, x, trace=1.0, v=v), *graded(net, x, x[:, 0].contiguous(), x))
        for threads in (2, 3):
            torch.set_num_threads(threads)
            assert_equal((*lost(net, x, trace=1.0, v=v), *graded(net, x, x[:, 0].contiguous(), x)), want)
        torch.set_num_threads(1)

    @pytest.mark.parametrize("level", LEVELS)
    def test_a_samples_own(self, level):
        """A sample's loss and its gradient in x depend only on the sample."""
        _ops.simd(level)
        net, x, v = (
            network("energy", 3, (33, 33), residual=(1,)),
            normal(41, 3),
            directions(1, 3, torch.float32, 41),
        )
        whole = lost(net, x, each=True, trace=1.0, v=v)
        for first, count in ((0, 1), (5, 1), (3, 2), (7, 5), (4, 20), (8, 33)):
            part = lost(net, x[first : first + count], each=True, trace=1.0, v=v[first : first + count])
            assert_equal(part[0], whole[0][first : first + count])
            assert_equal(part[2], whole[2][first : first + count])

    def test_layouts_and_half_precision(self):
        net, x = network("energy", 6, (9,)), normal(7, 6)
        strided = x.view(7, 2, 3).transpose(1, 2)
        at = network("energy", 6, (9,))
        for one in (strided, strided.to(torch.bfloat16)):
            grad, grad_x = graded(at, one, None, one)
            same, same_x = graded(
                net, one.float().contiguous().flatten(1), None, one.float().contiguous().flatten(1)
            )
            assert_equal(grad, same)
            assert_equal(grad_x, same_x.view(one.shape).to(one.dtype))


def test_an_empty_batch():
    for kind in ("energy", "score"):
        loss, grad, _ = lost(network(kind, 2), torch.empty(0, 2))
        assert loss == 0
        assert not grad.any()


class TestRefused:
    def test_what_does_not_fit(self):
        net, x = network("score", 2, (5,)), normal(3, 2)
        layout, params = net.packed()
        grad = torch.empty_like(params)
        for ops in ({"network_grad": OPS.network_grad, "network_loss": OPS.network_loss}, reference.OPS):
            grad_op, loss_op = ops["network_grad"], ops["network_loss"]
            with pytest.raises(ValueError, match="energy_above or score_above must be given"):
                grad_op(grad, x, layout, params)
            with pytest.raises(ValueError, match="has no energy"):
                grad_op(grad, x, layout, params, x[:, 0].contiguous())
            with pytest.raises(ValueError, match="grad must have"):
                grad_op(grad[1:], x, layout, params, None, x)
            with pytest.raises(ValueError, match="of_energy is for"):
                loss_op(torch.empty(()), grad, x, layout, params, True, 1.0, 1.0, 0.0, 0.0, False)
            with pytest.raises(ValueError, match="v must be given"):
                loss_op(torch.empty(()), grad, x, layout, params, False, 1.0, 1.0, 0.0, 0.0, True)
            with pytest.raises(ValueError, match="v must have rows"):
                loss_op(
                    torch.empty(()),
                    grad,
                    x,
                    layout,
                    params,
                    False,
                    1.0,
                    1.0,
                    0.0,
                    0.0,
                    False,
                    v=torch.empty(3, 3),
                )
            with pytest.raises(ValueError, match="grad_biases must have"):
                grad_op(grad, x, layout, params, None, x, torch.zeros(1, 7), torch.zeros(1, 6))

    def test_a_score_or_an_energy_at_least(self):
        layout, params = network("energy", 2, (5,)).packed()
        for ops in ({"network_score": OPS.network_score}, reference.OPS):
            with pytest.raises(ValueError, match="score or energy must be given"):
                ops["network_score"](None, normal(3, 2), layout, params)


def test_an_energy_alone_is_that_beside_a_score():
    for batch in (1, 5, 40):
        net, x = network("energy", 3, (20, 33), last="softplus"), normal(batch, 3)
        layout, params = net.packed()
        for level in LEVELS:
            _ops.simd(level)
            beside, alone, score = torch.empty(batch), torch.empty(batch), torch.empty_like(x)
            OPS.network_score(score, x, layout, params, None, beside)
            OPS.network_score(None, x, layout, params, None, alone)
            assert_equal(alone, beside)
