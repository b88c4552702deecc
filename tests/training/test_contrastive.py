"""Contrastive divergence: the loss by its definition, training steps that resume and split with
the same bits, the reported figures."""

from __future__ import annotations

import copy
import functools
import math

import pytest
import torch
from cases import assert_equal, normal
from learned_cases import energy_of, mlp

import pyebm
from pyebm import Noise, ReplayBuffer
from pyebm.losses import ContrastiveDivergence
from pyebm.samplers import HMC, MALA, AnnealedLangevin, Langevin
from pyebm.targets import DoubleWell, MLPEnergy, MLPScore

pytestmark = pytest.mark.usefixtures("one_thread")
NOISE = Noise(3, step=2)


def test_loss_is_the_definition():
    energy, x, y = (
        MLPEnergy(mlp(2, 1, dtype=torch.float64)),
        normal(6, 2).double(),
        normal(4, 2, seed=1).double(),
    )
    for model in (y, normal(6, 2, seed=2).double()):
        up, down = energy(x), energy(model)
        want = up.mean() - down.mean() + 0.3 * (up.square().mean() + down.square().mean())
        torch.testing.assert_close(pyebm.contrastive_divergence(energy, x, model, l2=0.3), want)
        torch.testing.assert_close(
            pyebm.contrastive_divergence(energy, x, model, reduction="mean"), up.mean() - down.mean()
        )
    each, weight = up - down, normal(6, seed=3).abs()
    for reduction, want in (
        ("sample", each),
        ("none", each),
        ("sum", each.sum()),
        ("batchmean", each.mean()),
    ):
        torch.testing.assert_close(pyebm.contrastive_divergence(energy, x, model, reduction=reduction), want)
    got = pyebm.contrastive_divergence(energy, x, model, weight=weight, reduction="sample")
    torch.testing.assert_close(got, weight.double() * each)


def test_an_energy_may_be_any_function_and_column():
    net, x, y = mlp(2, 1), normal(6, 2), normal(6, 2, seed=1)
    want = pyebm.contrastive_divergence(MLPEnergy(net), x, y)
    torch.testing.assert_close(pyebm.contrastive_divergence(net, x, y), want)  # net's energies are (B, 1)
    torch.testing.assert_close(pyebm.contrastive_divergence(energy_of(net), x, y), want)
    half = pyebm.contrastive_divergence(DoubleWell(), x.bfloat16(), y.bfloat16())
    assert half.dtype is torch.float32


