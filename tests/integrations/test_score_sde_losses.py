"""Losses of score_sde's shape against the published formulas in plain PyTorch."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, column, normal
from compare import assert_as_good, gradient
from sdes import SDES, VE, VP, SubVP

from pyebm import Noise
from pyebm.integrations import score_sde

SHAPE = (6, 3, 8, 8)
NOISE = Noise(1, step=7)
every_sde = pytest.mark.parametrize("sde", SDES.values(), ids=SDES)
both_noises = pytest.mark.parametrize("ours", [True, False], ids=["regenerated", "caller's noise"])


class Net(torch.nn.Module):
    """A network with one parameter, which keeps the labels of time that it was given."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(normal(3, 8, 8, seed=5))
        self.labels = None

    def forward(self, x, labels):
        self.labels = labels
        return self.weight * x


def drawn(ours, seed=3):
    """Returns (the noise for our loss, the normals in float32, the normals in float64); torch's
    normals follow its seed and the draw of the times."""
    if ours:
        return NOISE, NOISE.randn(SHAPE), NOISE.randn(SHAPE, dtype=torch.float64)
    torch.manual_seed(seed)
    torch.rand(6)
    z = torch.randn(SHAPE)
    return torch.randn_like, z, z.double()


def published_score(sde, output, t, continuous):
    """Makes the score of the network's output, which is the score itself (VE) or minus the score
    times the std."""
    if isinstance(sde, VE):
        return output
    std = sde.marginal_prob(output, t)[1]
    if isinstance(sde, VP) and not continuous:
        std = sde.sqrt_1m_alphas_cumprod.to(t)[(t * (sde.N - 1)).long()]
    return -output / column(std, output)


def published(sde, net, x, z, t, reduce_mean, likelihood, continuous):
    mean, std = sde.marginal_prob(x, t)
    score = published_score(sde, net(mean + column(std, x) * z, None), t, continuous)
    if likelihood:
        losses, weight = (score + z / column(std, x)) ** 2, sde.sde(x, t)[1] ** 2
    else:
        losses, weight = (score * column(std, x) + z) ** 2, torch.ones_like(t)
    losses = losses.flatten(1).mean(1) if reduce_mean else 0.5 * losses.flatten(1).sum(1)
    return (losses * weight).mean()


@pytest.mark.parametrize("continuous", [True, False])
@pytest.mark.parametrize("likelihood", [True, False])
@pytest.mark.parametrize("reduce_mean", [True, False])
@both_noises
@every_sde
def test_loss_and_gradient(sde, ours, reduce_mean, likelihood, continuous):
    x, net, exact = normal(*SHAPE), Net(), Net().double()
    noise, z, wide = drawn(ours)
    torch.manual_seed(3)
    t = torch.rand(6) * (1 - 1e-3) + 1e-3
    torch.manual_seed(3)
    loss_fn = score_sde.get_sde_loss_fn(sde, True, reduce_mean, continuous, likelihood, 1e-3, noise=noise)
    got = gradient(loss_fn(net, x), net.weight)
    plain = gradient(published(sde, net, x, z, t, reduce_mean, likelihood, continuous), net.weight)
    # The float64 truth takes the float32 coefficients, because the SDE object makes them, not our
    # code.
    truth = gradient(
        published(Frozen(sde, t), exact, x.double(), wide, t.double(), reduce_mean, likelihood, continuous),
        exact.weight,
    )
    for triple in zip(got, plain, truth, strict=True):
        assert_as_good(*triple)


class Frozen:
    """An SDE in float64 that has the float32 SDE's coefficients at the times t."""

    def __init__(self, sde, t):
        self.__dict__.update(vars(sde))
        self._sde, self._t = sde, t
        self.__class__ = type("Frozen", (Frozen, type(sde)), {})

    def marginal_prob(self, x, _t):
        mean, std = self._sde.marginal_prob(torch.ones(len(x), 1, 1, 1), self._t)
        return mean.double() * x, std.double()

    def sde(self, x, _t):
        return None, self._sde.sde(torch.ones(len(x), 1, 1, 1), self._t)[1].double()


