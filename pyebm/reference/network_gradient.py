"""Gradients of functions of a network's energies and scores, by autograd through the reference's
evaluation. The kernels must agree with them within a bound."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .._arguments import entry
from .._composed import losses_of, network_score_of, work_of
from .._composed.network_loss import Values
from .._modes import in_mode
from .._schemas import NetworkGrad, NetworkLoss
from .noise import normals


@entry(NetworkGrad)
def network_grad(args: NetworkGrad) -> None:
    if args.energy_above is None and args.score_above is None:
        raise ValueError("network_grad: energy_above or score_above must be given")

    def total(at: Callable[[Tensor], Values], x: Tensor) -> Tensor:
        score, energy = at(x)
        sums = []
        if args.energy_above is not None:
            if energy is None:
                raise ValueError("network_grad: a network that gives scores has no energy")
            sums.append((args.energy_above * energy).sum())
        if args.score_above is not None:
            sums.append((work_of(args.score_above) * score).sum())
        return torch.stack(sums).sum()

    _differentiate("network_grad", args, total)


@entry(NetworkLoss)
def network_loss(args: NetworkLoss) -> None:
    def draw() -> Tensor:
        assert args.name is not None
        return normals(args.x.shape, args.name, args.seeds, args.ids)

    def total(at: Callable[[Tensor], Values], x: Tensor) -> Tensor:
        losses = losses_of(at, x, args, draw)
        value = losses if args.loss.numel() == len(x) and args.loss.dim() else losses.double().sum()
        args.loss.copy_(value.detach().reshape(args.loss.shape))
        return losses.sum()

    _differentiate("network_loss", args, total)


def _differentiate(op: str, args: NetworkGrad | NetworkLoss, total: Callable[..., Tensor]) -> None:
    """Write the derivatives of total(the network, x) by the tensors whose gradients are wanted."""
    if args.grad is not None and args.grad.shape != args.params.shape:
        raise ValueError(
            f"{op}: grad must have {args.params.numel()} numbers, as params, got {args.grad.numel()}"
        )
    if args.grad_biases is not None and (args.biases is None or args.grad_biases.shape != args.biases.shape):
        raise ValueError(f"{op}: grad_biases must have the shape of biases")
    if args.grad is None and args.grad_biases is not None and len(args.grad_biases) != len(args.x):
        raise ValueError(f"{op}: grad must be given where grad_biases is, unless each sample has its own")

    def differentiate() -> Sequence[Tensor]:
        x, params = work_of(args.x).clone().requires_grad_(), args.params.clone().requires_grad_()
        biases = None if args.biases is None else args.biases.clone().requires_grad_()
        value = total(lambda at: network_score_of(at, args.layout, params, biases), x)
        if args.grad is None and args.grad_x is None and args.grad_biases is None:
            return ()
        leaves = [params, x] if biases is None else [params, x, biases]
        return torch.autograd.grad(value, leaves, materialize_grads=True)

    found = in_mode(differentiate, grad=True)
    if args.grad is not None:
        args.grad.copy_(found[0])
    if args.grad_x is not None:
        args.grad_x.copy_(found[1])
    if args.grad_biases is not None:
        args.grad_biases.copy_(found[2])
