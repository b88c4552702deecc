"""Per-sample sums of squares by the loss kernel: one pass, nothing elementwise stored, a sample's sum its own to the last bit."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _ops, _schemas
from ..reference.metropolis import BLOCK, mean_of_blocks
from ._body import NAN, Number, Run

_SAMPLE = _schemas.REDUCTIONS["sample"]


class Squares:
    """Two sums over the elements of each sample, ``rows``, (B,) each; together (2, B), and in float64, by :meth:`widen`."""

    def __init__(self, run: Run, backend: str | None) -> None:
        self.kernel, self.ids = run.kernels(backend)["denoising_loss"], (run.seeds, run.ids)
        wide = torch.empty((2, *run.x.shape[:1]), dtype=torch.float64, device=run.x.device)
        self.wide, self.sums = wide, wide if run.x.dtype == torch.float64 else wide.float()
        self.rows = self.sums.unbind()

    def of(self, row: int, a: Tensor, kappa: Number, z: Tensor, lam: float, x0: Tensor | None = None) -> None:
        """``sum (kappa a + lam z + x0)^2``: kappa a number or one a sample."""
        number, rows = kappa
        self._run(row, a, number if rows is None else NAN, lam, 0.0 if x0 is None else 1.0, None, rows, z, x0)

    def norm2(self, row: int, a: Tensor) -> None:
        self._run(row, a, 1.0, 0.0, 0.0, None, None, a, None)

    def norm2_of_noise(self, row: int, name: Tensor, like: Tensor) -> None:
        """Of the normals that name stands for, which are made in the kernel and nowhere kept."""
        self._run(row, like, 0.0, 1.0, 0.0, name, None, None, None)

    def widen(self) -> Tensor:
        return self.wide if self.sums is self.wide else self.wide.copy_(self.sums)

    def _run(
        self,
        row: int,
        a: Tensor,
        kappa: float,
        lam: float,
        mu: float,
        name: Tensor | None,
        rows: Tensor | None,
        z: Tensor | None,
        x0: Tensor | None,
    ) -> None:
        head = (self.rows[row], None, a, kappa, lam, mu, 1.0, 1.0, False, _SAMPLE, name)
        _ops.call(self.kernel, head, (rows, None, None, None, z, x0, *self.ids))


class Mean:
    """``reference.metropolis.mean`` of ``rows`` times one number a sample, without its copy. Write the numbers to ``values``,
    (rows, B) in float64, then call it: (rows,)."""

    def __init__(self, run: Run, rows: int) -> None:
        self.count = run.x.shape[0]
        self.blocks = torch.zeros((rows, -(-self.count // BLOCK), BLOCK), dtype=torch.float64, device=run.x.device)
        self.values = self.blocks.flatten(1).narrow(1, 0, self.count)

    def __call__(self) -> Tensor:
        return mean_of_blocks(self.blocks, self.count)
