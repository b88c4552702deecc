"""Ways to wire the layers of a network that a plain nn.Sequential does not have, and that the
kernels take."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Residual(nn.Sequential):
    """``x + f(x)``, f being the modules in their order.

    :class:`MLPEnergy` and :class:`MLPScore` take one Linear of as many outputs as inputs, and its
    activation.

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
    """Modules in their order, where every Linear but the first sees the input once more: it gets
    ``[h; x]``, h the layer before.

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
