"""Inpainting: before every evaluation of the score, the known elements are set to the data at the
current noise level."""

from __future__ import annotations

import torch
from torch import Tensor

from .._checks import check_like
from ._run import NAN, Run
from ._step_options import StepOptions


class Known:
    """Where the mask is False, x becomes ``alpha known + sigma z``.

    Args:
        known: like x; its elements where the mask is True don't matter.
    """

    def __init__(self, run: Run, known: Tensor, options: StepOptions) -> None:
        mask = options.expanded_mask(run)
        if mask is None:
            raise ValueError(
                f"{run.call}: known needs a mask that says which elements are not: True where x is to be"
                " sampled"
            )
        self.run, self.x, self.mask, self.seeds, self.ids = run, run.x, mask, run.seeds, run.ids
        self.known = check_like(run.call, "known", run.numbers("known", known), "x0", run.x)
        self.buffer = torch.empty_like(run.x)
        self.perturb = run.kernels(options.backend)["perturb"]

    def impose(self, alpha: float | Tensor, sigma: float | Tensor, name: Tensor) -> None:
        """Set the known elements. alpha and sigma are numbers, or tensors of one element on the
        device."""
        (a, a_rows), (s, s_rows) = _number(alpha), _number(sigma)
        self.perturb(self.buffer, self.known, a, s, name, a_rows, s_rows, self.seeds, self.ids)
        torch.where(self.mask, self.x, self.buffer, out=self.x)

    def of_chain(self, marginals: list[tuple[float, float]]) -> tuple[Tensor, Tensor]:
        """The arguments of a chain's op, for steps with these alphas and sigmas."""
        return self.known, self.run.table(marginals)

    def finish(self) -> None:
        """Set the known elements to the data themselves, at the end of a run."""
        torch.where(self.mask, self.x, self.known, out=self.x)


def _number(value: float | Tensor) -> tuple[float, Tensor | None]:
    return (NAN, value) if isinstance(value, Tensor) else (value, None)
