"""200 training steps with a package's loss and with ours, from the same start and the same
noise, give the same curve."""

from __future__ import annotations

import pytest
import torch
from cases import column, normal
from peers import package
from sdes import VE
from torch.nn.functional import mse_loss

from pyebm import Noise
from pyebm.integrations import edm, ncsnv2, score_sde

STEPS, BATCH = 200, 32
SIGMAS = torch.logspace(0, -1, 5)


class Net(torch.nn.Module):
    """A small network on 1x4x4 images that takes the level in whatever way a package passes it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(torch.nn.Linear(17, 64), torch.nn.SiLU(), torch.nn.Linear(64, 16))

    def forward(self, x, level, *_, **__):
        level = (level.float().flatten() / 100).expand(len(x))
        return self.layers(torch.cat([x.flatten(1), level[:, None]], dim=1)).view(x.shape)


def diffusers_losses():
    diffusers = package("diffusers")
    from pyebm.integrations import diffusers as ours

    scheduler = diffusers.DDPMScheduler()

    def make(net, x, noise):
        times = torch.randint(0, 1000, (len(x),))
        noisy, noised = ours.add_noise(scheduler, x, noise, times)
        return ours.loss(net(noisy, times), noised)

    def theirs(net, x, z):
        times = torch.randint(0, 1000, (len(x),))
        return mse_loss(net(scheduler.add_noise(x, z, times), times), z)

    return make, theirs


def k_diffusion_losses():
    theirs = package("k_diffusion").layers.Denoiser
    from pyebm.integrations.k_diffusion import Denoiser

    def loss(cls):
        return lambda net, x, noise: cls(net, 0.5).loss(x, noise, (torch.randn(len(x)) - 1).exp()).mean()

    return loss(Denoiser), loss(theirs)


def edm_losses():
    def theirs(net, x, z):
        s = (column(torch.randn(len(x)), x) * 1.2 - 1.2).exp()
        return ((s**2 + 0.25) / (s * 0.5) ** 2 * (net(x + s * z, s) - x) ** 2).mean()

    def ours(net, x, noise):
        given = (lambda _: noise) if isinstance(noise, torch.Tensor) else noise
        loss = edm.EDMLoss(noise=given)
        if isinstance(noise, Noise):  # draw the level from torch, as the other run does
            sigma = (column(torch.randn(len(x)), x) * 1.2 - 1.2).exp()
            return edm_with(loss, sigma, net, x)
        return loss(net, x).mean()

    return ours, theirs


def edm_with(loss, sigma, net, x):
    """Our loss at a given sigma: its own draw of log sigma gets deviation 0 and mean log sigma."""
    loss.P_std, loss.P_mean = 0.0, sigma.log()
    return loss(net, x).mean()


def ncsnv2_losses():
    def theirs(net, x, z):
        labels = torch.randint(0, 5, (len(x),))
        s = column(SIGMAS[labels], x)
        return (0.5 * (s * net(x + s * z, labels) + z).flatten(1).square().sum(1)).mean()

    def ours(net, x, noise):
        return ncsnv2.anneal_dsm_score_estimation(net, x, SIGMAS, noise=noise)

    return ours, theirs


def score_sde_losses():
    sde = VE(high=5.0)

    def theirs(net, x, z):
        t = torch.rand(len(x)) * (1 - 1e-5) + 1e-5
        std = column(sde.marginal_prob(x, t)[1], x)
        return (std * net(x + std * z, std) + z).square().mean()

    def ours(net, x, noise):
        given = (lambda _: noise) if isinstance(noise, torch.Tensor) else noise
        return score_sde.get_sde_loss_fn(sde, True, likelihood_weighting=False, noise=given)(net, x)

    return ours, theirs


LOSSES = {
    "diffusers": diffusers_losses,
    "k-diffusion": k_diffusion_losses,
    "edm": edm_losses,
    "ncsnv2": ncsnv2_losses,
    "score_sde": score_sde_losses,
}


def curve(loss, noise_of):
    net, data = Net(), normal(256, 1, 4, 4, seed=9)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    values = []
    for k in range(STEPS):
        torch.manual_seed(k)
        x = data[torch.randint(0, 256, (BATCH,))]
        value = loss(net, x, noise_of(k, x))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        values.append(value.item())
    return torch.tensor(values)


@pytest.mark.parametrize("name", LOSSES)
def test_curve(name):
    """The rounding errors of 200 steps grow at most to a thousandth; the losses fall by far more
    than that."""
    ours, theirs = LOSSES[name]()
    noise = Noise(4)

    def tensor(k, x):
        return noise.at(step=k).randn(x.shape)

    want = curve(theirs, tensor)
    torch.testing.assert_close(curve(ours, tensor), want, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(curve(ours, lambda k, _: noise.at(step=k)), want, rtol=1e-3, atol=1e-4)
    assert want[-50:].mean() < 0.97 * want[:20].mean()
