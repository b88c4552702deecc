"""The public calls of pyebm.distributed, in one process."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from hostile import count, flag, number, optional, refused, samples
from public_calls import NOISE, Call, x
from public_samplers import drawn

from pyebm import distributed
from pyebm.samplers import Langevin, State


def sampled(**given: Any) -> list[bytes]:
    """Returns the bytes of the files."""
    with tempfile.TemporaryDirectory() as out:
        distributed.sample(out=out, **given)
        return [path.read_bytes() for path in sorted(Path(out).glob("samples-*"))]


def empty_list(value: Any) -> list[Any]:
    return [value] if isinstance(value, list) and not value else []


def chains(value: Any) -> list[Any]:
    return samples(value) if isinstance(value, torch.Tensor) and value.dim() > 1 else []


def saved(**given: Any) -> torch.Tensor:
    with tempfile.TemporaryDirectory() as folder:
        distributed.save_state(**({"folder": folder} | given))
        return distributed.load_state(folder).x


def loaded(**given: Any) -> torch.Tensor:
    with tempfile.TemporaryDirectory() as folder:
        distributed.save_state(State(x(), NOISE), folder)
        return distributed.load_state(**({"folder": folder} | given)).x


CALLS: dict[str, Call] = {
    "distributed.sample": Call(
        sampled,
        lambda: {
            "sampler": Langevin(torch.neg, 0.1),
            "shape": (2,),
            "ids": range(3),
            "noise": NOISE,
            "batch": 2,
            "n_steps": 2,
        },
        {
            "sampler": refused,
            "shape": empty_list,
            "ids": refused,
            "noise": lambda value: [] if isinstance(value, torch.Generator) else drawn(value),
            "batch": count(1),
            "n_steps": count(),
            "init": optional,
            "format": refused,
            "any_batch": flag,
            "save_every": number(0, infinite=True, tensors=True, integers=True),
            "progress": flag,
        },
    ),
    "distributed.noise_for": Call(
        lambda **given: (torch.manual_seed(0), distributed.noise_for(**given)),
        lambda: {"indices": [4, 2], "noise": NOISE},
        {
            "indices": empty_list,
            "noise": lambda value: [None] if value is None else drawn(value),
            "check": flag,
        },
    ),
    "distributed.gather_chains": Call(
        distributed.gather_chains,
        lambda: {"states": x().reshape(3, 4, 1)},
        {"states": chains, "dim": count(-3, 2)},
    ),
    "distributed.share": Call(distributed.share, lambda: {"count": 7}, {"count": count()}),
    "distributed.save_state": Call(saved, lambda: {"state": State(x(), NOISE)}, {"state": refused}),
    "distributed.load_state": Call(loaded, dict, {"device": optional}),
}
