"""SDE objects of score_sde's shape, from the formulas of Song et al. (2021), appendix B and C."""

from __future__ import annotations

import math

import torch
from cases import column


class VE:
    """dx = sigma(t) sqrt(2 log(sigma_max / sigma_min)) dw, sigma(t) = sigma_min (sigma_max /
    sigma_min)^t."""

    T = 1

    def __init__(self, n=1000, low=0.01, high=50.0):
        self.N, self.sigma_min, self.sigma_max = n, low, high
        self.discrete_sigmas = torch.linspace(math.log(low), math.log(high), n).exp()

    def _sigma(self, t):
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** t

    def sde(self, x, t):
        return torch.zeros_like(x), self._sigma(t) * math.sqrt(2 * math.log(self.sigma_max / self.sigma_min))

    def marginal_prob(self, x, t):
        return x, self._sigma(t)

    def discretize(self, x, t):
        k = (t * (self.N - 1) / self.T).long()
        before = torch.where(k == 0, torch.zeros_like(t), self.discrete_sigmas.to(t)[k - 1])
        return torch.zeros_like(x), (self.discrete_sigmas.to(t)[k] ** 2 - before**2).sqrt()


class SubVP:
    """dx = -beta(t) / 2 x dt + sqrt(beta(t) (1 - e^(-2 int beta))) dw."""

    T = 1

    def __init__(self, n=1000, low=0.1, high=20.0):
        self.N, self.beta_0, self.beta_1 = n, low, high

    def _beta(self, t):
        return self.beta_0 + t * (self.beta_1 - self.beta_0)

    def _log_mean(self, t):
        return -0.25 * t**2 * (self.beta_1 - self.beta_0) - 0.5 * t * self.beta_0

    def sde(self, x, t):
        return -0.5 * column(self._beta(t), x) * x, (
            self._beta(t) * (1 - (4 * self._log_mean(t)).exp())
        ).sqrt()

    def marginal_prob(self, x, t):
        return column(self._log_mean(t).exp(), x) * x, 1 - (2 * self._log_mean(t)).exp()

    def discretize(self, x, t):
        drift, diffusion = self.sde(x, t)
        return drift / self.N, diffusion / math.sqrt(self.N)


class VP(SubVP):
    """dx = -beta(t) / 2 x dt + sqrt(beta(t)) dw."""

    def __init__(self, n=1000, low=0.1, high=20.0):
        super().__init__(n, low, high)
        self.discrete_betas = torch.linspace(low / n, high / n, n)
        self.alphas = 1 - self.discrete_betas
        self.alphas_cumprod = self.alphas.cumprod(0)
        self.sqrt_alphas_cumprod, self.sqrt_1m_alphas_cumprod = (
            self.alphas_cumprod.sqrt(),
            (1 - self.alphas_cumprod).sqrt(),
        )

    def sde(self, x, t):
        return -0.5 * column(self._beta(t), x) * x, self._beta(t).sqrt()

    def marginal_prob(self, x, t):
        return column(self._log_mean(t).exp(), x) * x, (1 - (2 * self._log_mean(t)).exp()).sqrt()

    def discretize(self, x, t):
        beta = self.discrete_betas.to(t)[(t * (self.N - 1) / self.T).long()]
        return (column((1 - beta).sqrt(), x) - 1) * x, beta.sqrt()


SDES = {"ve": VE(), "vp": VP(), "subvp": SubVP()}
