"""network_grad and network_loss: gradients of functions of energies and scores, beside autograd's in float64; the same bits
whatever the threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from cases import assert_equal
from network_cases import FUNCTIONS, Layer, Network, network
from test_network_ops import LEVELS, normal
from torch import Tensor

from pyebm import _ops, reference

# Relative to the largest number of a layer's gradient: some times what sums of as many terms lose.
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
    """The network of leaves, which autograd follows."""
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
    """Weights and biases from numbers that lie as params, whose others must be zero, but for q's."""
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
    total = (0.0 if a is None else (a.double() * energy).sum()) + (0.0 if u is None else (u.double() * score).sum())
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
        ("residual", "skip"), [((1,), ()), ((1, 2), ()), ((), (1, 2, 3)), ((1,), (0, 3)), ((0, 1, 2), (0, 2))], ids=str
    )
    def test_residuals_and_skips(self, dtype, residual, skip):
        dim = 18 if 0 in residual else 5
        for batch in (1, 3, 35):
            x = normal(batch, dim, dtype=dtype)
            for kind in ("energy", "score"):
                assert_grad(network(kind, dim, (18, 18, 18), "tanh", residual, skip), x, kind == "energy", True)

    def test_energies_and_scores_alone(self, dtype):
        net, x = network("energy", 7, (33, 10), ("silu", "gelu")), normal(40, 7, dtype=dtype)
        assert_grad(net, x, True, False)
        assert_grad(net, x, False, True)

    @pytest.mark.parametrize("widths", [(), (1,), (7, 130, 33), (5,) * 8, (300,)], ids=str)
    def test_widths_and_depths(self, dtype, widths):
        for kind in ("energy", "score"):
            assert_grad(network(kind, 2, widths, last="softplus"), normal(19, 2, dtype=dtype), kind == "energy", True)


LOSS = {"weight": 0.5, "kappa": 1.0, "trace": 0.0, "square": 0.0, "along": False}


def lost(net: Network, x: Tensor, ops=None, each: bool = False, gradient: bool = True, **options) -> tuple[Tensor, ...]:
    """The loss, and the gradients by params and by x."""
    layout, params = net.packed(work(x))
    numbers = [options.pop(name, value) for name, value in LOSS.items()]
    loss = torch.empty(x.shape[:1] if each else (), dtype=torch.float64)
    grad, grad_x = (torch.empty_like(params), torch.empty_like(x)) if gradient else (None, None)
    op = (ops or {"network_loss": OPS.network_loss})["network_loss"]
    op(loss, grad, x, layout, params, options.pop("of_energy", False), *numbers, **options, grad_x=grad_x)
    return loss, grad, grad_x


def losses(net: Network, x: Tensor, **options) -> Tensor:
    """In float64, as autograd follows it."""
    of = LOSS | options
    rows = {name: options.get(f"{name}_rows", torch.tensor(of[name], dtype=torch.float64)).double() for name in ("weight", "kappa")}
    energy, score = energies_and_scores(net, x)
    if of.get("of_energy"):
        return energy * (rows["weight"] + of["square"] * energy)
    z, v = options.get("z"), options.get("v")
    residual = rows["kappa"].reshape(-1, 1) * score + (0.0 if z is None else z.double())
    square, slopes = residual.square().sum(1), torch.zeros(len(x), dtype=torch.float64)
    if v is not None:
        each = v.double().reshape(len(v), -1, x.shape[1]).expand(len(x), -1, -1)
        slopes = sum(slopes_along(net, x, each[:, k]) for k in range(each.shape[1]))
        if of["along"]:
            square = (each * score[:, None]).sum(2).square().sum(1)
    return rows["weight"] * (0.5 * square + of["trace"] * slopes)


def assert_loss(net: Network, x: Tensor, **options) -> None:
    leaf, (copy, leaves) = x.double().requires_grad_(), followed(net)
    values = losses(copy, leaf, **options)
    want = torch.autograd.grad(values.sum(), [*leaves, leaf], materialize_grads=True)
    values = values.detach()
    bound = 4 * BOUND[work(x)]
    for name, ops in backends():
        each, grad, grad_x = lost(net, x, ops, each=True, **options)
        assert_near([*parts_of(net, grad), grad_x], want, bound, name)
        assert (each - values).abs().max() <= bound * values.abs().max(), name
        alone = lost(net, x, ops, gradient=False, each=True, **options)[0]
        assert (alone - values).abs().max() <= bound * values.abs().max(), name
        together = lost(net, x, ops, **options)[0]
        assert abs(together - each.sum()) <= 1e-12 * each.abs().sum(), name


def directions(count: int, dim: int, dtype: torch.dtype, rows: int = 1) -> Tensor:
    return normal(rows, count * dim, dtype=dtype, seed=8)