REFUSED = {
    "shape": (
        lambda x, y: pyebm.contrastive_divergence(DoubleWell(), x, y[:, :1]),
        ValueError,
        "x_model must be samples like",
    ),
    "dtype": (
        lambda x, y: pyebm.contrastive_divergence(DoubleWell(), x, y.double()),
        ValueError,
        "x_model must be samples like",
    ),
    "sizes": (
        lambda x, y: pyebm.contrastive_divergence(DoubleWell(), x, y[:2], reduction="sum"),
        ValueError,
        "x_model must have as many",
    ),
    "energies": (
        lambda x, y: pyebm.contrastive_divergence(torch.neg, x, y),
        ValueError,
        "energy_fn must return one energy",
    ),
    "l2": (
        lambda x, y: pyebm.contrastive_divergence(DoubleWell(), x, y, l2=-1),
        ValueError,
        "l2 must be >= 0",
    ),
    "weight": (
        lambda x, y: pyebm.contrastive_divergence(DoubleWell(), x, y, weight=torch.ones(4, 2)),
        ValueError,
        "weight must",
    ),
    "score": (
        lambda *_: ContrastiveDivergence(MLPScore(mlp(2, 2)), Langevin(torch.neg, 0.1), 2),
        TypeError,
        "energy must be one",
    ),
    "sampler": (
        lambda *_: ContrastiveDivergence(DoubleWell(), torch.neg, 2),
        TypeError,
        "sampler must be one of",
    ),
    "schedule": (
        lambda *_: ContrastiveDivergence(DoubleWell(), AnnealedLangevin(torch.neg, [1.0], 0.1, 2), 2),
        ValueError,
        "sampler must take any number",
    ),
    "kl": (
        lambda *_: ContrastiveDivergence(DoubleWell(), MALA(DoubleWell(), 0.1), 2, kl=1.0),
        ValueError,
        "kl must be 0",
    ),
    "steps": (
        lambda *_: ContrastiveDivergence(DoubleWell(), Langevin(DoubleWell(), 0.1), 0),
        ValueError,
        "n_steps must be >= 1",
    ),
    "noise": (
        lambda x, _: ContrastiveDivergence(DoubleWell(), Langevin(DoubleWell(), 0.1), 2)(x, 3),
        TypeError,
        "noise must be",
    ),
    "buffer's shape": (
        lambda x, _: ContrastiveDivergence(
            DoubleWell(), Langevin(DoubleWell(), 0.1), 2, ReplayBuffer(9, (3,))
        )(x, NOISE),
        ValueError,
        "x must have samples of the buffer's shape",
    ),
    "late": (
        lambda x, _: ContrastiveDivergence(DoubleWell(), Langevin(DoubleWell(), 0.1), 2)(
            x, Noise(0, step=2**31)
        ),
        ValueError,
        "noise.step and n_steps",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    call, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        call(normal(4, 2), normal(4, 2, seed=1))


def chain_of(k: int, n_steps: int, noise: Noise = NOISE) -> Noise:
    """Returns the chains' noise in the training step k."""
    return noise.at(step=k * n_steps, stream=noise.stream ^ pyebm._streams.CHAINS)


def test_cd_k_begins_at_the_data():
    energy, x = MLPEnergy(mlp(2, 1), quadratic=0.2), normal(5, 2)
    cd = ContrastiveDivergence(energy, Langevin(energy, 0.05), 4, l2=0.1)
    negatives = pyebm.langevin_chain(x, energy, 4, 0.05, chain_of(7, 4))
    want = pyebm.contrastive_divergence(energy, x, negatives, l2=0.1)
    # The function's loss comes from the kernel, the module's from plain operations.
    torch.testing.assert_close(cd(x, NOISE.at(step=7)), want, rtol=1e-6, atol=1e-7)
    assert cd.history["gap"][0] == pytest.approx(
        float((energy(x).mean() - energy(negatives).mean()).detach()), abs=1e-5
    )
    assert cd.history["moved"][0] == pytest.approx(float((negatives - x).square().mean().sqrt()), rel=1e-5)


def test_the_chains_of_two_steps_never_share_noise(monkeypatch):
    """The chains do not share noise with the perturbation that the same Noise names, either."""
    cd, ends = ContrastiveDivergence(DoubleWell(), Langevin(torch.zeros_like, 0.5), 2), []
    monkeypatch.setattr(cd, "_loss", lambda x, model, _: ends.append(model - x))
    for k in range(3):
        cd(torch.zeros(500, 2), NOISE.at(step=k))
    drawn = torch.stack([*ends, *(NOISE.at(step=k).randn((500, 2)) for k in range(6))]).flatten(1)
    assert torch.corrcoef(drawn).fill_diagonal_(0).abs().max() < 0.2


@pytest.mark.parametrize("sampler", ["langevin", "decoupled", "mala", "hmc"])
def test_training_resumes_and_splits_with_the_same_bits(sampler, tmp_path):
    """A run that is killed after any step goes on from its saved state; a batch in two parts has
    the same chains."""

    def make():
        energy = MLPEnergy(mlp(2, 1), quadratic=0.5)
        made = {
            "langevin": lambda: Langevin(energy, 0.05),
            "decoupled": lambda: Langevin(energy, 0.1, noise_scale=0.05, clamp=(-2.0, 2.0), score_clip=1.0),
            "mala": lambda: MALA(energy, 0.05),
            "hmc": lambda: HMC(energy, 0.1, 2),
        }[sampler]()
        cd = ContrastiveDivergence(energy, made, 3, ReplayBuffer(11, (2,), reinit=0.3))
        return cd, torch.optim.Adam(energy.parameters(), lr=0.01)

    def train(cd, optimiser, steps, parts=1):
        for k in steps:
            x, noise = normal(6, 2, seed=k), Noise(5).at(step=k)
            optimiser.zero_grad()
            for first in range(0, 6, 6 // parts):
                cd(x[first : first + 6 // parts], noise.shard(first_sample=first)).div(parts).backward()
            optimiser.step()

    whole = make()
    train(*whole, range(8))
    part = make()
    train(*part, range(5))
    torch.save([one.state_dict() for one in part], tmp_path / "at_5")
    again = make()
    for one, state in zip(again, torch.load(tmp_path / "at_5", weights_only=True), strict=True):
        one.load_state_dict(state)
    train(*again, range(5, 8))
    assert_equal(again[0].state_dict(), whole[0].state_dict())

    frozen = [copy.deepcopy(part[0]) for _ in range(2)]
    for cd, parts in zip(frozen, (1, 3), strict=True):
        train(cd, torch.optim.SGD(cd.parameters(), lr=0.0), [5, 6], parts)
    assert_equal(frozen[1].buffer.state_dict(), frozen[0].buffer.state_dict())
    if sampler in ("mala", "hmc"):
        assert 0 < frozen[0].history["acceptance"][-1] <= 1


def test_last_steps_gradient_is_that_of_its_definition():
    """kl adds to the loss's gradient that of mean E(x_k) through the last step, with the energy's
    own parameters held (Du et al. 2021)."""
    energy, x = MLPEnergy(mlp(2, 1, dtype=torch.float64), quadratic=0.2), normal(5, 2).double()
    held = copy.deepcopy(energy).requires_grad_(False)
    for options in ({"temperature": 0.5}, {"noise_scale": 0.1, "score_clip": 0.4}):
        sampler = Langevin(energy, 0.3, clamp=(-1.5, 1.5), **options)
        plain, with_kl = (ContrastiveDivergence(energy, sampler, 4, kl=kl) for kl in (0.0, 2.0))
        parameters = list(energy.parameters())
        noise = NOISE.at(step=1)
        one, other = plain(x, noise), with_kl(x, noise)
        torch.testing.assert_close(other, one)  # the added value is 0
        difference = [
            b - a
            for a, b in zip(*(torch.autograd.grad(loss, parameters) for loss in (one, other)), strict=True)
        ]

        before = sampler(x, 3, noise=chain_of(1, 4))
        score = pyebm.energy_score(energy, before, create_graph=True)
        z = chain_of(1, 4).at(step=7).randn(x.shape, dtype=x.dtype)
        if "temperature" in options:
            end = before + 0.3 * score + (2 * 0.3 * 0.5) ** 0.5 * z
        else:
            end = before + 0.3 * score.clamp(-0.4, 0.4) + 0.1 * z
        want = torch.autograd.grad(2.0 * held(end.clamp(-1.5, 1.5)).mean(), parameters, allow_unused=True)
        for got, exact in zip(difference, want, strict=True):
            torch.testing.assert_close(got, torch.zeros_like(got) if exact is None else exact)


def test_any_energy_without_a_kernel_trains_too():
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.SiLU(), torch.nn.Flatten(), torch.nn.Linear(16, 1)
    )
    score = functools.partial(pyebm.energy_score, net)
    cd = ContrastiveDivergence(net, Langevin(score, 0.05), 2, ReplayBuffer(8, (1, 4, 4)))
    cd(normal(4, 1, 4, 4), NOISE).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert cd.gradient_norm() == pytest.approx(
        float(torch.nn.utils.get_total_norm([p.grad for p in net.parameters()]))
    )
    assert set(cd.history) == {
        "energy_data",
        "energy_model",
        "gap",
        "moved",
        "diverged",
        "fresh",
        "gradient_norm",
    }


def test_divergence_is_reported_not_hidden():
    """The energy has no floor: the loss is not finite, a warning says why, and the chains begin
    anew."""

    def falls(x):
        return -x.pow(4).sum(1)

    buffer = ReplayBuffer(8, (2,), reinit=0.0)
    cd = ContrastiveDivergence(falls, Langevin(functools.partial(pyebm.energy_score, falls), 1.0), 20, buffer)
    with pytest.warns(RuntimeWarning, match="8 of 8 chains are not finite after 20 steps"):
        loss = cd(normal(8, 2), NOISE)
    assert not loss.isfinite()
    assert cd.history["diverged"] == [8]
    assert not math.isfinite(cd.history["gap"][0])
    assert (buffer.ages == 0).all()
    assert buffer.draw(8, NOISE.at(step=9)).x.isfinite().all()


def test_gradient_is_the_likelihoods_where_chains_are_exact():
    """For E = k x^2 / 2 and samples of exp(-E) / Z, d(-log likelihood)/dk = 1/2 mean x^2 - 1/(2
    k)."""
    k = torch.tensor(2.0, requires_grad=True)
    x, model = normal(100_000, 1), normal(100_000, 1, seed=1) / 2**0.5
    pyebm.contrastive_divergence(lambda x: 0.5 * k * x.square().sum(1), x, model).backward()
    assert float(k.grad) == pytest.approx(0.5 - 0.25, abs=0.01)


@pytest.mark.parametrize("weight", [-0.5, 0.25])
def test_a_weight_of_any_sign_weighs_the_squares_too(weight):
    def loss(**options):  # no kernel takes this energy
        energy, negatives = (lambda x: x.square().sum(1) - 1.0), normal(6, 2, seed=1)
        return pyebm.contrastive_divergence(energy, normal(6, 2), negatives, l2=0.3, **options)

    torch.testing.assert_close(loss(weight=weight), weight * loss(), rtol=1e-6, atol=1e-7)
    assert_equal(loss(weight=torch.tensor(weight)), loss(weight=weight))
