"""Score matching's objectives: their values by the definition, their gradients, the mistakes
that others make, the refusals."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from cases import assert_equal, normal
from learned_cases import mlp
from torch import Tensor

import pyebm
from pyebm import Noise
from pyebm._streams import PROJECTIONS, beside
from pyebm.losses._projections import projections
from pyebm.targets import Gaussian, Harmonic, MLPEnergy, MLPScore

pytestmark = pytest.mark.usefixtures("one_thread")
NOISE = Noise(3, step=2)
SHAPES = ((5, 3), (4, 2, 3, 2), (6,), (3, 1), (0, 3), (4, 0))


def mixed(x: Tensor) -> Tensor:
    """A score whose Jacobian is full and differs from sample to sample."""
    flat = x.reshape(x.shape[0], math.prod(x.shape[1:]))
    at = torch.arange(flat.shape[1], dtype=x.dtype)
    turn = torch.sin(1 + at + 2.3 * at[:, None])
    return (torch.tanh(flat @ turn) - 0.1 * flat**3).reshape(x.shape)


def hyvarinen(score, x: Tensor) -> Tensor:
    """``1/2 |s|^2 + tr(ds/dx)`` of each sample, by the whole Jacobian."""

    def one(x: Tensor) -> Tensor:
        s = score(x[None])[0]
        jacobian = torch.func.jacrev(lambda y: score(y[None])[0].flatten())(x).reshape(s.numel(), s.numel())
        return 0.5 * s.square().sum() + jacobian.trace()

    return torch.stack([one(each) for each in x]) if len(x) and x[0].numel() else x.new_zeros(len(x))


@pytest.mark.parametrize("shape", SHAPES)
def test_exact_is_the_definition_for_any_shape(shape):
    """The loss sums over all of a sample's elements, not over the last dimension only, and does
    not divide by their number."""
    x = normal(*shape, dtype=torch.float64)
    want = hyvarinen(mixed, x)
    torch.testing.assert_close(pyebm.score_matching(mixed, x, reduction="sample"), want)
    torch.testing.assert_close(pyebm.score_matching(mixed, x), want.mean(), equal_nan=True)
    assert pyebm.score_matching(mixed, x, reduction="none").shape == shape


def test_weights_and_reductions_are_those_of_dsm_loss():
    """fisher_divergence to the target's score equals dsm_loss on the same residuals."""
    x, sigma = normal(4, 2, 3, dtype=torch.float64), 0.7
    z = NOISE.randn(x.shape, dtype=x.dtype)
    by_sample, by_element = normal(4, seed=1).abs().double(), normal(4, 2, 3, seed=2).abs().double()
    for weight in (None, 2.5, by_sample, by_sample.reshape(4, 1, 1), by_element):
        for reduction in ("batchmean", "sample", "sum", "mean", "none"):
            options = {"weight": weight, "reduction": reduction}
            got = pyebm.fisher_divergence(mixed, lambda _: -z / sigma, x, **options)
            torch.testing.assert_close(got, pyebm.dsm_loss(mixed(x), sigma, NOISE, **options))
            terms = pyebm.score_matching(mixed, x, weight=weight, reduction="none")
            want = {
                "none": terms,
                "sample": terms.flatten(1).sum(1),
                "sum": terms.sum(),
                "mean": terms.mean(),
            }
            want["batchmean"] = terms.sum() / 4
            torch.testing.assert_close(pyebm.score_matching(mixed, x, **options), want[reduction])


@pytest.mark.parametrize("projection", ["rademacher", "gaussian", "sphere"])
@pytest.mark.parametrize("variance_reduced", [True, False])
def test_sliced_is_its_formula_and_in_the_mean_the_exact_loss(projection, variance_reduced):
    x = normal(3, 2, 2, dtype=torch.float64)
    count = 3000
    v = projections(projection, NOISE, x, count)
    s, vjp = torch.func.vjp(mixed, x)
    bent = torch.stack([(each * vjp(each)[0]).flatten(1).sum(1) for each in v])
    second = s.square().flatten(1).sum(1) if variance_reduced else (v * s).flatten(2).sum(2).square()
    each = bent + 0.5 * second
    got = pyebm.sliced_score_matching(
        mixed, x, NOISE, count, projection, variance_reduced, reduction="sample"
    )
    torch.testing.assert_close(got, each.mean(0))
    scatter = each.std(0) / count**0.5
    assert ((got - hyvarinen(mixed, x)).abs() < 4 * scatter + 1e-9).all()