@pytest.mark.parametrize(("sde", "continuous", "labels"), [
    (VE(), True, lambda t: VE().marginal_prob(t, t)[1]),
    (VE(), False, lambda t: ((1 - t) * 999).round().long()),
    (VP(), True, lambda t: t * 999),
    (VP(100), False, lambda t: t * 99),
    (SubVP(), True, lambda t: t * 999),
    (SubVP(100), False, lambda t: t * 999),
])  # fmt: skip
def test_what_the_network_is_told(sde, continuous, labels):
    net = Net()
    torch.manual_seed(3)
    t = torch.rand(6) * (1 - 1e-5) + 1e-5
    torch.manual_seed(3)
    score_sde.get_sde_loss_fn(sde, True, continuous=continuous, noise=NOISE)(net, normal(*SHAPE))
    assert_equal(net.labels, labels(t))


def test_evaluation_mode():
    for train in (True, False):
        net = Net().train(not train)
        score_sde.get_sde_loss_fn(VP(), train, noise=NOISE)(net, normal(*SHAPE))
        assert net.training is train


def test_call_k_takes_step_k():
    loss_fn, x, net = score_sde.get_ddpm_loss_fn(VP(), True, noise=NOISE), normal(*SHAPE), Net()
    for k in range(3):
        torch.manual_seed(k)
        got = loss_fn(net, x)
        torch.manual_seed(k)
        assert_equal(got, score_sde.get_ddpm_loss_fn(VP(), True, noise=NOISE.at(step=NOISE.step + k))(net, x))


@pytest.mark.parametrize("reduce_mean", [True, False])
@both_noises
@pytest.mark.parametrize("kind", ["smld", "ddpm"])
def test_legacy_losses(kind, ours, reduce_mean):
    x, net, exact = normal(*SHAPE), Net(), Net().double()
    torch.manual_seed(3)
    labels = torch.randint(0, 1000, (6,))
    z = NOISE.randn(SHAPE) if ours else torch.randn(SHAPE)
    wide = NOISE.randn(SHAPE, dtype=torch.float64) if ours else z.double()

    def formula(net, x, z):
        if kind == "smld":
            s = column(VE().discrete_sigmas.flip(0)[labels], x).to(x.dtype)
            losses = (net(x + s * z, labels) + z / s).square() * s**2
        else:
            a, b = (
                column(v[labels], x).to(x.dtype)
                for v in (VP().sqrt_alphas_cumprod, VP().sqrt_1m_alphas_cumprod)
            )
            losses = (net(a * x + b * z, labels) - z).square()
        return (losses.flatten(1).mean(1) if reduce_mean else 0.5 * losses.flatten(1).sum(1)).mean()

    make, sde = {"smld": (score_sde.get_smld_loss_fn, VE()), "ddpm": (score_sde.get_ddpm_loss_fn, VP())}[kind]
    torch.manual_seed(3)
    got = gradient(
        make(sde, True, reduce_mean, noise=NOISE if ours else torch.randn_like)(net, x), net.weight
    )
    plain, truth = (
        gradient(formula(net, x, z), net.weight),
        gradient(formula(exact, x.double(), wide), exact.weight),
    )
    for triple in zip(got, plain, truth, strict=True):
        assert_as_good(*triple)


def test_wrong_sde():
    with pytest.raises(TypeError, match="vesde must have discrete_sigmas, got VP"):
        score_sde.get_smld_loss_fn(VP(), True)
    with pytest.raises(TypeError, match="vpsde must have discrete_betas, got SubVP"):
        score_sde.get_ddpm_loss_fn(SubVP(), True)


def test_another_sde_is_refused():
    """The drift of a mean-reverting SDE is no multiple of x."""

    class Reverting:
        T, N = 1, 100

    message = "sde must be VE, VP or sub-VP, got Reverting"
    for part in (score_sde.EulerMaruyamaPredictor, score_sde.ReverseDiffusionPredictor):
        with pytest.raises(NotImplementedError, match=f"{part.__name__}: {message}"):
            part(Reverting(), None)
    with pytest.raises(NotImplementedError, match=f"LangevinCorrector: {message}"):
        score_sde.LangevinCorrector(Reverting(), None, 0.1, 1)
    with pytest.raises(NotImplementedError, match=f"get_sde_loss_fn: {message}"):
        score_sde.get_sde_loss_fn(Reverting(), train=True)
