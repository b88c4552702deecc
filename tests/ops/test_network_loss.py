"""network_loss: values and gradients, beside autograd's in float64."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from cases import assert_equal
from network_cases import FUNCTIONS, Layer, Network, network
from test_network_gradient import (
    BOUND,
    OPS,
    assert_near,
    backends,
    energies_and_scores,
    followed,
    parts_of,
    slopes_along,
    work,
)
from test_network_ops import normal
from torch import Tensor

from pyebm import Noise, _ops, perturb

pytestmark = pytest.mark.usefixtures("poison", "one_thread")


@pytest.fixture(autouse=True)
def keep_level() -> Iterator[None]:
    before = _ops.simd()
    yield
    _ops.simd(before)


LOSS = {"weight": 0.5, "kappa": 1.0, "trace": 0.0, "square": 0.0, "along": False}


def lost(
    net: Network, x: Tensor, ops=None, each: bool = False, gradient: bool = True, **options
) -> tuple[Tensor, ...]:
    """Returns the loss, and its gradients in params and in x."""
    layout, params = net.packed(work(x))
    numbers = [options.pop(name, value) for name, value in LOSS.items()]
    loss = torch.empty(x.shape[:1] if each else (), dtype=torch.float64)
    grad, grad_x = (torch.empty_like(params), torch.empty_like(x)) if gradient else (None, None)
    op = (ops or {"network_loss": OPS.network_loss})["network_loss"]
    op(loss, grad, x, layout, params, options.pop("of_energy", False), *numbers, **options, grad_x=grad_x)
    return loss, grad, grad_x


def losses(net: Network, x: Tensor, **options) -> Tensor:
    """The samples' losses in float64, as operations that autograd follows."""
    of = LOSS | options
    rows = {
        name: options.get(f"{name}_rows", torch.tensor(of[name], dtype=torch.float64)).double()
        for name in ("weight", "kappa")
    }
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
    @pytest.mark.parametrize(
        ("residual", "skip"), [((1, 2), ()), ((1,), (0, 3)), ((0, 1, 2), (0, 2))], ids=str
    )
    def test_residuals_and_skips(self, dtype, kind, residual, skip):
        dim = 18 if 0 in residual else 5
        net = network(kind, dim, (18, 18, 18), "tanh", residual, skip)
        for batch in (1, 3, 35):
            x, v = normal(batch, dim, dtype=dtype), directions(1, dim, dtype, batch)
            assert_loss(net, x, trace=1.0, v=v, kappa=0.3, z=normal(batch, dim, dtype=dtype, seed=2))

    @pytest.mark.parametrize("kind", ["energy", "score"])
    def test_the_terms(self, dtype, kind):
        """Denoising; sliced, with reduced variance and without; exact. Numbers of each sample
        have either sign."""
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
    """Biases that are given apart have their own gradient, for all samples or for each; the
    network's own biases, which they replace, have none."""
    net, x = network(kind, 3, (20, 33)), normal(37, 3, dtype=torch.float64)
    biases = (normal(rows, 53 + (1 if kind == "energy" else 3), dtype=torch.float64, seed=9)).requires_grad_()
    leaf = x.clone().requires_grad_()
    values = losses(biased(net, biases), leaf, trace=1.0, v=directions(1, 3, torch.float64, 37))
    want = torch.autograd.grad(values.sum(), [biases, leaf])
    layout, params = net.packed(torch.float64)
    for _, ops in backends():
        grad, grad_biases, grad_x, loss = (
            torch.empty_like(params),
            torch.empty_like(biases),
            torch.empty_like(x),
            torch.empty(()),
        )
        held = biases.detach()
        options = {
            "v": directions(1, 3, torch.float64, 37),
            "biases": held,
            "grad_biases": grad_biases,
            "grad_x": grad_x,
        }
        ops["network_loss"](loss, grad, x, layout, params, False, 0.5, 1.0, 1.0, 0.0, False, **options)
        torch.testing.assert_close((grad_biases, grad_x), want, rtol=1e-11, atol=1e-12)
        assert all(not one.any() for one in parts_of(net, grad)[1::2])


def test_quadratic():
    """The gradient in q, the last of the params."""
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


@pytest.mark.parametrize("dtype", BOUND, ids=str)
@pytest.mark.parametrize("dim", [1, 3, 700])
def test_a_name(dtype, dim):
    """With a name the loss is that of perturbed samples and of the noise that perturbed them, to
    the bit; with z too, that of z."""
    net, x = network("score", dim, (20,), "silu"), normal(37, dim, dtype=dtype)
    noise = Noise(3, step=2, sample_ids=list(range(36, -1, -1)))
    named = {"name": noise._name, "ids": noise._ids}
    for rows in ({"kappa": 0.3}, {"kappa_rows": normal(37, dtype=dtype, seed=7).abs()}):
        sigma = rows.get("kappa_rows", 0.3)
        z = noise.randn(x.shape, dtype=dtype)
        want = lost(net, perturb(x, sigma, noise), each=True, z=z, **rows)
        assert_equal(lost(net, x, each=True, **named, **rows), want)
        assert_equal(lost(net, x, each=True, z=z, **named, **rows), want)
        reference = lost(net, x, dict(backends())["reference"], each=True, **named, **rows)
        for found, expected in zip(want, reference, strict=True):
            assert (found - expected).abs().max() <= 4 * BOUND[dtype] * expected.abs().max()
