"""Per-sample sums of squares by the loss kernel, in one pass that stores nothing elementwise. A
sample's sum depends on that sample alone, to the last bit."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _ops, _schemas
from ._run import NAN, Number, Run

_SAMPLE = _schemas.REDUCTIONS["sample"]


class Squares:
    """Two sums over the elements of each sample, ``rows``, (B,) each."""

    def __init__(self, run: Run, backend: str | None) -> None:
        self.kernel, self.ids = run.kernels(backend)["denoising_loss"], (run.seeds, run.ids)
        dtype = torch.float64 if run.x.dtype == torch.float64 else torch.float32
        self.rows = torch.empty((2, *run.x.shape[:1]), dtype=dtype, device=run.x.device).unbind()

    def of(self, row: int, a: Tensor, kappa: Number, z: Tensor, lam: float, x0: Tensor | None = None) -> None:
        """Write each sample's ``sum (kappa a + lam z + x0)^2`` to ``rows[row]``; kappa is one
        number or one per sample."""
        number, rows = kappa
        mu = 0.0 if x0 is None else 1.0
        head = (
            self.rows[row],
            None,
            a,
            number if rows is None else NAN,
            lam,
            mu,
            1.0,
            1.0,
            False,
            _SAMPLE,
            None,
        )
        _ops.call(self.kernel, head, (rows, None, None, None, z, x0, *self.ids))
