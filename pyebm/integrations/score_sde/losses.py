"""``loss_fn(model, batch)`` for an SDE, as their training loop wants it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..._checks import Coefficient, check_samples, checked_number
from ..._options import check_callable, checked_flag
from ...losses import denoising_loss
from .._draws import Draws, Normals, Source, add_noise
from .._fits import fitted, output_like, widened
from ._sde import EVALUATION, TRAINING, check_known, is_exploding, on_stream, ones_for

LossFn = Callable[[nn.Module, Tensor], Tensor]


def get_sde_loss_fn(
    sde: Any,
    train: bool,
    reduce_mean: bool = True,
    continuous: bool = True,
    likelihood_weighting: bool = True,
    eps: float = 1e-5,
    *,
    noise: Source = None,
) -> LossFn:
    """``loss_fn(model, batch)``: the weighted score matching loss at a uniform time in [eps, T) for
    each sample.

    ``mean_b w_b red_i (std s + z)^2`` with w = 1, or g^2 / std^2 (Song et al. 2021, "Maximum
    likelihood training"); red is the mean (reduce_mean) or half the sum. For VP and sub-VP the
    network predicts ``-std s``, so the score is never made.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.score_sde import get_sde_loss_fn
        >>> class VE:
        ...     T, N, discrete_sigmas = 1, 100, torch.logspace(-2, 1, 100)
        ...     def marginal_prob(self, x, t):
        ...         return x, 0.01 * 1000**t
        >>> class Net(torch.nn.Module):
        ...     def forward(self, x, sigma):
        ...         return -x / (1 + sigma[:, None, None, None] ** 2)
        >>> loss_fn = get_sde_loss_fn(
        ...     VE(), train=True, likelihood_weighting=False, noise=pyebm.Noise(0)
        ... )
        >>> loss_fn(Net(), torch.randn(4, 1, 8, 8)).shape
        torch.Size([])
    """
    call = "get_sde_loss_fn"
    check_known(call, sde)
    eps = checked_number(call, "eps", eps, 0.0)
    if not eps < sde.T:
        raise ValueError(f"{call}: eps must be below the SDE's T={sde.T}, got {eps}")
    flags = {
        "train": train,
        "reduce_mean": reduce_mean,
        "continuous": continuous,
        "likelihood_weighting": likelihood_weighting,
    }
    train, reduce_mean, continuous, likelihood_weighting = (
        checked_flag(call, name, value) for name, value in flags.items()
    )
    draws = _draws(noise, train)

    def loss_fn(model: nn.Module, batch: Tensor) -> Tensor:
        _prepare(call, model, batch, train)
        t = torch.rand(batch.shape[0], device=batch.device) * (sde.T - eps) + eps
        normals = draws(batch)
        mean, std = sde.marginal_prob(ones_for(batch), t)
        noisy = add_noise(widened(batch, mean, std), std, normals, alpha=mean)
        labels, kappa = _network(sde, t, std, continuous)
        weight = (
            (sde.sde(ones_for(batch), t)[1].double() / std.double()) ** 2 if likelihood_weighting else None
        )
        output = output_like(call, "the model's output", model(noisy, labels), noisy)
        return _reduced(output, normals, kappa, 1.0, weight, reduce_mean)

    return loss_fn


def get_smld_loss_fn(vesde: Any, train: bool, reduce_mean: bool = False, *, noise: Source = None) -> LossFn:
    """The loss of SMLD (NCSN): each sample gets a level of ``vesde.discrete_sigmas``, of which
    label 0 is the largest; the weight is sigma^2.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.score_sde import get_smld_loss_fn
        >>> class VE:
        ...     N, discrete_sigmas = 10, torch.logspace(-2, 1, 10)
        >>> class Net(torch.nn.Module):
        ...     def forward(self, x, labels):
        ...         return -x
        >>> loss_fn = get_smld_loss_fn(VE(), train=True, noise=pyebm.Noise(0))
        >>> loss_fn(Net(), torch.randn(4, 1, 8, 8)).shape
        torch.Size([])
    """
    if not is_exploding(vesde):
        raise TypeError(f"get_smld_loss_fn: vesde must have discrete_sigmas, got {type(vesde).__name__}")
    call = "get_smld_loss_fn"
    train, reduce_mean = checked_flag(call, "train", train), checked_flag(call, "reduce_mean", reduce_mean)
    draws, levels = _draws(noise, train), vesde.discrete_sigmas.flip(0)

    def loss_fn(model: nn.Module, batch: Tensor) -> Tensor:
        _prepare(call, model, batch, train)
        labels = torch.randint(0, vesde.N, (batch.shape[0],), device=batch.device)
        sigma = levels.to(batch.device)[labels]
        normals = draws(batch)
        noisy = add_noise(widened(batch, sigma), sigma, normals)
        output = output_like(call, "the model's output", model(noisy, labels), noisy)
        return _reduced(output, normals, sigma, 1.0, None, reduce_mean)

    return loss_fn


def get_ddpm_loss_fn(vpsde: Any, train: bool, reduce_mean: bool = True, *, noise: Source = None) -> LossFn:
    """The loss of DDPM: each sample gets a step of ``vpsde``'s discretisation, and the network
    predicts the noise.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.score_sde import get_ddpm_loss_fn
        >>> class VP:
        ...     N, discrete_betas = 10, torch.linspace(0.01, 0.2, 10)
        ...     sqrt_alphas_cumprod = (1 - discrete_betas).cumprod(0).sqrt()
        ...     sqrt_1m_alphas_cumprod = (1 - (1 - discrete_betas).cumprod(0)).sqrt()
        >>> class Net(torch.nn.Module):
        ...     def forward(self, x, labels):
        ...         return x
        >>> loss_fn = get_ddpm_loss_fn(VP(), train=True, noise=pyebm.Noise(0))
        >>> loss_fn(Net(), torch.randn(4, 1, 8, 8)).shape
        torch.Size([])
    """
    if not hasattr(vpsde, "discrete_betas"):
        raise TypeError(f"get_ddpm_loss_fn: vpsde must have discrete_betas, got {type(vpsde).__name__}")
    call = "get_ddpm_loss_fn"
    train, reduce_mean = checked_flag(call, "train", train), checked_flag(call, "reduce_mean", reduce_mean)
    draws = _draws(noise, train)

    def loss_fn(model: nn.Module, batch: Tensor) -> Tensor:
        _prepare(call, model, batch, train)
        labels = torch.randint(0, vpsde.N, (batch.shape[0],), device=batch.device)
        alpha, sigma = (
            table.to(batch.device)[labels]
            for table in (vpsde.sqrt_alphas_cumprod, vpsde.sqrt_1m_alphas_cumprod)
        )
        normals = draws(batch)
        noisy = add_noise(widened(batch, alpha, sigma), sigma, normals, alpha)
        output = output_like(call, "the model's output", model(noisy, labels), noisy)
        return _reduced(output, normals, 1.0, -1.0, None, reduce_mean)

    return loss_fn


def _draws(noise: Source, train: bool) -> Draws:
    return Draws(on_stream(noise, TRAINING if train else EVALUATION))


def _prepare(call: str, model: Any, batch: Any, train: bool) -> None:
    check_samples(call, "batch", batch)
    check_callable(call, "model", model, "a module")
    if not hasattr(model, "train"):
        raise TypeError(f"{call}: model must be a module, got {type(model).__name__}")
    model.train(train)


def _reduced(
    output: Tensor, normals: Normals, kappa: Coefficient, lam: float, weight: Tensor | None, reduce_mean: bool
) -> Tensor:
    """score_sde's two reductions: the mean over everything, or half the sum over elements and then
    the mean over samples."""
    reduction = "mean" if reduce_mean else "batchmean"
    if isinstance(normals, Tensor):
        normals = fitted("loss_fn", normals, output)
    return denoising_loss(
        output, normals, kappa=kappa, lam=lam, weight=weight, half=not reduce_mean, reduction=reduction
    )


def _network(sde: Any, t: Tensor, std: Tensor, continuous: bool) -> tuple[Tensor, Coefficient]:
    """The label that a network of score_sde takes for the time, and the factor that turns its
    output into ``std * score``.

    For VE the output is the score, and the label is the std or the level's index. For the others
    the output is ``-score`` times the std, and the label is t scaled to 0 ... 999; a VP network
    trained on discrete steps divides by the std of the step.
    """
    if is_exploding(sde):
        return (std if continuous else torch.round((sde.T - t) * (sde.N - 1)).long()), std
    if continuous or not hasattr(sde, "discrete_betas"):
        return t * 999, -1.0
    labels = t * (sde.N - 1)
    return labels, -std / sde.sqrt_1m_alphas_cumprod.to(t.device)[labels.long()]
