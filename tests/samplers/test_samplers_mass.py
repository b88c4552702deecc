"""A mass for every element: steps by hand, the law, and how the mass is learned."""

from __future__ import annotations

import math

import pytest
import torch
from cases import assert_equal, levels, normal
from sampler_cases import same

from pyebm import Noise
from pyebm.samplers import HMC, MALA, State, _graph, _loop
from pyebm.samplers._mass import windows

pytestmark = pytest.mark.usefixtures("poison", "one_thread")

SCALES = torch.tensor([1.0, 30.0, 0.1])
MASS = levels(3, seed=5, dtype=torch.float64) * 3


def energy(x):
    return (0.1 * x.square() - x.cos()).sum(1)


def score(x):
    return -(0.2 * x + x.sin())


def narrow(x):
    """The energy of a Gaussian that has a scale of its own in every element."""
    return 0.5 * (x / SCALES.to(x.dtype)).square().sum(1)


def mala_by_hand(x, eta, t, mass, mask, noise):
    """A step from the proposals' densities themselves, N(x + eta s / m, 2 eta T / m)."""
    z = noise.randn(x.shape, dtype=torch.float64)
    y = torch.where(mask, x + eta * score(x) / mass + (2 * eta * t / mass).sqrt() * z, x)

    def log_q(to, at):
        away = (to - at - eta * score(at) / mass) * mask
        return -(away.square() * mass / (4 * eta * t)).sum(1)

    log_alpha = (energy(x) - energy(y)) / t + log_q(x, y) - log_q(y, x)
    u = noise.at(stream=noise.stream + 1).rand((len(x), 1)).double().flatten()
    accept = u.log() < log_alpha
    return torch.where(accept[:, None], y, x), log_alpha


def hmc_by_hand(x, eps, t, mass, mask, noise, n_leapfrog):
    """A step with momenta p ~ N(0, T m) and H = E + p^2 / 2m."""
    p = begun = (t * mass).sqrt() * noise.randn(x.shape, dtype=torch.float64) * mask
    q = x
    for _ in range(n_leapfrog):
        p = p + 0.5 * eps * score(q) * mask
        q = q + eps * p / mass
        p = p + 0.5 * eps * score(q) * mask
    log_alpha = (
        energy(x) - energy(q) + 0.5 * (begun.square() / mass).sum(1) - 0.5 * (p.square() / mass).sum(1)
    ) / t
    u = noise.at(stream=noise.stream + 1).rand((len(x), 1)).double().flatten()
    accept = u.log() < log_alpha
    return torch.where(accept[:, None], q, x), log_alpha


