"""The classes for torchebm share this: their noise, and its place behind a generator that a call is
given."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

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

    def _apply_cfg_dropout(self, model_kwargs: Any, generator: torch.Generator | None) -> Any:
        with self._naming(generator):
            return super()._apply_cfg_dropout(model_kwargs, generator)  # type: ignore[misc]
