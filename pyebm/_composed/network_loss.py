"""The losses of a network whose energies and scores can be followed by autograd."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .._schemas import NetworkLoss
from .coefficients import work_of

Values = tuple[Tensor, Tensor | None]  # the score at x, (B, ...), and the energies, (B,), if there are any


def losses_of(at: Callable[[Tensor], Values], x: Tensor, args: NetworkLoss) -> Tensor:
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
