"""The losses of a network whose energies and scores can be followed by autograd."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .._schemas import NetworkLoss
from .coefficients import work_of

_OF_ENERGY = "of_energy is for the energy of a network that gives one, without kappa, z, a name and v"
Values = tuple[Tensor, Tensor | None]  # the score at x, (B, ...), and the energies, (B,), if there are any


def losses_of(
    at: Callable[[Tensor], Values], x: Tensor, args: NetworkLoss, draw: Callable[[], Tensor]
) -> Tensor:
    """The loss of each sample, (B,). draw: makes the normals that args.name names, like x."""
    if args.of_energy and (
        args.v is not None or args.z is not None or args.name is not None or args.kappa_rows is not None
    ):
        raise ValueError(f"network_loss: {_OF_ENERGY}")
    kappa = torch.as_tensor(
        args.kappa if args.kappa_rows is None else args.kappa_rows, dtype=x.dtype, device=x.device
    ).reshape(-1, 1)
    batch, dim = x.shape[0], x[:1].numel()
    z = None if args.z is None else work_of(args.z).reshape(batch, dim)
    if args.name is not None:
        z = draw().to(x.dtype).reshape(batch, dim) if z is None else z
        x = x + (kappa * z).reshape(x.shape)
    score, energy = at(x)
    weight = torch.as_tensor(
        args.weight if args.weight_rows is None else args.weight_rows, dtype=x.dtype, device=x.device
    )
    if args.of_energy:
        if energy is None:
            raise ValueError(f"network_loss: {_OF_ENERGY}")
        return energy * (weight + args.square * energy)
    score = score.reshape(batch, dim)
    residual = kappa * score if z is None else kappa * score + z
    if args.v is None:
        if args.along:
            raise ValueError("network_loss: v must be given where the loss is along it")
        return 0.5 * weight * residual.square().sum(1)
    rows, count = args.v.shape
    if count % max(dim, 1) or rows not in (1, batch):
        raise ValueError(
            f"network_loss: v must have rows of whole directions of {dim} elements, one for all or for each"
            " sample"
        )
    v = args.v.reshape(rows, count // max(dim, 1), dim).expand(batch, -1, dim)
    squares = ((score.unsqueeze(1) * v).sum(2) if args.along else residual).square().sum(1)
    slopes = [_slope_along(score, x, v[:, k]) for k in range(v.shape[1])]
    return weight * (0.5 * squares + args.trace * torch.stack(slopes).sum(0) if slopes else 0.5 * squares)


def _slope_along(score: Tensor, x: Tensor, v: Tensor) -> Tensor:
    """v . (ds/dx) v. The derivative of s along v is taken by reverse mode twice: it is the
    derivative by u of v . (u ds/dx)."""
    u = torch.zeros_like(score, requires_grad=True)
    (back,) = torch.autograd.grad(score, x, u, create_graph=True)
    (along,) = torch.autograd.grad(back, u, v.reshape(x.shape), create_graph=True)
    return (along.reshape(v.shape) * v).sum(1)