def test_projections():
    x = normal(500, 3, 2)
    for kind in ("rademacher", "gaussian", "sphere"):
        v = projections(kind, NOISE, x, 3)
        assert v.shape == (3, 500, 3, 2)
        flat = v.flatten(2).double().flatten(0, 1)
        torch.testing.assert_close(
            flat.T @ flat / len(flat), torch.eye(6, dtype=torch.float64), atol=0.15, rtol=0
        )
        assert_equal(projections(kind, NOISE, x, 1), v[:1])
        part = projections(kind, NOISE.shard(first_sample=100), x[100:], 3)
        assert_equal(part, v[:, 100:])
        if kind == "rademacher":
            u = beside(NOISE, PROJECTIONS).rand((500, 18)).reshape(500, 3, 3, 2)
            assert_equal(v, torch.where(u <= 0.5, 1.0, -1.0).movedim(1, 0))
            assert_equal(projections(kind, NOISE, x.double(), 3), v.double())
        if kind == "sphere":
            torch.testing.assert_close(
                flat.square().sum(1), torch.full((1500,), 6.0, dtype=torch.float64), atol=1e-5, rtol=0
            )
    perturbation, uniform = NOISE.randn(x.shape), NOISE.rand(x.shape)
    assert not torch.equal(projections("gaussian", NOISE, x, 1)[0], perturbation)
    rademacher = projections("rademacher", NOISE, x, 1)[0]
    assert not torch.equal(rademacher, torch.where(uniform <= 0.5, 1.0, -1.0))


def test_hutchinson_is_sliced_rademacher():
    x = normal(5, 3)
    got = pyebm.score_matching(mixed, x, "hutchinson", noise=NOISE, n_projections=2)
    assert_equal(got, pyebm.sliced_score_matching(mixed, x, NOISE, 2))


OBJECTIVES = {
    "exact": lambda fn, x, **o: pyebm.score_matching(fn, x, **o),
    "sliced": lambda fn, x, **o: pyebm.sliced_score_matching(fn, x, NOISE, 2, "gaussian", **o),
    "sliced, not reduced": lambda fn, x, **o: pyebm.sliced_score_matching(
        fn, x, NOISE, 2, "sphere", False, **o
    ),
    "fisher": lambda fn, x, **o: pyebm.fisher_divergence(fn, Harmonic(2.0), x, **o),
    "denoising": lambda fn, x, **o: pyebm.denoising_score_matching(fn, x, [0.5, 1.0], NOISE, **o),
}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gradients_are_those_of_finite_differences(objective):
    """The gradients in an energy's parameters and in x, in both modes."""
    energy = MLPEnergy(mlp(3, 1, width=4, dtype=torch.float64), quadratic=0.3)
    x = normal(2, 3, dtype=torch.float64)
    parameters = dict(energy.named_parameters())

    def loss(x: Tensor, *values: Tensor) -> Tensor:
        state = dict(zip(parameters, values, strict=True))
        score = functools.partial(
            pyebm.energy_score, lambda x: torch.func.functional_call(energy, state, (x,)), create_graph=True
        )
        return OBJECTIVES[objective](score, x)

    inputs = [x.requires_grad_(), *(p.detach().clone().requires_grad_() for p in parameters.values())]
    torch.autograd.gradcheck(loss, inputs, check_forward_ad=True)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_fn_may_be_a_target_a_score_or_an_energy_of_functions(objective):
    """The loss and the gradients are the same in whatever form the network comes."""
    net = mlp(3, 1, dtype=torch.float64)
    energy = MLPEnergy(net)
    x = normal(6, 3, dtype=torch.float64)
    found = []
    for fn in (
        energy,
        energy.score,
        functools.partial(pyebm.energy_score, lambda x: net(x), create_graph=True),
    ):
        net.zero_grad()
        loss = OBJECTIVES[objective](fn, x)
        loss.backward()
        found.append(
            (
                loss.detach(),
                [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in net.parameters()],
            )
        )
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_without_autograd_the_same_value_as_a_constant(objective):
    energy, x = MLPEnergy(mlp(3, 1)), normal(6, 3)
    want = OBJECTIVES[objective](energy, x)
    assert want.requires_grad
    with torch.no_grad():
        got = OBJECTIVES[objective](energy, x)
    assert not got.requires_grad
    with torch.inference_mode():
        inside = OBJECTIVES[objective](energy, normal(6, 3))
    torch.testing.assert_close(got, want.detach())
    assert_equal(inside.clone(), got)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_samples_loss_does_not_depend_on_its_batch(objective):
    x = normal(8, 2, 3)
    run = OBJECTIVES[objective]
    for dtype in (torch.float32, torch.bfloat16):
        whole = run(lambda x: -x * x.abs(), x.to(dtype), reduction="sample")
        assert whole.dtype is torch.float32
        assert_equal(run(lambda x: -x * x.abs(), x[:3].to(dtype), reduction="sample"), whole[:3])
        assert_equal(run(lambda x: -x * x.abs(), x.to(dtype).mT.contiguous().mT, reduction="sample"), whole)


