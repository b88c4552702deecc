"""Gradients of functions of a network's energies and scores, by autograd through the reference's
evaluation. The kernels must agree with them within a bound."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .._arguments import entry
from .._modes import in_mode
from .._schemas import NetworkGrad, NetworkLoss
from .coefficients import work_of
from .network import network_score_of

_Values = tuple[Tensor, Tensor | None]


@entry(NetworkGrad)
def network_grad(args: NetworkGrad) -> None:
    if args.energy_above is None and args.score_above is None:
        raise ValueError("network_grad: energy_above or score_above must be given")

    def total(at: Callable[[Tensor], _Values], x: Tensor) -> Tensor:
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
    def total(at: Callable[[Tensor], _Values], x: Tensor) -> Tensor:
        losses = losses_of(at, x, args)
        value = losses if args.loss.numel() == len(x) and args.loss.dim() else losses.double().sum()
        args.loss.copy_(value.detach().reshape(args.loss.shape))
        return losses.sum()

    _differentiate("network_loss", args, total)


def losses_of(at: Callable[[Tensor], _Values], x: Tensor, args: NetworkLoss) -> Tensor:
    """The loss of each sample, (B,)."""
    score, energy = at(x)
    weight = torch.as_tensor(
        args.weight if args.weight_rows is None else args.weight_rows, dtype=x.dtype, device=x.device
    )
    if args.of_energy:
        if energy is None or args.v is not None or args.z is not None or args.kappa_rows is not None:
            raise ValueError(
                "network_loss: of_energy is for the energy of a network that gives one, without kappa, z"
                " and v"
            )
        return energy * (weight + args.square * energy)
    batch, dim = x.shape[0], x[:1].numel()
    score = score.reshape(batch, dim)
    kappa = torch.as_tensor(
        args.kappa if args.kappa_rows is None else args.kappa_rows, dtype=x.dtype, device=x.device
    ).reshape(-1, 1)
    if args.v is None:
        if args.along:
            raise ValueError("network_loss: v must be given where the loss is along it")
        residual = kappa * score if args.z is None else kappa * score + work_of(args.z).reshape(batch, dim)
        return 0.5 * weight * residual.square().sum(1)
    rows, count = args.v.shape
    if count % max(dim, 1) or rows not in (1, batch):
        raise ValueError(
            f"network_loss: v must have rows of whole directions of {dim} elements, one for all or for each"
            " sample"
        )
    v = args.v.reshape(rows, count // max(dim, 1), dim).expand(batch, -1, dim)
    if args.along:
        squares = (score.unsqueeze(1) * v).sum(2).square().sum(1)
    else:
        squares = (
            (kappa * score if args.z is None else kappa * score + work_of(args.z).reshape(batch, dim))
            .square()
            .sum(1)
        )
    slopes = [_slope_along(score, x, v[:, k]) for k in range(v.shape[1])]
    return weight * (0.5 * squares + args.trace * torch.stack(slopes).sum(0) if slopes else 0.5 * squares)


def _slope_along(score: Tensor, x: Tensor, v: Tensor) -> Tensor:
    """v . (ds/dx) v. The derivative of s along v is taken by reverse mode twice: it is the
    derivative by u of v . (u ds/dx)."""
    u = torch.zeros_like(score, requires_grad=True)
    (back,) = torch.autograd.grad(score, x, u, create_graph=True)
    (along,) = torch.autograd.grad(back, u, v.reshape(x.shape), create_graph=True)
    return (along.reshape(v.shape) * v).sum(1)


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
