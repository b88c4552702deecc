"""The denoising loss, from normals that the caller has."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .._schemas import LossTerms
from .coefficients import column, require, require_finite, work_of


def residual(pred: Tensor, z: Tensor, x0: Tensor | None, kappa: Tensor, lam: Tensor, mu: Tensor) -> Tensor:
    """(kappa pred + lam z) + mu x0."""
    r = kappa * pred + lam * z
    return r if x0 is None else r + mu * x0


def loss_terms(pred: Tensor, terms: LossTerms) -> tuple[Tensor, Tensor, Tensor]:
    """(residual, loss weight, gradient coefficient); the last two are float64, in a shape that
    broadcasts to the residual."""
    p = work_of(pred)
    k, la = column(terms.kappa, terms.kappa_rows, pred), column(terms.lam, terms.lam_rows, pred)
    m, w = column(terms.mu, terms.mu_rows, pred), column(terms.weight, terms.weight_rows, pred)
    if terms.over_kappa2 or terms.kappa_positive:
        require("dsm_loss", "sigma", k, positive=terms.over_kappa2)
    require_finite(
        "denoising_loss",
        kappa=terms.kappa_rows,
        lam=terms.lam_rows,
        mu=terms.mu_rows,
        weight=terms.weight_rows,
    )
    if terms.over_kappa2:
        w = w / (k * k)
    w = terms.factor * w
    if terms.z is None:
        raise ValueError("noise: a name must be given where there is no noise tensor")
    x0 = None if terms.x0 is None else terms.x0.to(p.dtype)
    r = residual(p, terms.z.to(p.dtype), x0, k.to(p.dtype), la.to(p.dtype), m.to(p.dtype))
    return r, w, ((2.0 * w) * k) * (1.0 / max(divisor(pred.shape, terms.reduction), 1))


def divisor(shape: torch.Size, reduction: int) -> int:
    """The number that the reduction of a loss of this shape divides the sum by: 1, the number of
    elements (mean) or of samples (batchmean)."""
    return math.prod(shape) if reduction == 3 else shape[0] if reduction == 4 else 1


def reduced(pred: Tensor, reduction: int, r: Tensor, w: Tensor) -> Tensor:
    """The loss, from the residual and its weight; differentiable."""
    if reduction == 0:
        return w.to(r.dtype) * (r * r)
    sums = sample_sums(r, w)
    return sums if reduction == 1 else sums.sum() / divisor(pred.shape, reduction)


def composed_loss(pred: Tensor, terms: LossTerms) -> Tensor:
    """The loss from operations that autograd, forward mode and vmap can follow, in the dtype of the
    op's loss."""
    r, w, _ = loss_terms(pred, terms)
    return reduced(pred, terms.reduction, r, w).to(r.dtype)


def sample_sums(r: Tensor, w: Tensor) -> Tensor:
    """``sum_i w r^2`` of every sample, (B,), in float64."""
    batch, elements = r.shape[0], math.prod(r.shape[1:])
    squares = r.double() ** 2
    if w.numel() in (1, batch):
        return squares.reshape(batch, elements).sum(1) * w.reshape(-1)
    return (w * squares).reshape(batch, elements).sum(1)


def batch_sum(losses: Tensor) -> Tensor:
    """The sum of (B,) losses in the CPU kernels' order: each block of 64 is summed in eight lanes,
    and the blocks are added one after another. A fixed order gives the same bits for any number of
    threads and any cut; lanes are fast, since they don't wait for each other."""
    blocks = torch.nn.functional.pad(losses, (0, -losses.shape[0] % 64)).reshape(-1, 8, 8)
    lanes = one_by_one(blocks.movedim(1, -1))
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    return lanes.flatten().cumsum(0)[-1] if losses.shape[0] else losses.sum()


def one_by_one(values: Tensor) -> Tensor:
    """The sum over the last dimension, added one number after another."""
    total = values.new_zeros(values.shape[:-1])
    for each in values.unbind(-1):
        total = total + each
    return total


def spread(grad_output: Tensor, r: Tensor) -> Tensor:
    """grad_output in a shape that broadcasts to r. It has one number for a loss of shape (), one
    per sample for (B,), one per element for an elementwise loss."""
    g = grad_output.to(r.dtype)
    return g if g.shape == r.shape else g.reshape(-1, *[1] * (r.dim() - 1))
