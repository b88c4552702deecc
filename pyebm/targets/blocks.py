"""Wirings of a network's layers that the kernels take, and that a plain nn.Sequential lacks."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Residual(nn.Sequential):
    """``x + f(x)``, where f is the modules in their order.

    :class:`MLPEnergy` and :class:`MLPScore` take it with one Linear of as many outputs as inputs,
    and its activation. Raises RuntimeError, as torch does, where f changes the width.

    Example:
        >>> import torch, pyebm
        >>> block = pyebm.targets.Residual(torch.nn.Linear(8, 8), torch.nn.SiLU())
        >>> x = torch.randn(3, 8)
        >>> torch.equal(block(x), x + torch.nn.functional.silu(block[0](x)))
        True
    """

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for module in self:
            h = module(h)
        return x + h


class InputSkip(nn.Sequential):
    """Modules in their order, where every Linear but the first also sees the input: it gets
    ``[h; x]``, where h is the output of the layer before. Raises RuntimeError, as torch does, for a
    Linear of another width.

    Example:
        >>> import torch, pyebm
        >>> from torch import nn
        >>> net = pyebm.targets.InputSkip(
        ...     nn.Linear(2, 64), nn.SiLU(), nn.Linear(64 + 2, 64), nn.SiLU(), nn.Linear(64 + 2, 1)
        ... )
        >>> net(torch.randn(5, 2)).shape
        torch.Size([5, 1])
    """

    def forward(self, x: Tensor) -> Tensor:
        h, first = x, True
        for module in self:
            linear = isinstance(module, nn.Linear)
            h = module(torch.cat((h, x), -1) if linear and not first else h)
            first = first and not linear
        return h
