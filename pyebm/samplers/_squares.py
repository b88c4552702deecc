"""Per-sample sums of squares by the loss kernel: one pass, nothing elementwise stored, a sample's sum its own to the last bit."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _ops
from ._body import NAN, Number, Run

_BLOCK = 1024
_SAMPLE = _ops.REDUCTIONS["sample"]


class Squares:
    """``sum (kappa a + lam z + mu x0)^2`` over the elements of each sample, (B,), in float64."""

    def __init__(self, run: Run, backend: str | None) -> None:
        self.kernel, self.seeds, self.ids = run.kernels(backend)["denoising_loss"], run.seeds, run.ids
        self.dtype = torch.float64 if run.x.dtype == torch.float64 else torch.float32

    def of(self, a: Tensor, kappa: Number, z: Tensor, lam: float, x0: Tensor | None = None) -> Tensor:
        """``kappa a + lam z + x0``: kappa a number or one a sample."""
        number, rows = kappa
        return self._run(a, number, lam, 0.0 if x0 is None else 1.0, None, rows, z, x0)

    def norm2(self, a: Tensor) -> Tensor:
        return self._run(a, 1.0, 0.0, 0.0, None, None, a, None)

    def norm2_of_noise(self, name: Tensor, like: Tensor) -> Tensor:
        """Of the normals that name stands for, which are made in the kernel and nowhere kept."""
        return self._run(like, 0.0, 1.0, 0.0, name, None, None, None)

    def _run(
        self,
        a: Tensor,
        kappa: float,
        lam: float,
        mu: float,
        name: Tensor | None,
        rows: Tensor | None,
        z: Tensor | None,
        x0: Tensor | None,
    ) -> Tensor:
        out = torch.empty(a.shape[:1], dtype=self.dtype, device=a.device)
        head = (out, None, a, NAN if rows is not None else kappa, lam, mu, 1.0, 1.0, False, _SAMPLE, name)
        self.kernel(*head, rows, None, None, None, z, x0, self.seeds, self.ids)
        return out.double()


def mean(values: Tensor) -> Tensor:
    """Of one number a sample, in blocks of fixed size: the bits of torch's own depend on the threads beyond 32,768 numbers."""
    count = values.shape[0]
    return torch.nn.functional.pad(values, (0, -count % _BLOCK)).reshape(-1, _BLOCK).sum(1).sum() / count