@pytest.mark.parametrize("dtype", BOUND, ids=str)
class TestLossTruth:
    @pytest.mark.parametrize("kind", ["energy", "score"])
    @pytest.mark.parametrize("activation", FUNCTIONS)
    def test_every_activation(self, dtype, kind, activation):
        net = network(kind, 3, (20, 20), (activation, "silu"), last=activation)
        v = directions(2, 3, dtype, 21)
        assert_loss(net, normal(21, 3, dtype=dtype), trace=0.7, v=v)

    @pytest.mark.parametrize("kind", ["energy", "score"])
    @pytest.mark.parametrize(("residual", "skip"), [((1, 2), ()), ((1,), (0, 3)), ((0, 1, 2), (0, 2))], ids=str)
    def test_residuals_and_skips(self, dtype, kind, residual, skip):
        dim = 18 if 0 in residual else 5
        net = network(kind, dim, (18, 18, 18), "tanh", residual, skip)
        for batch in (1, 3, 35):
            x, v = normal(batch, dim, dtype=dtype), directions(1, dim, dtype, batch)
            assert_loss(net, x, trace=1.0, v=v, kappa=0.3, z=normal(batch, dim, dtype=dtype, seed=2))

    @pytest.mark.parametrize("kind", ["energy", "score"])
    def test_the_terms(self, dtype, kind):
        """Denoising, sliced with its variance reduced and without, exact; with numbers of each sample, of either sign."""
        net, x = network(kind, 3, (20, 33), ("gelu", "silu")), normal(37, 3, dtype=dtype)
        weight, kappa = normal(37, dtype=dtype, seed=6), normal(37, dtype=dtype, seed=7)
        z = normal(37, 3, dtype=dtype, seed=2)
        assert_loss(net, x, z=z)
        assert_loss(net, x, z=z, weight_rows=weight, kappa_rows=kappa)
        assert_loss(net, x, trace=1 / 3, weight_rows=weight, v=directions(3, 3, dtype, 37))
        assert_loss(net, x, trace=1.0, along=True, v=directions(2, 3, dtype, 37))
        assert_loss(net, x, trace=1.0, v=torch.eye(3, dtype=dtype).reshape(1, 9))

    def test_energies(self, dtype):
        net, x = network("energy", 3, (20, 33), ("gelu", "silu")), normal(37, 3, dtype=dtype)
        assert_loss(net, x, of_energy=True, square=0.1, weight_rows=normal(37, dtype=dtype, seed=6))


def biased(net: Network, biases: Tensor) -> Network:
    parts = biases.split([len(layer.bias) for layer in net.layers], 1)
    layers = [Layer(one.weight, bias, one.activation) for one, bias in zip(net.layers, parts, strict=True)]
    return Network(net.kind, net.dim, layers, net.quadratic)


@pytest.mark.parametrize("kind", ["energy", "score"])
@pytest.mark.parametrize("rows", [1, 37])
def test_biases(kind, rows):
    """Their own gradient, of all or of each sample; none for those that they stand for."""
    net, x = network(kind, 3, (20, 33)), normal(37, 3, dtype=torch.float64)
    biases = (normal(rows, 53 + (1 if kind == "energy" else 3), dtype=torch.float64, seed=9)).requires_grad_()
    leaf = x.clone().requires_grad_()
    values = losses(biased(net, biases), leaf, trace=1.0, v=directions(1, 3, torch.float64, 37))
    want = torch.autograd.grad(values.sum(), [biases, leaf])
    layout, params = net.packed(torch.float64)
    for _, ops in backends():
        grad, grad_biases, grad_x, loss = torch.empty_like(params), torch.empty_like(biases), torch.empty_like(x), torch.empty(())
        held = biases.detach()
        options = {"v": directions(1, 3, torch.float64, 37), "biases": held, "grad_biases": grad_biases, "grad_x": grad_x}
        ops["network_loss"](loss, grad, x, layout, params, False, 0.5, 1.0, 1.0, 0.0, False, **options)
        torch.testing.assert_close((grad_biases, grad_x), want, rtol=1e-11, atol=1e-12)
        assert all(not one.any() for one in parts_of(net, grad)[1::2])


def test_quadratic():
    """The gradient by q, the last of the params."""
    x, layout_params = normal(21, 3, dtype=torch.float64), network("energy", 3, (20,)).packed(torch.float64)
    v = directions(2, 3, torch.float64, 21)
    found = []
    for _, ops in backends():
        grad, loss = torch.empty_like(layout_params[1]), torch.empty(())
        ops["network_loss"](loss, grad, x, *layout_params, False, 0.5, 0.7, 1.0, 0.0, False, v=v)
        found.append(grad[-1])
        ops["network_grad"](grad, x, *layout_params, x[:, 0].contiguous(), x)
        found.append(grad[-1])
    for k, got in enumerate(found):
        torch.testing.assert_close(got, found[k % 2], rtol=1e-12, atol=1e-12)


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
        """Its loss and its gradient by x depend on nothing but itself."""
        _ops.simd(level)
        net, x, v = network("energy", 3, (33, 33), residual=(1,)), normal(41, 3), directions(1, 3, torch.float32, 41)
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
            same, same_x = graded(net, one.float().contiguous().flatten(1), None, one.float().contiguous().flatten(1))
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
                loss_op(torch.empty(()), grad, x, layout, params, False, 1.0, 1.0, 0.0, 0.0, False, v=torch.empty(3, 3))
            with pytest.raises(ValueError, match="grad_biases must have"):
                grad_op(grad, x, layout, params, None, x, torch.zeros(1, 7), torch.zeros(1, 6))
