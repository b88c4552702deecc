"""The samples' losses of learned targets, and losses whose weights need a derivative: the kernel
makes them, and one more pass of it makes their gradient."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, normal
from test_fused_losses import CALLS, LEVELS, NOISE
from test_fused_terms import LOSSES, losses_of, terms_in
from test_learned_gradients import (  # noqa: F401 (a fixture)
    BOUND,
    assert_near,
    gradient_of,
    launches,
    learned,
    truth,
)
from torch import Tensor

import pyebm
from pyebm.targets._fused import Terms, fused_loss

DOUBLE = torch.float64
ABOVE = normal(21, dtype=DOUBLE, seed=9)
WEIGHT = torch.linspace(0.5, 2.0, 21)


def passes(launches: list[str]) -> list[str]:  # noqa: F811
    return [op for op in launches if op.startswith(("network", "scale"))]


@pytest.mark.parametrize("dtype", BOUND, ids=str)
@pytest.mark.parametrize("kind", ["energy", "score"])
@pytest.mark.parametrize("name", LOSSES)
def test_truth(launches, kind, name, dtype):  # noqa: F811
    """Losses and gradients are those of float64, within the bound of a loss that is one number."""
    target, x, bound = learned(kind, dtype), normal(21, 3, dtype=dtype).requires_grad_(), BOUND[dtype]
    terms, above = terms_in(dtype, name), ABOVE.to(dtype)
    _, score, parameters = truth(target)
    at = x.detach().double().requires_grad_()
    wide = Terms(*(one.double() if isinstance(one, Tensor) else one for one in terms))
    want = losses_of(score(at), at, wide)
    losses = fused_loss(target, x, terms, by_sample=True)
    assert losses.dtype is dtype
    assert (losses - want).abs().max() <= bound * want.abs().max()
    losses.backward(above)
    found = torch.autograd.grad(want, [*parameters, at], above.double(), materialize_grads=True)
    assert_near([*(gradient_of(p) for p in target.net.parameters()), x.grad], found, 4 * bound)
    assert passes(launches) == ["network_loss"] * 2


@pytest.mark.parametrize("kind", ["energy", "score"])
@pytest.mark.parametrize("name", CALLS)
class TestObjectives:
    def test_are_the_composed_ones(self, launches, kind, name):  # noqa: F811
        target, x = learned(kind, DOUBLE), normal(21, 3, dtype=DOUBLE)
        of = list(target.net.parameters())
        losses, want = (
            CALLS[name](fn, x, reduction="sample", weight=WEIGHT)
            for fn in (target, lambda x: target.score(x))
        )
        assert passes(launches)[0] == "network_loss"
        torch.testing.assert_close(losses, want, rtol=1e-11, atol=1e-11)
        found, right = (torch.autograd.grad(one, of, ABOVE, materialize_grads=True) for one in (losses, want))
        assert_near(found, right, 1e-10)

    def test_their_sum_in_order_is_the_loss(self, kind, name):
        target, x = learned(kind, DOUBLE), normal(21, 3, dtype=DOUBLE)
        with torch.no_grad():
            total = torch.zeros((), dtype=DOUBLE)
            for loss in CALLS[name](target, x, reduction="sample", weight=WEIGHT):
                total += loss
            assert_equal(total, CALLS[name](target, x, reduction="sum", weight=WEIGHT))

    def test_a_weight_that_is_learnt(self, launches, kind, name):  # noqa: F811
        """Its derivative is the samples' losses; the parameters' is as for a constant one."""
        target, x, weight = learned(kind, DOUBLE), normal(21, 3, dtype=DOUBLE), WEIGHT.double()
        of = [weight.requires_grad_(), *target.net.parameters()]
        for reduction in ("batchmean", "sample"):
            launches.clear()
            options = {"reduction": reduction, "weight": weight}
            found = torch.autograd.grad(CALLS[name](target, x, **options).sum(), of, materialize_grads=True)
            assert passes(launches) == ["network_loss"] * 2
            want = CALLS[name](lambda x: target.score(x), x, **options).sum()
            assert_near(found, torch.autograd.grad(want, of, materialize_grads=True), 1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE], ids=str)
def test_bits(dtype):
    """A sample's loss depends neither on its batch nor on the threads; the parameters' gradient
    does not depend on the threads."""
    target, x = learned("energy", dtype), normal(300, 3, dtype=dtype)
    above, before, found = normal(300, dtype=dtype, seed=9), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            losses = pyebm.denoising_score_matching(target, x, 0.3, NOISE, reduction="sample")
            found.append((losses.detach(), *torch.autograd.grad(losses, target.net[0].weight, above)))
    finally:
        torch.set_num_threads(before)
    for one in found[1:]:
        assert_equal(one[0], found[0][0])
        assert_equal(one[1], found[0][1])
    with torch.no_grad():
        for first, last in ((0, 1), (1, 38), (38, 300)):
            noise = NOISE.shard(first_sample=first)
            part = pyebm.denoising_score_matching(target, x[first:last], 0.3, noise, reduction="sample")
            assert_equal(part, found[0][0][first:last])


class TestAgain:
    def test_a_second_backward_and_double_backward(self):
        target, x = learned("energy", DOUBLE), normal(21, 3, dtype=DOUBLE)
        of, above = list(target.net.parameters())[:5], ABOVE.clone().requires_grad_()
        losses = CALLS["sliced"](target, x, reduction="sample")
        first = torch.autograd.grad(losses, of, ABOVE, retain_graph=True)
        assert_equal(torch.autograd.grad(losses, of, ABOVE, retain_graph=True), first)
        found = torch.autograd.grad(losses, of, above, create_graph=True)
        assert_near(found, first, 1e-11)
        want = CALLS["sliced"](lambda x: target.score(x), x, reduction="sample")
        right = torch.autograd.grad(want, of, above, create_graph=True)
        leaves = [above, *of]
        second, of_right = (
            torch.autograd.grad(sum(g.square().sum() for g in gs), leaves) for gs in (found, right)
        )
        assert_near(second, of_right, 1e-9)

    def test_gradients_of_each_sample(self):
        """A batch of grad_outputs at once gives each sample's gradient."""
        target, x = learned("score", DOUBLE), normal(4, 3, dtype=DOUBLE)
        weight = target.net[0].weight
        losses = CALLS["exact"](target, x, reduction="sample")
        (each,) = torch.autograd.grad(losses, weight, torch.eye(4, dtype=DOUBLE), is_grads_batched=True)
        for k in range(4):
            want = torch.autograd.grad(CALLS["exact"](target, x[k : k + 1]), weight)
            assert_near([each[k]], want, 1e-11)

    def test_weights_overwritten_before_the_backward_pass(self):
        target, x = learned("energy"), normal(21, 3)
        losses = CALLS["exact"](target, x, reduction="sample")
        with torch.no_grad():
            target.net[0].weight.add_(1.0)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            losses.sum().backward()


