"""A target's parameters: checked numbers, held as buffers or as what a caller learns."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .._checks import check_tensor
from .._options import as_float
from ._kept import traced


class Parameters(nn.Module):
    """The part of a target that registers parameters and reads them."""

    def _register(
        self,
        name: str,
        value: float | Tensor,
        check: Callable[[Any], Any] | None = None,
        must: str = "be finite",
        *,
        dims: int = 0,
        like: object = None,
    ) -> None:
        """Register ``value`` as the parameter or float64 buffer ``name``. All its numbers must be
        finite and pass the check, if one is given.

        dims: the numbers of dimensions that a tensor may have. like: if it is a tensor, a number
        goes to its device.
        """
        own = type(self).__name__
        if isinstance(value, Tensor):
            check_tensor(own, name, value)
            if isinstance(like, Tensor) and like.device != value.device:
                raise ValueError(
                    f"{own}: {name} must be on the device of the other tensors, {like.device}, got"
                    f" {value.device}"
                )
            if value.dim() > dims:
                shape = ("()", "(D,)", "(M, D)")[dims]
                raise ValueError(
                    f"{own}: {name} must be a number or a tensor {shape}, got shape {tuple(value.shape)}"
                )
            self._check_values(name, value, check, must)
            self._hold(name, value)
        elif isinstance(
            value, numbers.Real
        ):  # checked without a tensor, so that targets can be made in compiled code
            number = as_float(value)
            if not math.isfinite(number) or (check is not None and not check(number)):
                raise ValueError(f"{own}: {name} must {must}, got {number:g}")
            device = like.device if isinstance(like, Tensor) else None
            self.register_buffer(name, torch.tensor(number, dtype=torch.float64, device=device))
        else:
            raise TypeError(f"{own}: {name} must be a number or a tensor, got {type(value).__name__}")

    def _check_values(
        self, name: str, value: Tensor, check: Callable[[Any], Any] | None = None, must: str = "be finite"
    ) -> None:
        check_tensor(type(self).__name__, name, value)
        if value.is_meta:
            return
        found = value.detach()  # no copy, since a mixture's means may be large
        bad = ~(found.isfinite() if check is None else found.isfinite() & check(found))
        if bad.any():
            raise ValueError(
                f"{type(self).__name__}: {name} must {must}, got {float(found[bad].flatten()[0]):g}"
            )

    def _hold(self, name: str, value: Tensor, dtype: torch.dtype = torch.float64) -> None:
        """Store ``value`` under the name. A Parameter, or another tensor with a derivative, is kept
        itself; any other tensor is copied."""
        if isinstance(value, nn.Parameter):
            self.register_parameter(name, value)
        else:
            self.register_buffer(
                name, value if traced(value) else value.detach().to(dtype, copy=True).contiguous()
            )

    def _wide(self, name: str) -> Tensor:
        """The parameter or buffer of this name in float64."""
        value: Tensor = getattr(self, name)
        return value.double()

    def _own(self) -> list[tuple[str, Tensor]]:
        """The parameters and buffers by name."""
        return [*self.named_parameters(), *self.named_buffers()]

    def _tensors(self) -> list[Tensor]:
        """All parameters and buffers. A target without submodules is read without torch's walk over
        modules, which takes longer than a small kernel."""
        if self._modules:
            return [*self.parameters(), *self.buffers()]
        own = (
            [*self._parameters.values(), *self._buffers.values()]
            if self._parameters
            else self._buffers.values()
        )
        return [tensor for tensor in own if tensor is not None]


def positive(value: Any) -> Any:
    """Whether a number, or each number of a tensor, is > 0."""
    return value > 0
