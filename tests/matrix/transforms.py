"""Columns: derivatives in both modes, batches, and functions that are computed again or called with
other weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.utils.checkpoint
from calls import CALLS, Call, Model, samples
from cases import assert_equal
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck


def is_constant(call: Call, x: Tensor) -> None:
    """No graph comes out, and what else depends on x keeps its gradient."""
    leaf = x.clone().requires_grad_()
    made = call(leaf)
    assert not made.requires_grad
    assert_equal(made, call(x))
    assert_equal(torch.func.grad(lambda x: call(x).sum() + x.sum())(x), torch.ones_like(x))


def grad(call: Call) -> None:
    """Reverse mode: the value has the bits that it has without, and the gradient is that of finite
    differences.

    A constant has no graph, and whatever else depends on x keeps its gradient.
    """
    x = samples(torch.float64, batch=2)
    if call.constant:
        return is_constant(call, x)
    assert_equal(call(x.clone().requires_grad_()).detach(), call(x).detach())
    assert gradcheck(call, x.requires_grad_())
    return None


def grad_of_grad(call: Call) -> None:
    """The same of the gradient, by reverse mode over reverse mode and by forward over reverse."""
    x = samples(torch.float64, batch=2)
    if call.constant:
        return is_constant(call, x)
    assert gradgradcheck(call, x.requires_grad_(), check_fwd_over_rev=True)
    return None


def jvp(call: Call) -> None:
    """`torch.func.jvp`: the value's bits, and the tangent that reverse mode says; a constant's is
    zero."""
    x, v = samples(torch.float64), samples(torch.float64, seed=1)
    value, tangent = torch.func.jvp(call, (x,), (v,))
    assert_equal(value.detach(), call(x).detach())
    if call.constant:
        assert not tangent.any()
    else:
        twin = CALLS["langevin_step"] if call.in_place else call
        jacobian = torch.autograd.functional.jacobian(twin, x)
        torch.testing.assert_close(tangent.detach(), (jacobian * v).sum((-1, -2)))


def vmap(call: Call) -> None:
    """`torch.vmap` has the bits of the loop: a Noise names what it names there."""
    x = torch.stack([samples(seed=k) for k in range(3)])
    assert_equal(torch.vmap(call)(x), torch.stack([call(one) for one in x]))


def vmap_of_grad(call: Call) -> None:
    """`torch.vmap(torch.func.grad(...))` has the bits of the loop."""
    x = torch.stack([samples(torch.float64, seed=k) for k in range(3)])
    one = torch.func.grad(lambda x: call(x).square().sum())
    assert_equal(torch.vmap(one)(x), torch.stack([one(each) for each in x]))


def checkpoint(call: Call) -> None:
    """`torch.utils.checkpoint` around a network with the call inside: the same value and
    gradients."""
    _checkpointed(call, use_reentrant=False)


def checkpoint_reentrant(call: Call) -> None:
    """The same with `use_reentrant=True`."""
    _checkpointed(call, use_reentrant=True)


def _checkpointed(call: Call, use_reentrant: bool) -> None:
    """In the middle of a network, so that gradients go through it."""
    model = Model(call)

    def gradients(run: Callable[[Tensor], Tensor]) -> list[Tensor]:
        x = samples().requires_grad_()
        model.zero_grad()
        value = run(x)
        value.backward()
        return [value.detach(), x.grad, *(p.grad.clone() for p in model.parameters())]

    again = gradients(lambda x: torch.utils.checkpoint.checkpoint(model, x, use_reentrant=use_reentrant))
    for got, want in zip(again, gradients(model), strict=True):
        assert_equal(got, want)


def functional_call(call: Call) -> None:
    """`torch.func.functional_call` with other weights and target's numbers: those of a module that
    has them."""
    model, other = Model(call), Model(call)
    with torch.no_grad():
        for value in (*other.net.parameters(), other.parts.well.barrier):
            value.mul_(1.5)
    state = {name: value.detach() for name, value in (*other.named_parameters(), *other.named_buffers())}
    x = samples()
    before, want = model(x).detach(), other(x)
    assert_equal(torch.func.functional_call(model, state, (x,)).detach(), want.detach())

    def loss(weights: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(model, {**state, **weights}, (x,))

    weights = {name: state[name] for name, _ in model.named_parameters()}
    want.backward()
    for name, gradient in torch.func.grad(loss)(weights).items():
        torch.testing.assert_close(gradient, other.get_parameter(name).grad)
    assert_equal(model(x).detach(), before)
