"""The schedulers share this: their noise has a name, and they are saved as diffusers' own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..._checks import check_samples
from ..._options import shown
from ...noise import Noise
from .._draws import Draws, Normals, Source
from .._fits import broadcast, fitted
from .._packages import require
from .._saved import Saved

require("diffusers")
from diffusers.utils.torch_utils import randn_tensor  # noqa: E402

Generator = torch.Generator | list[torch.Generator] | Noise | Tensor | None


class Named(Saved):
    """A scheduler whose noise has a name.

    ``scheduler.noise = pyebm.Noise(0)``: the k-th step taken with ``generator=None`` uses that
    Noise's step + k. The count goes on through all runs until the noise is set again, so two runs
    never share their numbers. If it is not set, each step draws a seed from torch's default
    generator, so that torch.manual_seed governs a run. A generator that a step is given takes
    precedence, as everywhere in diffusers: one, or a list with one per sample, gives the numbers
    that it gives their schedulers; a Noise or a tensor of normals in its place is used as it is.
    """

    _draws: Draws | None = None

    def __new__(cls, *_: Any, **__: Any) -> Any:
        scheduler = super().__new__(cls)
        # A pipeline saves its scheduler's module and looks there when it is loaded. It finds
        # diffusers' own class there, whether pyebm is installed or not.
        if cls.__module__.startswith("pyebm."):
            scheduler.__module__ = "diffusers"
        return scheduler

    @property
    def noise(self) -> Draws | Source:
        return None if self._draws is None else self._draws.source

    @noise.setter
    def noise(self, source: Source) -> None:
        self._draws = Draws(source)

    def _normals(self, generator: Generator, like: Tensor, dtype: torch.dtype | None = None) -> Normals:
        """The next normals; those of a generator in ``dtype``, or in like's."""
        if isinstance(generator, (Noise, Tensor)):
            return generator
        if generator is None:
            if self._draws is None:
                self._draws = Draws()
            drawn: Normals = self._draws(like)
            return drawn
        normals: Tensor = randn_tensor(
            like.shape, generator=generator, device=like.device, dtype=dtype or like.dtype
        )
        return normals


def check_step(call: str, model_output: Tensor, sample: Tensor, generator: Generator) -> None:
    check_samples(call, "sample", sample)
    check_samples(call, "model_output", model_output)
    if sample.is_meta:
        raise ValueError(f"{call}: sample must hold numbers, got a tensor on meta")
    if model_output.device != sample.device:
        raise ValueError(
            f"{call}: model_output must be on the device of sample, {sample.device}, got"
            f" {model_output.device}"
        )
    shape = broadcast(call, "model_output", model_output, sample, "sample")
    if isinstance(generator, Tensor):
        fitted(call, generator, sample.expand(shape), "generator")
        return
    listed = generator if isinstance(generator, list) and generator else [generator]
    if not all(one is None or isinstance(one, (torch.Generator, Noise)) for one in listed):
        raise TypeError(
            f"{call}: generator must be one or more torch.Generators, a Noise or a tensor, got"
            f" {shown(generator)}"
        )
