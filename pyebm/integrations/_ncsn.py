"""The repositories built like ncsn share this: the checks of their arguments."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._checks import check_samples, check_tensor, checked_list, checked_number
from .._name import readable
from .._options import shown
from ._fits import checked_scale


def check_images(call: str, name: str, images: Tensor) -> int:
    """Checks that the numbers of the samples can be copied to the CPU; returns how many samples
    there are."""
    batch = check_samples(call, name, images)
    if images.is_meta:
        raise ValueError(f"{call}: {name} must hold numbers, got a tensor on meta")
    return batch


def check_levels(call: str, sigmas: Any, samples: Tensor) -> None:
    """Checks the noise levels that labels choose from: a tensor beside the samples."""
    check_tensor(call, "sigmas", sigmas)
    if sigmas.dim() != 1 or not len(sigmas):
        raise ValueError(f"{call}: sigmas must be one noise level or more, (L,), got {shown(sigmas)}")
    if sigmas.device != samples.device:
        raise ValueError(
            f"{call}: sigmas must be on the device of samples, {samples.device}, got {sigmas.device}"
        )
    checked_scale(call, "sigmas", sigmas, open_low=True)


def check_labels(call: str, labels: Any, batch: int, count: int) -> None:
    """Checks that there is one level per sample. On a GPU their range is not checked here: an index
    out of range stops the process when it is used."""
    if (
        not isinstance(labels, Tensor)
        or labels.dtype not in (torch.int64, torch.int32)
        or labels.is_nested
        or labels.shape != (batch,)
    ):
        raise TypeError(
            f"{call}: labels must be int64 or int32, the level of each of {batch} samples, got"
            f" {shown(labels)}"
        )
    if (
        readable(labels)
        and labels.is_cpu
        and batch
        and not (int(labels.min()) >= 0 and int(labels.max()) < count)
    ):
        raise ValueError(
            f"{call}: labels must be in [0, {count}), got {int(labels.min())} to {int(labels.max())}"
        )


def levels_of(call: str, sigmas: Any) -> list[Any]:
    """The noise levels in the number type that they were given in, since ncsnv2 computes its step
    sizes in that type, and prints them."""
    checked = [
        checked_number(call, "sigmas", sigma, 0.0, open_low=True)
        for sigma in checked_list(call, "sigmas", sigmas)
    ]
    if not checked:
        raise ValueError(f"{call}: sigmas must be one noise level or more, got none")
    return list(sigmas.cpu() if isinstance(sigmas, Tensor) else sigmas)
