"""fused_loss: a learned target's loss from network_loss is the composed one, also when it is
used again or differentiated."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, normal
from test_learned_gradients import BOUND, assert_near, gradient_of, launches, learned, truth  # noqa: F401 (a fixture)
from torch import Tensor, nn

from pyebm.targets import MLPEnergy
from pyebm.targets._fused import Terms, fused_loss

V = normal(21, 2 * 3, seed=4)
LOSSES = {
    "denoising": {
        "z": normal(21, 3, seed=2),
        "kappa_rows": normal(21, seed=3).abs(),
        "weight_rows": normal(21, seed=5).abs(),
    },
    "sliced": {"v": V, "trace": 0.5, "weight": 1 / 21},
    "without variance reduced": {"v": V, "trace": 1.0, "along": True, "weight": 1 / 42},
    "exact": {"v": torch.eye(3).reshape(1, 9), "trace": 1.0},
}


def losses_of(score: Tensor, at: Tensor, terms: Terms) -> Tensor:
    weight = terms.weight if terms.weight_rows is None else terms.weight_rows
    kappa = terms.kappa if terms.kappa_rows is None else terms.kappa_rows[:, None]
    square, slopes = (kappa * score + (0.0 if terms.z is None else terms.z)).square().sum(1), 0.0
    if terms.v is not None:
        v = terms.v.reshape(len(terms.v), -1, 3).expand(21, -1, 3)
        products = [torch.autograd.grad(score, at, v[:, k], create_graph=True)[0] for k in range(v.shape[1])]
        slopes = sum((product * v[:, k]).sum(1) for k, product in enumerate(products))
        if terms.along:
            square = (v * score[:, None]).sum(2).square().sum(1)
    return weight * (0.5 * square + terms.trace * slopes)


def value_of(score: Tensor, at: Tensor, terms: Terms) -> Tensor:
    return losses_of(score, at, terms).sum()


def terms_in(dtype: torch.dtype, name: str) -> Terms:
    options = LOSSES[name].items()
    return Terms(**{key: one.to(dtype) if isinstance(one, Tensor) else one for key, one in options})


@pytest.mark.parametrize("kind", ["energy", "score"])
@pytest.mark.parametrize("name", LOSSES)
class TestFused:
    def test_is_the_composed_loss(self, launches, kind, name):  # noqa: F811
        for dtype, bound in BOUND.items():
            target, x = learned(kind, dtype), normal(21, 3, dtype=dtype).requires_grad_()
            terms = terms_in(dtype, name)
            _, score, parameters = truth(target)
            at = x.detach().double().requires_grad_()
            wide = Terms(*(one.double() if isinstance(one, Tensor) else one for one in terms))
            want = value_of(score(at), at, wide)
            loss = fused_loss(target, x, terms)
            torch.testing.assert_close(loss.double(), want, rtol=bound, atol=bound)
            loss.backward(torch.tensor(2.0, dtype=dtype))
            found = torch.autograd.grad(2.0 * want, [*parameters, at], materialize_grads=True)
            assert_near([*(gradient_of(p) for p in target.net.parameters()), x.grad], found, 4 * bound)
        assert set(launches) == {"network_loss", "scale_"}

    def test_again(self, kind, name):
        """A second backward pass makes the gradient anew; double backward composes it."""
        target, x = learned(kind, torch.float64), normal(21, 3, dtype=torch.float64)
        terms = terms_in(torch.float64, name)
        of = list(target.net.parameters())
        loss = fused_loss(target, x, terms)
        first = torch.autograd.grad(loss, of, retain_graph=True, materialize_grads=True)
        assert_equal(torch.autograd.grad(loss, of, retain_graph=True, materialize_grads=True), first)
        composed = torch.autograd.grad(loss, of, create_graph=True, materialize_grads=True)
        assert_near(composed, first, 1e-11)
        _, score, parameters = truth(target)
        at = x.clone().requires_grad_()
        want = torch.autograd.grad(
            value_of(score(at), at, terms), parameters, create_graph=True, materialize_grads=True
        )
        total, want_total = (sum(g.square().sum() for g in gs) for gs in (composed, want))
        found = torch.autograd.grad(total, of, materialize_grads=True)
        assert_near(found, torch.autograd.grad(want_total, parameters, materialize_grads=True), 1e-9)


class TestFusedOrNot:
    def test_of_energies(self):
        target, x = learned("energy", torch.float64), normal(21, 3, dtype=torch.float64)
        of, a = list(target.net.parameters()), normal(21, dtype=torch.float64, seed=1)
        loss = fused_loss(target, x, Terms(weight_rows=a, square=0.3), of_energy=True)
        energies = target.energy(x)
        want = (a * energies + 0.3 * energies.square()).sum()
        torch.testing.assert_close(loss, want)
        assert_near(torch.autograd.grad(loss, of), torch.autograd.grad(want, of), 1e-12)

    def test_a_constant(self, launches):  # noqa: F811
        target = learned("energy")
        with torch.no_grad():
            loss = fused_loss(target, normal(5, 3), Terms())
        assert not loss.requires_grad
        assert launches == ["network_loss"]

    def test_left_to_composed_operations(self):
        target, x = learned("energy"), normal(5, 3)
        assert fused_loss(target.net, x, Terms()) is None
        assert fused_loss(learned("score"), x, Terms(), of_energy=True) is None
        assert fused_loss(target, x, Terms(z=x.clone().requires_grad_())) is None
        assert fused_loss(target, x.to("meta"), Terms()) is None
        assert fused_loss(MLPEnergy(nn.DataParallel(target.net)), x, Terms()) is None
        assert fused_loss(target, x.half().requires_grad_(), Terms()) is None
        seen = []
        torch.func.grad(lambda x: (seen.append(fused_loss(target, x, Terms())), target.energy(x).sum())[1])(x)
        assert seen == [None]

    def test_refusals(self):
        with pytest.raises(ValueError, match=r"MLPEnergy\.score: x must have samples of 3 elements"):
            fused_loss(learned("energy"), normal(5, 2), Terms())
