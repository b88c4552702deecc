"""EDM's samplers against the published algorithm in plain PyTorch, float64: its schedules are
written as functions here, and differentiated by autograd."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from cases import assert_equal, normal

from pyebm import Noise
from pyebm.integrations.edm import StackedRandomGenerator, ablation_sampler, edm_sampler

LATENTS = normal(5, 2, 3, 3)


class Net:
    """The denoiser of a normal with std 0.5, whose levels are those of a grid, or any."""

    sigma_min, sigma_max = 0.01, 50.0

    def __init__(self, rounds=False):
        self.rounds, self.seen = rounds, []

    def round_sigma(self, sigma):
        sigma = torch.as_tensor(sigma)
        return (sigma * 64).ceil() / 64 if self.rounds else sigma

    def __call__(self, x, sigma, labels):
        assert labels == "labels"
        self.seen.append(float(sigma))
        return x.float() * 0.25 / (0.25 + sigma.float() ** 2)


def vp(beta_d, beta_min):
    return lambda t: (0.5 * beta_d * t**2 + beta_min * t).expm1().sqrt()


def bisected(function, value):
    """The t at which an increasing function has the value."""
    low, high = 0.0, 5000.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if float(function(torch.tensor(middle).double())) < value else (low, middle)
        )
    return high


def slope(x, denoised, t, sigma, s):
    t = torch.tensor(t, dtype=torch.float64, requires_grad=True)
    level, scale = sigma(t), s(t)
    (of_sigma,) = torch.autograd.grad(level, t, retain_graph=True)
    of_s = torch.autograd.grad(scale, t)[0] if scale.requires_grad else torch.tensor(0.0)
    level, scale = level.detach(), scale.detach()
    ratio = of_sigma / level
    return (ratio + of_s / scale) * x - ratio * scale * denoised(x / scale, level)


def published(net, levels, sigma, s, solver, alpha, churn, draw):
    def denoised(x, level):
        return net(x, level, "labels").double()

    def at(function, t):
        return float(function(torch.tensor(t, dtype=torch.float64)))

    times = [bisected(sigma, float(net.round_sigma(torch.tensor(level).double()))) for level in levels] + [
        0.0
    ]
    x = LATENTS.double() * at(sigma, times[0]) * at(s, times[0])
    for i, (t, after) in enumerate(itertools.pairwise(times)):
        level = at(sigma, t)
        gamma = min(churn[0] / len(levels), math.sqrt(2) - 1) if churn[1] <= level <= churn[2] else 0
        hat = bisected(sigma, float(net.round_sigma(torch.tensor(level * (1 + gamma)).double())))
        std = math.sqrt(max(at(sigma, hat) ** 2 - level**2, 0.0)) if gamma else 0.0
        x = at(s, hat) / at(s, t) * x + std * at(s, hat) * churn[3] * draw(i)
        h, first = after - hat, slope(x, denoised, hat, sigma, s)
        if solver == "euler" or i == len(levels) - 1:
            x = x + h * first
            continue
        second = slope(x + alpha * h * first, denoised, hat + alpha * h, sigma, s)
        x = x + h * ((1 - 1 / (2 * alpha)) * first + second / (2 * alpha))
    return x


CHURN = {"S_churn": 3.0, "S_min": 0.05, "S_max": 40.0, "S_noise": 1.01}
NOISE = Noise(4, step=2)


def karras(n, low=0.01, high=50.0, rho=7):
    return [
        (high ** (1 / rho) + i / (n - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho for i in range(n)
    ]


@pytest.mark.parametrize("churn", [{}, CHURN])
@pytest.mark.parametrize("rounds", [False, True])
def test_edm_sampler(churn, rounds):
    net, again = Net(rounds), Net(rounds)
    got = edm_sampler(net, LATENTS, "labels", NOISE, num_steps=7, **churn)
    assert got.dtype == torch.float64
    exact = published(
        again,
        karras(7),
        lambda t: t * 1.0,
        torch.ones_like,
        "heun",
        1.0,
        tuple(churn.values()) or (0, 0, math.inf, 1),
        lambda i: NOISE.at(step=2 + i).randn(LATENTS.shape, dtype=torch.float64),
    )
    torch.testing.assert_close(got, exact, rtol=1e-6, atol=1e-6)
    assert net.seen == pytest.approx(again.seen)


def schedules(name, low, high, eps=1e-3):
    if name == "linear":
        return lambda t: t * 1.0
    if name == "ve":
        return lambda t: t.sqrt()
    beta_d = 2 * (math.log(low**2 + 1) / eps - math.log(high**2 + 1)) / (eps - 1)
    return vp(beta_d, math.log(high**2 + 1) - 0.5 * beta_d)


@pytest.mark.parametrize(
    ("schedule", "scaling", "solver", "alpha", "churn"),
    [
        ("linear", "none", "heun", 1.0, CHURN),
        ("vp", "vp", "heun", 1.0, {}),
        ("vp", "vp", "heun", 0.6, CHURN),
        ("ve", "none", "euler", 1.0, CHURN),
        ("ve", "vp", "heun", 0.5, {}),
        ("linear", "vp", "euler", 1.0, CHURN),
    ],
)
def test_ablation_sampler(schedule, scaling, solver, alpha, churn):
    options = {"schedule": schedule, "scaling": scaling, "solver": solver, "alpha": alpha}
    got = ablation_sampler(Net(), LATENTS, "labels", NOISE, num_steps=6, **options, **churn)
    sigma = schedules(schedule, 0.01, 50.0)
    exact = published(
        Net(),
        karras(6),
        sigma,
        (lambda t: 1 / (1 + sigma(t) ** 2).sqrt()) if scaling == "vp" else torch.ones_like,
        solver,
        alpha,
        tuple(churn.values()) or (0, 0, math.inf, 1),
        lambda i: NOISE.at(step=2 + i).randn(LATENTS.shape, dtype=torch.float64),
    )
    torch.testing.assert_close(got, exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("discretization", ["vp", "ve", "iddpm", "edm"])
def test_discretizations(discretization):
    """The levels at which the network is asked, against table 1's formulas."""
    net, n = Net(), 6
    ablation_sampler(
        net, LATENTS, "labels", NOISE, num_steps=n, solver="euler", discretization=discretization
    )
    low = max(
        {"vp": float(vp(19.1, 0.1)(torch.tensor(1e-3).double())), "ve": 0.02}.get(discretization, 0.002), 0.01
    )
    high = 50.0
    if discretization == "edm":
        exact = karras(n, low)
    elif discretization == "ve":
        exact = [math.sqrt(high**2 * (low**2 / high**2) ** (i / (n - 1))) for i in range(n)]
    elif discretization == "vp":
        sigma = schedules("vp", low, high)
        exact = [float(sigma(torch.tensor(1 + i / (n - 1) * (1e-3 - 1)).double())) for i in range(n)]
    else:
        j = torch.arange(1001, dtype=torch.float64)
        abar = (math.pi / 2 * j / (1000 * 1.008)).sin() ** 2
        factors = (abar[:-1] / abar[1:]).clamp(min=0.001).reciprocal()
        u = (factors.flip(0).cumprod(0) - 1).sqrt()  # u^2 + 1 multiplies up from u_M = 0
        u = u[(u >= low) & (u <= high)].flip(0)
        exact = [float(u[round((len(u) - 1) / (n - 1) * i)]) for i in range(n)]
    assert net.seen == pytest.approx(exact, rel=1e-6)


