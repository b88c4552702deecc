"""Packages without an adapter of ours: their own code beside the same with pyebm's functions in its
place, so that the table of docs/integrations-figures.md says why there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

import pyebm

from . import rivals
from .call_sites import NOISE, randn, with_gradient
from .timing import Run


class Given:
    """A prior or a data term whose gradient is given."""

    def __init__(self, gradient: Tensor) -> None:
        self.gradient = gradient

    def grad(self, *_: Any) -> Tensor:
        return self.gradient


def deepinv_ula(shape: tuple[int, ...]) -> tuple[Run, Run]:
    """An iteration of ULA, with clipping."""
    rivals.get("deepinv")
    from deepinv.sampling.sampling_iterators.ula import ULAIterator

    x, data, prior = randn(shape), Given(randn(shape, 1)), Given(randn(shape, 2))
    eta, alpha = 0.01, 0.9
    iterator = ULAIterator({"step_size": eta, "alpha": alpha, "sigma": 0.05}, clip=(-3.0, 3.0))

    def ours() -> Tensor:
        slope = -data.grad() - alpha * prior.grad()
        stepped = pyebm.affine_step(x, slope, 1.0, eta, (2 * eta) ** 0.5, NOISE, clamp=(-3.0, 3.0))
        assert isinstance(stepped, Tensor)
        return stepped

    return (lambda: iterator({"x": x}, x, None, data, prior, 0)["x"]), ours


def sbi_loss(shape: tuple[int, ...]) -> tuple[Run, Run]:
    """The loss of NPSE's variance-preserving estimator, without the control variate, and its
    gradient."""
    estimators = rivals.get("sbi")

    class Net(nn.Module):
        output: Tensor

        def forward(self, *_: Any) -> Tensor:
            return self.output

    theta, condition, net = randn(shape), randn((shape[0], 4), 1), Net()
    estimator = estimators.score_estimator.VPScoreEstimator(net, torch.Size(shape[1:]), torch.Size((4,)))
    net.output = randn(shape, 2).requires_grad_()

    def ours() -> Tensor:
        times = estimator.train_schedule(shape[0])
        ones = torch.ones(shape[0], *[1] * (len(shape) - 1))
        mean, std = estimator.mean_fn(ones, times), estimator.std_fn(times)
        score = estimator(pyebm.perturb(theta, std, NOISE, alpha=mean), condition, times)
        weight = estimator.weight_fn(times)
        return pyebm.denoising_loss(score, NOISE, lam=1 / std, weight=weight, reduction="sample")

    def gradient(loss: Callable[[], Tensor]) -> Run:
        return lambda: torch.autograd.grad(loss().sum(), net.output)

    return gradient(lambda: estimator.loss(theta, condition, control_variate=False)), gradient(ours)


def flow_matching_loss(shape: tuple[int, ...]) -> tuple[Run, Run]:
    """The conditional path of optimal transport and its loss, with its gradient."""
    path = rivals.get("flow_matching").CondOTProbPath()
    x1 = randn(shape)

    def theirs(net: Callable[..., Tensor]) -> Tensor:
        t = torch.rand(shape[0])
        sample = path.sample(x_0=torch.randn_like(x1), x_1=x1, t=t)
        return mse_loss(net(sample.x_t, t), sample.dx_t)

    def ours(net: Callable[..., Tensor]) -> Tensor:
        t = torch.rand(shape[0])
        output = net(pyebm.perturb(x1, 1 - t, NOISE, alpha=t), t)
        return pyebm.denoising_loss(output, NOISE, lam=1, mu=-1, x0=x1, reduction="mean")

    return with_gradient(theirs, shape), with_gradient(ours, shape)