def test_a_ladder_and_densities_of_levels():
    from pyebm.losses import LogNormal, LogUniform
    from pyebm.losses.denoising_score_matching import _levels

    x = torch.empty(20_000, 1)
    ladder = _levels([0.1, 1.0, 3.0], x, NOISE)
    assert [float((ladder == level).float().mean()) for level in (0.1, 1.0, 3.0)] == pytest.approx(
        [1 / 3] * 3, abs=0.02
    )
    uniform = _levels(LogUniform(0.1, 10.0), x, NOISE).log10()
    assert (float(uniform.mean()), float(uniform.std())) == pytest.approx((0.0, 2 / 12**0.5), abs=0.02)
    assert (uniform.abs() <= 1.0001).all()
    log_normal = _levels(LogNormal(), x, NOISE).log()
    assert (float(log_normal.mean()), float(log_normal.std())) == pytest.approx((-1.2, 1.2), abs=0.03)
    assert_equal(_levels(LogNormal(), x[:50], NOISE.shard(first_sample=7)).log(), log_normal[7:57])


def test_weights_by_name_are_the_papers_losses():
    x, sigma = normal(6, 4, dtype=torch.float64), torch.linspace(0.1, 2, 6, dtype=torch.float64)
    s = sigma[:, None]
    noisy = x + s * NOISE.randn(x.shape, dtype=x.dtype)
    denoised = noisy + s**2 * mixed(noisy)
    squares = (denoised - x).square().sum(1)
    papers = {
        "ncsn": 0.5 * squares / sigma**2,  # 1/2 sigma^2 |s + (x~ - x) / sigma^2|^2
        "deen": 0.5 * squares,
        "edm": 0.5 * squares * (sigma**2 + 0.25) / (0.5 * sigma) ** 2,
    }
    for name, want in papers.items():
        got = pyebm.denoising_score_matching(mixed, x, sigma, NOISE, weight=name, reduction="sample")
        torch.testing.assert_close(got, want)
    torch.testing.assert_close(
        pyebm.denoising_score_matching(mixed, x, 0.5, NOISE, weight="edm"),
        pyebm.denoising_score_matching(mixed, x, torch.full((6,), 0.5, dtype=x.dtype), NOISE, weight="edm"),
    )


def test_a_conditional_network_gets_the_levels():
    net = mlp(2 + 1, 2)
    score, x, ladder = MLPScore(net, condition=1), normal(5, 2), [0.3, 1.0]
    got = pyebm.denoising_score_matching(score, x, ladder, NOISE)
    by_function = lambda x, sigma: net(torch.cat((x, sigma[:, None]), 1))  # noqa: E731
    torch.testing.assert_close(
        got, pyebm.denoising_score_matching(by_function, x, ladder, NOISE, conditional=True)
    )
    energy = MLPEnergy(mlp(2 + 1, 1), condition=1)
    want = pyebm.denoising_score_matching(lambda x, c: energy.score(x, c), x, ladder, NOISE, conditional=True)
    torch.testing.assert_close(pyebm.denoising_score_matching(energy, x, ladder, NOISE), want)
    given = pyebm.denoising_score_matching(score.given(0.3), x, 0.3, NOISE)
    torch.testing.assert_close(given, pyebm.denoising_score_matching(score, x, 0.3, NOISE))


def test_fisher_divergence_of_two_gaussians_is_closed_form():
    """For a standard normal x, 1/2 E |(x - m) / v - x|^2 = 1/2 ((1/v - 1)^2 + m^2 / v^2) per
    element."""
    x = normal(200_000, 1, dtype=torch.float64)
    got = float(
        pyebm.fisher_divergence(
            Gaussian(torch.tensor([0.5]), torch.tensor([2.0])), Gaussian(torch.zeros(1)), x
        )
    )
    assert got == pytest.approx(0.5 * ((1 / 4 - 1) ** 2 + 0.25 / 16), rel=0.02)


@pytest.mark.parametrize("learned", [False, True], ids=["a function", "a network in the kernel"])
def test_an_empty_batch(learned):
    """Like the losses that have kernels: no terms, so their sum is 0 and their mean is NaN."""
    net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.SiLU(), torch.nn.Linear(8, 1))
    fn = pyebm.targets.MLPEnergy(net) if learned else torch.neg
    for objective in (
        lambda x, **options: pyebm.score_matching(fn, x, **options),
        lambda x, **options: pyebm.score_matching(fn, x, "hutchinson", noise=NOISE, **options),
        lambda x, **options: pyebm.sliced_score_matching(fn, x, NOISE, 3, "gaussian", False, **options),
    ):
        assert objective(torch.zeros(0, 2), reduction="sum") == 0
        assert objective(torch.zeros(0, 2)).isnan()
        assert objective(torch.zeros(0, 2), reduction="sample").shape == (0,)


def test_a_mean_is_over_the_elements_of_its_own_call():
    for dim in (3, 2):
        assert pyebm.score_matching(torch.neg, torch.zeros(4, dim), reduction="mean") == -1
