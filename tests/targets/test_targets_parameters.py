"""Learned targets: a Parameter stays itself, and its gradient flows through energy, log_prob,
score, samples and chains."""

from __future__ import annotations

import functools
import re
from itertools import product

import pytest
import torch
from cases import assert_equal, normal
from choice import thinned
from target_cases import lacks
from torch import nn
from torch.autograd import gradcheck, gradgradcheck

import pyebm
from pyebm import Noise, targets

# torch's forward mode uses torch.jit.script, which warns that it is deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")

T = functools.partial(torch.tensor, dtype=torch.float64)
MEANS = normal(3, 2, dtype=torch.float64, seed=3)
PER_ELEMENT = normal(3, 2, dtype=torch.float64, seed=5).abs() + 0.5
FACTOR = T([[1.31, 0.0], [0.4, 0.8]])

# For each name: a function that makes the target, and values for its parameters.
CASES = {
    "harmonic": (targets.Harmonic, [T(1.7), T(0.3)]),
    "gaussian": (targets.Gaussian, [T([0.3, -0.4]), T([0.6, 1.4])]),
    "gaussian_numbers": (targets.Gaussian, [T(0.3), T(1.4)]),
    "gaussian_full": (
        lambda mean, factor: targets.Gaussian(mean, scale_tril=factor),
        [T([0.3, -0.4]), FACTOR],
    ),
    "mixture": (targets.GaussianMixture, [MEANS, T(0.7), T([0.2, 0.5, 0.3])]),
    "mixture_components": (targets.GaussianMixture, [MEANS, T([[0.7], [1.2], [0.9]]), T([0.2, 0.5, 0.3])]),
    "mixture_dimensions": (targets.GaussianMixture, [MEANS, T([0.7, 1.1]), T([0.2, 0.5, 0.3])]),
    "mixture_diagonal": (targets.GaussianMixture, [MEANS, PER_ELEMENT, T([0.2, 0.5, 0.3])]),
    "double_well": (targets.DoubleWell, [T(1.9), T(1.1)]),
    "polynomial": (targets.Polynomial, [T([1.0, 0.3, -1.1, 0.2, 0.25])]),
    "rastrigin": (targets.Rastrigin, [T(1.3)]),
    "rosenbrock": (targets.Rosenbrock, [T(0.9), T(2.1)]),
    "ackley": (targets.Ackley, [T(7.0), T(0.4), T(5.0)]),
    "funnel": (targets.Funnel, [T(1.4)]),
}
NO_LOG_PROB, NO_SAMPLE = (
    [name for name, (make, values) in CASES.items() if lacks(make(*values), method, 2)]
    for method in ("log_prob", "sample")
)
X = normal(4, 2, dtype=torch.float64, seed=7)


def learned(name, dtype=torch.float64):
    cls, values = CASES[name]
    parameters = [nn.Parameter(value.to(dtype, copy=True)) for value in values]
    return cls(*parameters), parameters


@pytest.mark.parametrize("name", CASES)
def test_parameters_are_registered_as_they_are(name):
    for dtype in (torch.float32, torch.float64):
        target, given = learned(name, dtype)
        held = list(target.parameters())
        assert len(held) == len(given)
        assert all(any(one is other for other in held) for one in given)
        assert all(parameter.dtype == dtype for parameter in held)
        assert not list(target.buffers())
        assert set(target.state_dict()) == {key for key, _ in target.named_parameters()}
        assert type(target).__name__ in repr(target)


@pytest.mark.parametrize("name", CASES)
def test_the_values_are_those_of_buffers(name):
    """Values agree to the bit, with a derivative wanted or not (mixtures and full covariances:
    within their bound)."""
    cls, values = CASES[name]
    fixed, (target, _) = cls(*values), learned(name)
    same = (
        functools.partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)
        if "m" in name[:1] or "full" in name
        else assert_equal
    )
    for x in (X, X.float(), X.bfloat16()):
        close = (
            same
            if x.dtype == torch.float64
            else functools.partial(torch.testing.assert_close)
            if same is not assert_equal
            else same
        )
        assert_equal(target(x).detach(), fixed(x))
        close(target.score(x).detach(), fixed.score(x))
        with torch.no_grad():
            assert_equal(target.score(x), fixed.score(x))
        if name not in NO_LOG_PROB:
            assert_equal(target.log_prob(x).detach(), fixed.log_prob(x))
        if name not in NO_SAMPLE:
            with torch.no_grad():
                assert_equal(target.sample((4, 2), Noise(1)), fixed.sample((4, 2), Noise(1)))


