"""The denoising loss and its gradient."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .._arguments import entry
from .._composed import batch_sum, divisor, loss_terms, spread
from .._composed.losses import one_by_one
from .._schemas import DenoisingGrad, DenoisingLoss, LossTerms
from .noise import normals


@entry(DenoisingLoss)
def denoising_loss(args: DenoisingLoss) -> None:
    pred, reduction = args.pred, args.terms.reduction
    r, w, g = loss_terms(pred, _with_noise(pred, args.terms))
    if reduction == 0:
        args.loss.copy_(w.to(r.dtype) * (r * r))
    else:
        sums = kernel_sums(r, w)
        if reduction != 1:
            sums = batch_sum(sums) / divisor(pred.shape, reduction)
        args.loss.copy_(sums)
    if args.grad is not None and reduction != 0:
        args.grad.copy_(g.to(r.dtype) * r)


CHUNK, LANES = 1024, 16  # a kernel takes 1024 elements at once, and keeps 16 partial sums


def kernel_sums(r: Tensor, w: Tensor) -> Tensor:
    """``sum_i w r^2`` of every sample in the CPU kernels' order, with float32's rounding of squares
    and partial sums: csrc/cpu/simd/loss_kernels.h sum_of."""
    batch, elements = r.shape[0], math.prod(r.shape[1:])
    whole = w.numel() in (1, batch)
    terms = (r * r if whole else w.to(r.dtype) * (r * r)).reshape(batch, elements)
    chunks = -(-elements // CHUNK)
    rounds = CHUNK // LANES if chunks > 1 else -(-elements // LANES)
    padded = torch.nn.functional.pad(terms, (0, chunks * rounds * LANES - elements))
    lanes = one_by_one(padded.reshape(batch, chunks, rounds, LANES).movedim(2, -1))
    sums = one_by_one(one_by_one(lanes).double())
    return sums * w.reshape(-1) if whole else sums


@entry(DenoisingGrad)
def denoising_grad(args: DenoisingGrad) -> None:
    r, _, g = loss_terms(args.pred, _with_noise(args.pred, args.terms))
    args.grad.copy_((g.to(r.dtype) * r) * spread(args.grad_output, r))


def scale_(grad: Tensor, grad_output: Tensor) -> None:
    grad.mul_(spread(grad_output, grad))


def _with_noise(pred: Tensor, terms: LossTerms) -> LossTerms:
    """The terms with the normals that their name stands for."""
    if terms.z is not None or terms.name is None:
        return terms
    return terms._replace(z=normals(pred.shape, terms.name, terms.seeds, terms.ids))