def test_the_callers_own_normals_and_batches():
    """randn_like as in EDM; and a picture follows its seed alone."""
    torch.manual_seed(0)
    one = edm_sampler(Net(), LATENTS, "labels", num_steps=5, **CHURN)
    torch.manual_seed(0)
    drawn = [torch.randn_like(LATENTS.double()) for _ in range(5)]
    two = edm_sampler(Net(), LATENTS, "labels", lambda _: drawn.pop(0), num_steps=5, **CHURN)
    assert_equal(one, two)
    seeds = [3, 1, 4, 1, 5]
    pictures = []
    for part in (seeds, seeds[2:]):
        rnd = StackedRandomGenerator("cpu", part)
        latents = rnd.randn([len(part), 2, 3, 3])
        pictures.append(edm_sampler(Net(), latents, "labels", rnd.randn_like, num_steps=5, **CHURN))
    assert_equal(pictures[0][2:], pictures[1])


def test_what_they_refuse():
    with pytest.raises(TypeError, match="edm_sampler: net must have sigma_min"):
        edm_sampler(lambda x, _sigma, _labels: x, LATENTS)
    with pytest.raises(ValueError, match="ablation_sampler: solver must be"):
        ablation_sampler(Net(), LATENTS, "labels", solver="rk4")
    with pytest.raises(ValueError, match="edm_sampler: S_max must be"):
        edm_sampler(Net(), LATENTS, "labels", S_max=math.nan)