class TestOtherCalls:
    def test_half_precision(self):
        """x's gradient has grad_output in it before it is rounded, so the kernel may make it."""
        target = learned("energy")
        x = normal(21, 3, dtype=torch.float16).requires_grad_()
        losses = fused_loss(target, x, Terms(), by_sample=True)
        (found,) = torch.autograd.grad(losses, x, torch.full((21,), 2.0**-4))
        at = x.detach().double().requires_grad_()
        _, score, _ = truth(target)
        (want,) = torch.autograd.grad(0.5 * score(at).square().sum(), at)
        assert_near([found], [want * 2.0**-4], 1e-3)

    def test_empty(self):
        target = learned("energy")
        losses = CALLS["exact"](target, torch.empty(0, 3), reduction="sample")
        losses.sum().backward()
        assert losses.shape == (0,)
        assert not target.net[0].weight.grad.any()

    def test_by_element_it_is_composed(self, launches):  # noqa: F811
        target, x = learned("energy", DOUBLE), normal(21, 3, dtype=DOUBLE)
        terms = CALLS["exact"](target, x, reduction="none")
        assert "network_loss" not in launches
        torch.testing.assert_close(
            terms.sum(1), CALLS["exact"](target, x, reduction="sample"), rtol=1e-11, atol=1e-11
        )
        assert fused_loss(target, x, Terms(square=0.1), of_energy=True, by_sample=True) is None

    def test_energies(self):
        target, x = learned("energy", DOUBLE), normal(21, 3, dtype=DOUBLE)
        a, of = normal(21, dtype=DOUBLE, seed=1), list(target.net.parameters())
        losses = fused_loss(target, x, Terms(weight_rows=a), of_energy=True, by_sample=True)
        want = a * target.energy(x)
        torch.testing.assert_close(losses, want)
        assert_near(torch.autograd.grad(losses, of, ABOVE), torch.autograd.grad(want, of, ABOVE), 1e-12)

    @pytest.mark.parametrize("sigma", [0.3, LEVELS], ids=["one level", "levels"])
    def test_transforms(self, sigma):
        """They compose the losses, as they compose a loss that is one number."""
        target, x = learned("score", DOUBLE), normal(21, 3, dtype=DOUBLE)
        run = lambda x: pyebm.denoising_score_matching(target, x, sigma, NOISE, reduction="sample")  # noqa: E731
        at = x.clone().requires_grad_()
        (want,) = torch.autograd.grad(run(at), at, ABOVE)
        got = torch.func.vjp(run, x)[1](ABOVE)
        torch.testing.assert_close(got, (want,), rtol=1e-9, atol=1e-10)
        tangent = normal(21, 3, dtype=DOUBLE, seed=7)
        along = torch.func.jvp(run, (x,), (tangent,))[1]
        torch.testing.assert_close((along * ABOVE).sum(), (want * tangent).sum(), rtol=1e-9, atol=1e-10)

    def test_compiled_code(self):
        target, x = learned("energy", DOUBLE), normal(21, 3, dtype=DOUBLE)
        run = lambda x: CALLS["sliced"](target, x, reduction="sample")  # noqa: E731
        compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
        weight = target.net[0].weight
        found, want = (torch.autograd.grad(f(x), weight, ABOVE) for f in (compiled, run))
        assert_near(found, want, 1e-10)
