"""A sampling job in JSON: one of :mod:`pyebm.targets` and one of :mod:`pyebm.samplers`, each by its
name and its arguments. Lists of numbers become tensors."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from .. import samplers, targets
from .._checks import checked_number
from .._options import check_choice, checked_count, shown
from ..noise import Noise
from ..samplers._loop import Sampler

_TARGETS = tuple(
    name
    for name in targets.__all__
    if issubclass(getattr(targets, name), targets.Target) and not name.startswith(("MLP", "Target"))
)
_SAMPLERS = ("Langevin", "MALA", "HMC", "UnderdampedLangevin")
_DEFAULT = {"name": "MALA", "step_size": 0.1, "warmup": 500}
_KEYS = {"target", "sampler", "dim", "n_steps", "samples", "batch", "seed", "spread"}


def names_of(path: Path) -> dict[str, Any]:
    """The names that a Python file of the same job would set, and ``target``, ``samples``."""
    try:
        job = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"sample: {path} is no JSON: {error}") from None
    if not isinstance(job, dict) or "target" not in job or not job.keys() <= _KEYS:
        raise ValueError(
            f'sample: {path} must be an object with "target" and perhaps'
            f" {', '.join(sorted(_KEYS - {'target'}))}, got {shown(job)}"
        )
    target = _described(path, "target", job["target"], _TARGETS, targets)
    sampler = _described(path, "sampler", job.get("sampler", _DEFAULT), _SAMPLERS, samplers, target)
    assert isinstance(sampler, Sampler)
    dim = job.get("dim", target.dim or 2)
    samples = checked_count("sample", "samples", job.get("samples", 2000), 1)
    spread = checked_number("sample", "spread", job.get("spread", 1.0), 0.0)
    return {
        "target": target,
        "sampler": sampler,
        "shape": (checked_count("sample", "dim", dim, 1),),
        "noise": Noise(job.get("seed", 0)),
        "batch": job.get("batch", samples),
        "n_steps": job.get("n_steps", 1000),
        "samples": samples,
        "init": lambda ids, noise: spread * noise.randn((len(ids), dim)),
    }


def _described(path: Path, what: str, given: Any, known: tuple[str, ...], room: Any, *first: Any) -> Any:
    if not isinstance(given, dict) or "name" not in given:
        raise ValueError(f'sample: {path}: {what} must be an object with "name", got {shown(given)}')
    check_choice("sample", f"{what}'s name", given["name"], known)
    make: Callable[..., Any] = getattr(room, given["name"])
    arguments = {name: _value(value) for name, value in given.items() if name != "name"}
    try:
        inspect.signature(make).bind(*first, **arguments)
    except TypeError as error:
        raise TypeError(f"sample: {path}: {given['name']} can't be made of these: {error}") from None
    return make(*first, **arguments)


def _value(value: Any) -> Any:
    return torch.tensor(value, dtype=torch.float32, device="cpu") if isinstance(value, list) else value
