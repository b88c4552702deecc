"""The classes for torchebm share this: their noise, and its place behind a generator that a call is
given."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from .._checks import check_samples, check_tensor
from ._draws import Draws, Source
from ._named_draws import NamedDraws
from ._saved import Saved


class Named(Saved):
    """An object with ``noise``, whose draws may be named in their order."""

    def __init__(self, *args: Any, noise: Source = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._draws = Draws(noise)

    def _naming(self, generator: torch.Generator | None) -> AbstractContextManager[Any]:
        return nullcontext() if generator is not None else NamedDraws(self._draws)


class NamedLoss(Named):
    """A loss, which may drop labels at random."""

    device: Any
    dtype: Any

    def _data(self, name: str, x: Any) -> Tensor:
        """The samples on the loss's device, in its dtype."""
        call = type(self).__name__
        check_tensor(call, name, x)
        if x.is_meta and torch.device(self.device).type != "meta":
            raise ValueError(f"{call}: {name} must hold numbers, got a tensor on meta")
        if x.dtype is torch.bool:
            raise TypeError(f"{call}: {name} must hold real numbers, got {x.dtype}")
        moved: Tensor = x.to(device=self.device, dtype=self.dtype)
        check_samples(call, name, moved)
        return moved

    def _apply_cfg_dropout(self, model_kwargs: Any, generator: torch.Generator | None) -> Any:
        with self._naming(generator):
            return super()._apply_cfg_dropout(model_kwargs, generator)  # type: ignore[misc]
