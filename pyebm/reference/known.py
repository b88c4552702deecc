"""The known elements of a chain, which follow data at the noise level of each step."""

from __future__ import annotations

import torch
from torch import Tensor

from .._composed.perturb import check_known
from .perturb import perturb


class Known:
    """The arguments ``known`` and ``marginals`` of a chain's op."""

    known: Tensor
    marginals: Tensor
    mask: Tensor
    name: Tensor | None
    rest: list[Tensor | None]

    def __init__(
        self,
        op: str,
        n_steps: int,
        known: Tensor,
        marginals: Tensor | None,
        mask: Tensor | None,
        *named: Tensor | None,
    ) -> None:
        check_known(op, n_steps, known, marginals, mask)
        assert marginals is not None
        assert mask is not None
        self.known, self.marginals, self.mask, (self.name, *self.rest) = known, marginals, mask, named

    def impose(self, x: Tensor, k: int, stream: int) -> None:
        """Set the known elements of x for a score in step k, with noise of this stream."""
        assert self.name is not None
        alpha, sigma = self.marginals[k].tolist()
        name = self.name + torch.tensor([0, 0, k, stream], device=self.name.device)
        made = torch.empty_like(x)
        perturb(made, self.known, alpha, sigma, name, None, None, *self.rest)
        x.copy_(torch.where(self.mask, x, made))
