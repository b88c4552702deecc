"""score_sde's loss function, predictor and corrector from our module, on data whose answer is
known: a Gaussian under the VP SDE.

    python examples/score_sde_gaussian.py
"""

from __future__ import annotations

import math

import torch

import pyebm
from pyebm.integrations import score_sde

MEAN = torch.tensor([1.5, -0.5, 0.0, 1.0]).view(1, 2, 2)


class VP:
    """The same SDE as score_sde's VPSDE: dx = -beta(t) / 2 x dt + sqrt(beta(t)) dw."""

    T, N, beta_0, beta_1 = 1, 100, 0.1, 20.0
    discrete_betas = torch.linspace(0.1 / 100, 20.0 / 100, 100)
    alphas = 1 - discrete_betas

    def sde(self, x, t):
        beta = (self.beta_0 + t * (self.beta_1 - self.beta_0))[:, None, None, None]
        return -0.5 * beta * x, beta.sqrt().flatten()

    def marginal_prob(self, x, t):
        log_mean = (-0.25 * t**2 * (self.beta_1 - self.beta_0) - 0.5 * t * self.beta_0)[:, None, None, None]
        return log_mean.exp() * x, (1 - (2 * log_mean).exp()).sqrt().flatten()

    def discretize(self, x, t):
        beta = self.discrete_betas[(t * (self.N - 1)).long()]
        return ((1 - beta).sqrt()[:, None, None, None] - 1) * x, beta.sqrt()


class Net(torch.nn.Module):
    """Predicts -score times std, from x and the time in 0 ... 999."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(6, 64),
            torch.nn.SiLU(),
            torch.nn.Linear(64, 64),
            torch.nn.SiLU(),
            torch.nn.Linear(64, 4),
        )

    def forward(self, x, labels):
        t = (labels / 999)[:, None]
        return self.layers(torch.cat([x.flatten(1), t, t**2], dim=1)).view(x.shape)


def main(steps: int = 1500, samples: int = 1000) -> torch.Tensor:
    torch.manual_seed(0)
    sde, net = VP(), Net()
    loss_fn = score_sde.get_sde_loss_fn(sde, True, likelihood_weighting=False, noise=pyebm.Noise(0))
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
    for _ in range(steps):
        value = loss_fn(net, MEAN + 0.5 * torch.randn(256, 1, 2, 2))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()

    def score(x, t):
        return -net(x, t * 999) / sde.marginal_prob(x, t)[1][:, None, None, None]

    # Their pc_sampler looks up the classes by name and makes new objects at each step.
    predictor = score_sde.predictors(pyebm.Noise(1))["reverse_diffusion"]
    corrector = score_sde.correctors(pyebm.Noise(1))["langevin"]
    x = mean = torch.randn(samples, 1, 2, 2)
    with torch.no_grad():
        for t in torch.linspace(1, 1e-3, sde.N):
            times = t.expand(samples)
            x, mean = corrector(sde, score, 0.1, 1).update_fn(x, times)
            x, mean = predictor(sde, score).update_fn(x, times)
    means = [round(v, 2) for v in mean.mean(0).flatten().tolist()]
    print(f"loss {value:.3f}; the samples' mean {means}, of the data {MEAN.flatten().tolist()}")
    print(
        f"their deviation {mean.std(0).mean():.2f}, of the data 0.50 (standard error of both"
        f" {0.5 / math.sqrt(samples):.2f})"
    )
    return mean


if __name__ == "__main__":
    main()