def calls(cls):
    def by_method(method):
        def call(x, *parameters):
            return getattr(cls(*parameters), method)(x)

        return call

    return by_method


@pytest.mark.parametrize(("name", "method"), thinned(product(CASES, ("energy", "log_prob", "score")), 2))
def test_gradients(name, method):
    """Gradients in x and in every parameter, twice, and in forward mode, each along a random
    direction."""
    if method == "log_prob" and name in NO_LOG_PROB:
        return
    cls, values = CASES[name]
    inputs = [X.clone().requires_grad_(), *(value.clone().requires_grad_() for value in values)]
    # The target wants weights whose sum is 1, and gradcheck's steps change the sum: divide by it.
    call = calls(cls)(method)
    if "mixture" in name:
        call = lambda x, m, s, w: calls(cls)(method)(x, m, s, w / w.sum())  # noqa: E731
    gradcheck(call, inputs, check_forward_ad=True, fast_mode=True)
    gradgradcheck(call, inputs, fast_mode=True)


@pytest.mark.parametrize("name", [name for name in CASES if name not in NO_SAMPLE])
def test_gradients_of_samples(name):
    cls, values = CASES[name]
    *given, weights = values if "mixture" in name else (*values, None)
    inputs = [value.clone().requires_grad_() for value in given]

    def call(*parameters):
        last = () if weights is None else (weights,)
        return cls(*parameters, *last).sample((5, 2), Noise(1), dtype=torch.float64)

    gradcheck(call, inputs, check_forward_ad=True)
    with torch.no_grad():
        plain = call(*inputs)
    assert_equal(call(*inputs).detach(), plain)


def test_which_component_a_sample_is_of_has_no_derivative():
    target, _ = learned("mixture")
    with pytest.raises(RuntimeError, match="the weights require grad"):
        target.sample(4, Noise(0))
    with torch.no_grad():
        assert target.sample(4, Noise(0)).shape == (4, 2)


