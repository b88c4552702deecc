"""network_grad and network_loss: gradients of functions of energies and scores, beside
autograd's in float64, with the same bits for any number of threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from network_cases import FUNCTIONS, Layer, Network, network
from test_network_ops import LEVELS, normal
from torch import Tensor

from pyebm import _ops, reference

# Relative to the largest number of a layer's gradient: a few times the rounding of sums with as
# many terms.
BOUND = {torch.float32: 2e-5, torch.float64: 5e-14}
OPS = torch.ops.pyebm

pytestmark = pytest.mark.usefixtures("poison", "one_thread")


@pytest.fixture(autouse=True)
def keep_level() -> Iterator[None]:
    before = _ops.simd()
    yield
    _ops.simd(before)


def work(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def followed(net: Network) -> tuple[Network, list[Tensor]]:
    """Returns a copy of the network whose weights and biases are leaves that autograd follows,
    and the leaves."""
    leaves: list[Tensor] = []
    layers = []
    for layer in net.layers:
        weight, bias = layer.weight.clone().requires_grad_(), layer.bias.clone().requires_grad_()
        layers.append(Layer(weight, bias, layer.activation, layer.residual, layer.skip))
        leaves += [weight, bias]
    return Network(net.kind, net.dim, layers, net.quadratic), leaves


def energies_and_scores(net: Network, x: Tensor) -> tuple[Tensor | None, Tensor]:
    out = net(x)
    if net.kind == "score":
        return None, out
    return out, -torch.autograd.grad(out.sum(), x, create_graph=True)[0]


def slopes_along(net: Network, x: Tensor, v: Tensor) -> Tensor:
    """v . (slope of s) v, for v (B, D)."""
    _, score = energies_and_scores(net, x)
    along = torch.zeros_like(score, requires_grad=True)
    (back,) = torch.autograd.grad(score, x, along, create_graph=True)
    return (torch.autograd.grad(back, along, v, create_graph=True)[0] * v).sum(1)


def parts_of(net: Network, flat: Tensor) -> list[Tensor]:
    """Cuts a gradient that is laid out like params into those of weights and biases; its other
    numbers, except the last (q's), must be 0."""
    found, at = [], 0
    for layer in net.layers:
        for shape in (layer.weight.shape, layer.bias.shape):
            found.append(flat[at : at + shape.numel()].view(shape))
            at += shape.numel()
        assert flat[at] == 0
        at += 1
    assert at + 1 == flat.numel()
    return found


def assert_near(got: list[Tensor], want: list[Tensor], bound: float, context: object) -> None:
    for k, (one, truth) in enumerate(zip(got, want, strict=True)):
        scale = max(float(truth.abs().max()), 1e-3)
        worst = float((one.double() - truth).abs().max()) / scale if truth.numel() else 0.0
        assert worst <= bound, (context, k, worst)


def backends() -> Iterator[tuple[str, object]]:
    yield "reference", reference.OPS
    for level in LEVELS:
        _ops.simd(level)
        yield level, {name: getattr(OPS, name) for name in ("network_grad", "network_loss")}


def graded(net: Network, x: Tensor, a: Tensor | None, u: Tensor | None, ops=None) -> tuple[Tensor, Tensor]:
    layout, params = net.packed(work(x))
    grad, grad_x = torch.empty_like(params), torch.empty_like(x)
    op = (ops or {"network_grad": OPS.network_grad})["network_grad"]
    op(grad, x, layout, params, a, u, None, None, grad_x)
    return grad, grad_x


def assert_grad(net: Network, x: Tensor, of_energy: bool, of_score: bool) -> None:
    a = normal(x.shape[0], dtype=work(x), seed=3) if of_energy else None
    u = normal(*x.shape, dtype=x.dtype, seed=4) if of_score else None
    leaf, (copy, leaves) = x.double().requires_grad_(), followed(net)
    energy, score = energies_and_scores(copy, leaf)
    total = (0.0 if a is None else (a.double() * energy).sum()) + (
        0.0 if u is None else (u.double() * score).sum()
    )
    want = torch.autograd.grad(total, [*leaves, leaf], materialize_grads=True)
    for name, ops in backends():
        grad, grad_x = graded(net, x, a, u, ops)
        assert_near([*parts_of(net, grad), grad_x], want, BOUND[work(x)], name)


@pytest.mark.parametrize("dtype", BOUND, ids=str)
class TestGradTruth:
    @pytest.mark.parametrize("activation", FUNCTIONS)
    def test_every_activation(self, dtype, activation):
        x = normal(21, 3, dtype=dtype)
        assert_grad(network("energy", 3, (20, 20), (activation, "silu"), last=activation), x, True, True)
        assert_grad(network("score", 3, (20, 20), (activation, "silu"), last=activation), x, False, True)

    @pytest.mark.parametrize(
        ("residual", "skip"),
        [((1,), ()), ((1, 2), ()), ((), (1, 2, 3)), ((1,), (0, 3)), ((0, 1, 2), (0, 2))],
        ids=str,
    )
    def test_residuals_and_skips(self, dtype, residual, skip):
        dim = 18 if 0 in residual else 5
        for batch in (1, 3, 35):
            x = normal(batch, dim, dtype=dtype)
            for kind in ("energy", "score"):
                assert_grad(
                    network(kind, dim, (18, 18, 18), "tanh", residual, skip), x, kind == "energy", True
                )

    def test_energies_and_scores_alone(self, dtype):
        net, x = network("energy", 7, (33, 10), ("silu", "gelu")), normal(40, 7, dtype=dtype)
        assert_grad(net, x, True, False)
        assert_grad(net, x, False, True)

    @pytest.mark.parametrize("widths", [(), (1,), (7, 130, 33), (5,) * 8, (300,)], ids=str)
    def test_widths_and_depths(self, dtype, widths):
        for kind in ("energy", "score"):
            assert_grad(
                network(kind, 2, widths, last="softplus"), normal(19, 2, dtype=dtype), kind == "energy", True
            )