@pytest.mark.parametrize("mask", [None, torch.tensor([[True, False, True]])], ids=["all", "mask"])
@pytest.mark.parametrize("step", [0.35, levels(200, dtype=torch.float64)], ids=["number", "rows"])
@pytest.mark.parametrize(
    "mass",
    [MASS, levels(600, seed=6, dtype=torch.float64).reshape(200, 3), 2.5],
    ids=["row", "all", "number"],
)
@pytest.mark.parametrize("kind", ["mala", "hmc", "hmc-1"])
@pytest.mark.parametrize("backend", [None, "reference"])
def test_step_by_step(kind, mass, step, mask, backend):
    x, t, dense = normal(200, 3, dtype=torch.float64), 0.7, torch.ones(1, 3) if mask is None else mask
    options, by, m = (
        {"temperature": t, "mass": mass, "mask": mask, "backend": backend},
        step,
        torch.as_tensor(mass, dtype=torch.float64),
    )
    if isinstance(step, torch.Tensor):
        by = step[:, None]
    leaps = 1 if kind == "hmc-1" else 4
    sampler = MALA(energy, step, **options) if kind == "mala" else HMC(energy, step, leaps, **options)
    run, noise = sampler(x, 5, noise=Noise(3, stream=2), thin=1), Noise(3, stream=2)
    for k in range(5):
        if kind == "mala":
            want, log_alpha = mala_by_hand(x, by, t, m, dense.bool(), noise.at(step=k))
        else:
            want, log_alpha = hmc_by_hand(x, by, t, m, dense, noise.at(step=k), leaps)
        torch.testing.assert_close(run.states[k], want, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(
            run.info["accept_prob"][k], log_alpha.clamp(max=0).exp(), rtol=1e-8, atol=1e-8
        )
        x = run.states[k]
    assert 0.1 < run.info["acceptance"].mean() < 0.9999


def test_a_mass_of_one_is_none():
    """Equal up to the rounding of MALA's squares, which are summed in another way."""
    x = normal(200, 3, dtype=torch.float64)
    for make in (lambda m: MALA(energy, 0.4, mass=m), lambda m: HMC(energy, 0.5, 3, mass=m)):
        torch.testing.assert_close(
            make(1.0)(x, 20, noise=2), make(None)(x, 20, noise=2), rtol=1e-9, atol=1e-9
        )


def test_mass_and_scale_are_one():
    """A chain of x / root with unit masses makes the decisions of a chain of x with a mass."""
    x, root = normal(300, 3, dtype=torch.float64), MASS.rsqrt()
    for make in (lambda e, m: MALA(e, 0.3, mass=m), lambda e, m: HMC(e, 0.4, 3, mass=m)):
        scaled = make(lambda u: energy(u * root), None)(x / root, 15, noise=4)
        torch.testing.assert_close(make(energy, MASS)(x, 15, noise=4), scaled * root, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("kind", ["mala", "hmc"])
def test_the_law_of_a_badly_scaled_gaussian(kind):
    """Scales from 0.1 to 30: with a learned mass there is no bias, and the wide direction has
    several times the ESS."""
    x0 = Noise(8).randn((64, 3)) * SCALES

    def run(**options):
        options |= {"warmup": 400, "per": "batch"}
        sampler = (
            MALA(narrow, 0.05, **options) if kind == "mala" else HMC(narrow, 0.05, 4, jitter=0.3, **options)
        )
        warm = sampler(State(x0, 1), 400)
        return warm, sampler(warm, 300, thin=1)

    warm, with_mass = run(adapt_mass=True)
    _, without = run()
    states = with_mass.states / SCALES
    assert (states.std((0, 1)) - 1).abs().max() < 0.06
    assert states.mean((0, 1)).abs().max() < 0.1
    assert 0.5 < with_mass.info["acceptance"].mean() < 0.95
    learned = warm.extra["inverse_mass"].sqrt()
    assert_equal(learned, learned[:1].expand(64, 3))
    assert ((learned[0] / SCALES - 1).abs() < 0.15).all()

    def jumps(run):  # the mean square of a step in the wide direction
        return float(run.states[:, :, 1].diff(dim=0).square().mean())

    assert jumps(with_mass) > 50 * jumps(without)


def test_every_chain_learns_its_own():
    """A chain's mass depends on that chain alone, so the chain is the same in another batch."""
    sampler = HMC(narrow, 0.1, 4, warmup=200, adapt_mass=True)
    x0 = normal(6, 3) * SCALES
    whole = sampler(State(x0, Noise(3)), 220)
    alone = sampler(State(x0[4:], Noise(3, first_sample=4)), 220)
    assert_equal(alone.x, whole.x[4:])
    assert_equal(alone.extra["inverse_mass"], whole.extra["inverse_mass"][4:])
    assert len(whole.extra["inverse_mass"][:, 0].unique()) == 6


@pytest.mark.parametrize("per", ["sample", "batch"])
@pytest.mark.parametrize(
    "make", [lambda **o: MALA(narrow, 0.1, **o), lambda **o: HMC(narrow, 0.1, 3, jitter=0.1, **o)]
)
def test_learned_in_pieces(make, per):
    """A run that is cut anywhere, also within a window, has the same bits."""
    sampler = make(warmup=60, adapt_mass=True, per=per)
    whole = sampler(State(normal(6, 3) * SCALES, 1), 70)
    edges = windows(60)
    for cut in (1, edges[0], edges[0] + 1, 30, edges[-1] - 1, edges[-1], edges[-1] + 1, 60, 65):
        half = State.from_state_dict(sampler(State(normal(6, 3) * SCALES, 1), cut).state_dict())
        same(sampler(half, 70 - cut), whole)


@pytest.mark.parametrize("per", ["sample", "batch"])
def test_what_is_learned(per):
    """The inverse mass is the variance of the last window's states, shrunk as in Stan."""
    warmup = 150
    begin, end = windows(warmup)[-2:]
    sampler = MALA(
        energy, 0.3, warmup=warmup, adapt_mass=True, per=per, mask=torch.tensor([[True, True, False]])
    )
    run = sampler(State(normal(6, 3, dtype=torch.float64), 2), warmup, thin=1)
    states = run.states[begin:end]
    n = len(states)
    if per == "batch":
        states = states.flatten(0, 1).unsqueeze(1)
        n *= 6
    want = n / (n + 5) * states.var(0) + 1e-3 * 5 / (n + 5)
    torch.testing.assert_close(run.state.extra["inverse_mass"], want.expand(6, 3), rtol=1e-9, atol=1e-12)


def test_the_step_size_begins_anew():
    """Where a window ends, dual averaging begins again from ten times the step size that it
    found, as if nothing had been learned."""
    warmup, target = 60, 0.65
    end = windows(warmup)[-1]
    sampler = HMC(energy, 0.3, 3, warmup=warmup, adapt_mass=True, target_acceptance=target)
    run = sampler(State(normal(6, 3, dtype=torch.float64), 2), warmup, thin=1)
    size, accept = run.info["step_size"], run.info["accept_prob"]
    gap = average = torch.zeros(6, dtype=torch.float64)
    for m in range(1, warmup - end + 1):
        gap = (1 - 1 / (m + 10)) * gap + (target - accept[end + m - 1]) / (m + 10)
        log_step = (10 * size[end - 1]).log() - math.sqrt(m) / 0.05 * gap
        average = m**-0.75 * log_step + (1 - m**-0.75) * average
        want = log_step.exp() if m < warmup - end else average.exp()
        torch.testing.assert_close(size[end + m - 1], want, rtol=1e-9, atol=0)


def test_a_chain_that_is_not_finite_is_left_out():
    """All chains learn together here: the chain is left out, and none of the others stops."""
    x0 = normal(8, 3) * SCALES
    x0[3] = math.nan
    with pytest.warns(RuntimeWarning, match=r"1 of 8 chains \(sample ids 3\)"):
        end = MALA(narrow, 0.05, warmup=60, adapt_mass=True, per="batch")(State(x0, 1), 60)
    assert end.extra["inverse_mass"].isfinite().all()
    assert end.x[torch.arange(8) != 3].isfinite().all()


def test_windows():
    """As in Stan, windows are 75 steps, then 25, 50, 100, ...; the last window ends 50 steps
    before the warm-up does."""
    assert windows(1000) == [75, 100, 150, 250, 450, 950]
    assert windows(150) == [75, 100]
    assert windows(20) == [3, 18]


def test_a_graph_goes_on_with_what_is_learned(monkeypatch):
    monkeypatch.setattr(_graph, "on_the_side", lambda once: once())
    monkeypatch.setattr(_graph, "capture", lambda once: once)
    monkeypatch.setattr(_loop, "_capturable", lambda _: True)
    sampler = HMC(narrow, 0.1, 3, warmup=40, adapt_mass=True)
    warm = sampler(State(normal(6, 3), 1), 40)
    same(sampler(warm, 10, graph=True), sampler(warm, 10))
    with pytest.raises(ValueError, match="HMC: graph=True can't learn a mass"):
        sampler(State(normal(6, 3), 1), 40, graph=True)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: MALA(energy, 0.1, mass=0.0), ValueError, "MALA: mass must be > 0 and finite, got 0"),
        (
            lambda: MALA(energy, 0.1, mass=torch.tensor([1.0, -1.0, 1.0])),
            ValueError,
            "mass must be > 0 and finite in every element",
        ),
        (
            lambda: MALA(energy, 0.1, mass=torch.ones(4)),
            ValueError,
            r"mass must broadcast to x0's shape \(6, 3\), got \(4,\)",
        ),
        (
            lambda: MALA(energy, 0.1, mass=torch.ones(3, dtype=torch.int64)),
            TypeError,
            "mass must be .*torch.int64",
        ),
        (
            lambda: MALA(energy, 0.1, mass="1"),
            TypeError,
            "mass must be a number or a floating-point tensor, got str",
        ),
        (
            lambda: MALA(energy, 0.1, mass=torch.ones(3, device="meta")),
            ValueError,
            "mass must be on x0's device cpu, got meta",
        ),
        (
            lambda: HMC(energy, 0.1, 3, adapt_mass=True),
            ValueError,
            "HMC: adapt_mass needs a warmup of 20 steps or more, got 0",
        ),
    ],
)
def test_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()(normal(6, 3), 2)


def test_half_precisions_are_refused():
    with pytest.raises(TypeError, match=r"a mass needs x0 in float32 or float64, got torch.bfloat16"):
        MALA(energy, 0.1, mass=2.0)(normal(6, 3).bfloat16(), 2)