@pytest.mark.parametrize("name", CASES)
def test_a_step_of_an_optimiser_is_followed(name):
    cls, _ = CASES[name]
    target, given = learned(name)
    with torch.no_grad():
        before = target.score(X)
    optimiser = torch.optim.Adam(target.parameters(), 0.01)
    target(X).sum().backward()
    assert all(parameter.grad is not None for parameter in given)
    optimiser.step()
    fresh = cls(
        *(
            parameter.detach() / (parameter.detach().sum() if "mixture" in name and k == 2 else 1)
            for k, parameter in enumerate(given)
        )
    )
    with torch.no_grad():
        after = target.score(X)
        torch.testing.assert_close(after, fresh.score(X), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(
            pyebm.samplers.MALA(target, 0.1)(X, 3, noise=Noise(1)),
            pyebm.samplers.MALA(fresh, 0.1)(X, 3, noise=Noise(1)),
        )
    assert not torch.equal(after, before)


def test_a_mixture_learns():
    """Maximum likelihood by the energy alone moves the means to the data."""
    data = targets.GaussianMixture(T([[-2.0], [2.0]]), 0.5).sample(1000, Noise(0))
    target = targets.GaussianMixture(nn.Parameter(torch.tensor([[-0.5], [0.5]])), 0.5)
    optimiser = torch.optim.Adam(target.parameters(), 0.1)
    for _ in range(60):
        optimiser.zero_grad()
        target(data).mean().backward()
        optimiser.step()
    torch.testing.assert_close(target.means.detach().flatten(), torch.tensor([-2.0, 2.0]), atol=0.1, rtol=0)


def test_chains_carry_gradients():
    target, (means, scale, weights) = learned("mixture")
    last = pyebm.langevin_chain(X, target, 3, 0.1, Noise(1))
    grads = torch.autograd.grad(last.square().sum(), (means, scale, weights))
    assert all(grad.isfinite().all() and grad.any() for grad in grads)


def test_requires_grad_is_torch_s():
    """A target's requires_grad_ does not concern its buffers; each buffer can be made to require
    grad by itself."""
    target = targets.DoubleWell()
    assert not target.requires_grad_().barrier.requires_grad
    target.barrier.requires_grad_()
    (grad,) = torch.autograd.grad(target.score(X).sum(), target.barrier)
    torch.testing.assert_close(grad, (4 * X - 4 * X**3).sum())


def test_tensors_with_a_graph():
    """A network may compute the parameters: the gradient goes on to the network."""
    source = T(0.3).requires_grad_()
    target = targets.Gaussian(source.exp(), source.exp() * 2)
    (grad,) = torch.autograd.grad(target(X).sum(), source)
    with torch.enable_grad():
        mean, std = source.exp(), source.exp() * 2
        (want,) = torch.autograd.grad((0.5 * ((X - mean) / std) ** 2).sum(), source)
    torch.testing.assert_close(grad, want)
    full = targets.Gaussian(covariance=torch.eye(2, dtype=torch.float64) * source.exp())
    (grad,) = torch.autograd.grad(full(X).sum(), source)
    torch.testing.assert_close(grad, -0.5 * X.square().sum() * (-source).exp().detach())


def test_functional_call():
    """torch.func differentiates a learned target's energy."""
    target, _ = learned("gaussian")
    state = {key: value.detach().clone() for key, value in target.named_parameters()}

    def energy(parameters):
        return torch.func.functional_call(target, parameters, (X,)).sum()

    got = torch.func.grad(energy)(state)
    want = torch.autograd.grad(target(X).sum(), list(target.parameters()))
    for one, (key, _) in zip(want, target.named_parameters(), strict=True):
        torch.testing.assert_close(got[key], one)


def test_parametrised():
    """torch's own parametrisation keeps a standard deviation positive."""

    class Exp(nn.Module):
        def forward(self, x):
            return x.exp()

    target = targets.Gaussian(T([0.0, 0.0]), nn.Parameter(T([0.5, 0.7])))
    nn.utils.parametrize.register_parametrization(target, "std", Exp(), unsafe=True)
    target.parametrizations.std.original.data.copy_(T([0.1, -0.2]))
    want = targets.Gaussian(T([0.0, 0.0]), T([0.1, -0.2]).exp())
    assert_equal(target(X).detach(), want(X))
    with torch.no_grad():
        assert_equal(target.score(X), want.score(X))
    target(X).sum().backward()
    assert target.parametrizations.std.original.grad.all()


BAD = {
    "per_sample": (
        lambda: targets.Harmonic(torch.ones(4)),
        "Harmonic: stiffness must be a number or a tensor (), got shape (4,)",
    ),
    "one": (
        lambda: targets.Funnel(nn.Parameter(torch.ones(1))),
        "Funnel: std must be a number or a tensor (), got shape (1,)",
    ),
    "column": (
        lambda: targets.DoubleWell(1.0, torch.ones(4, 1)),
        "DoubleWell: width must be a number or a tensor ()",
    ),
    "negative": (
        lambda: targets.Harmonic(nn.Parameter(T(-1.0))),
        "Harmonic: stiffness must be > 0 and finite, got -1",
    ),
    "weights": (
        lambda: targets.GaussianMixture(MEANS, 1.0, nn.Parameter(T([0.5, 0.5, 0.5]))),
        "GaussianMixture: weights must sum to 1, got 1.5",
    ),
    "covariance": (
        lambda: targets.Gaussian(covariance=nn.Parameter(torch.eye(2))),
        "covariance must not be a Parameter",
    ),
    "both": (
        lambda: targets.Gaussian(covariance=FACTOR, scale_tril=FACTOR),
        "give covariance or scale_tril, not both",
    ),
    "diagonal": (
        lambda: targets.Gaussian(scale_tril=-FACTOR),
        "Gaussian: scale_tril must have a diagonal > 0, got -1.31 in it",
    ),
    "square": (
        lambda: targets.Gaussian(scale_tril=FACTOR[:1]),
        r"Gaussian: scale_tril must be (D, D) with D >= 1, got (1, 2)",
    ),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
