"""A quick look whether tensors differ from an earlier call's in anything but their values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C import _functorch

from ._kept import readable

# Torch's own compiled comparison, which its compiler uses; a torch that lacks it costs time only.
_Guards: Any = getattr(getattr(torch._C._dynamo, "guards", None), "TensorGuards", None)


class Guard:
    """Remembers tensors' types, dispatch keys, dtypes, devices, shapes, strides, and whether they
    require a gradient. A look at six tensors takes half a microsecond, a fifth of the time that
    their attributes take.

    The comparison fails for tensors that are the same, and under a mode or a transform that was not
    active when the guard was made. A caller then has to look at the attributes.
    """

    def __init__(self, tensors: Sequence[Tensor | None]) -> None:
        self._check: Any = None
        self.whole = False
        """Whether these tensors may be read from their memory as they lie: they are plain, on the
        CPU and contiguous, and torch keeps no minus sign beside it."""
        present = [tensor for tensor in tensors if tensor is not None]
        self._absent = _absent(tensors) if len(present) < len(tensors) else None
        if _Guards is None or not readable(present):
            return
        self._check = _Guards(*present, dynamic_dims_sizes=[], dynamic_dims_strides=[]).check
        self.whole = not any(
            not tensor.is_contiguous() or tensor.is_neg() or _functorch.is_functorch_wrapped_tensor(tensor)
            for tensor in present
        )

    def passes(self, tensors: Sequence[Tensor | None]) -> bool:
        """Whether the tensors are as the guard's own were; False where it can't tell."""
        if self._absent is not None:
            if _absent(tensors) != self._absent:
                return False
            tensors = [tensor for tensor in tensors if tensor is not None]
        return self._check is not None and bool(self._check(*tensors))


def _absent(tensors: Sequence[Tensor | None]) -> list[bool]:
    return [tensor is None for tensor in tensors]
