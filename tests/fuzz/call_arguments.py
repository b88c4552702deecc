"""Random arguments of public calls: noise, coefficients, clamps, masks."""

from __future__ import annotations

import math
import random
from typing import Any

import torch
from guarded import FLOATS, Arena, values
from torch import Tensor

from pyebm import Noise


def noise_of(rng: random.Random, batch: int) -> Noise:
    step = rng.choice((0, 0, 1, rng.randrange(2**32), 2**32 - rng.randint(1, 20)))
    stream = rng.choice((0, 0, rng.randrange(2**32)))
    seed: Any = rng.choice((0, rng.randrange(2**64), -(2**63), 2**64 - 1))
    kind = rng.random()
    listed = batch if rng.random() < 0.95 else batch + 1
    draw = torch.Generator().manual_seed(rng.getrandbits(60))
    if kind < 0.2:
        seed = torch.randint(-(2**63), 2**63 - 1, (listed,), generator=draw)
    if kind > 0.1 and kind < 0.3:
        return Noise(
            seed, sample_ids=torch.randint(0, 2**32, (listed,), generator=draw), step=step, stream=stream
        )
    first = rng.choice((0, 0, rng.randrange(2**32), 2**32 - max(batch, 1), 2**32 - 1)) if kind > 0.3 else 0
    return Noise(seed, first_sample=first, step=step, stream=stream)


def coefficient(rng: random.Random, arena: Arena, name: str, x: Tensor, low: float = -math.inf) -> Any:
    """A number or a tensor, in any shape that a coefficient may have; now and then in one that
    is refused."""

    def drawn() -> float:
        value = rng.choice((0.1, 0.5, 1.0, 1e-3, 3.0, rng.uniform(0.01, 2)))
        return -value if low == -math.inf and rng.random() < 0.3 else value

    spoilt = rng.random() < 0.05
    if rng.random() < 0.4:
        return (
            rng.choice((math.nan, math.inf, -1.0, 0.0, 10**400, "1", None, True, 1 + 0j))
            if spoilt
            else drawn()
        )
    batch, rest = x.shape[0], x.dim() - 1
    leading = tuple(n if rng.random() < 0.7 else 1 for n in x.shape[: rng.randint(1, x.dim())])
    shapes = (
        (),
        (1,),
        (batch,),
        (batch, *[1] * rest),
        (*leading, *[1] * (x.dim() - len(leading))),
        tuple(x.shape),
    )
    shape = rng.choice(shapes)
    if spoilt and rng.random() < 0.5:
        shape = (*shape, 2) if rng.random() < 0.5 else (batch + 1,)
    made = values(rng, shape, torch.float64, special=False).abs().clamp(0.001, 5)
    if low == -math.inf:
        made = values(rng, shape, torch.float64, special=False)
    if spoilt and made.numel():
        made.view(-1)[rng.randrange(made.numel())] = rng.choice((math.nan, math.inf, -1.0, 0.0))
    return arena.place(name, made.to(rng.choice(FLOATS)))


def narrower(rng: random.Random, dtype: torch.dtype) -> torch.dtype:
    """Returns x's own dtype; sometimes another, which the call widens or refuses."""
    return dtype if rng.random() < 0.85 else rng.choice(FLOATS)


def clamp_of(rng: random.Random) -> Any:
    return rng.choice(
        (None, None, (-1.0, 1.0), (None, 0.5), (-0.5, None), (0.0, 0.0), (1.0, -1.0), (-math.inf, math.nan))
    )


def mask_of(rng: random.Random, arena: Arena, x: Tensor) -> Tensor | None:
    if rng.random() < 0.6:
        return None
    shape = tuple(n if rng.random() < 0.7 else 1 for n in x.shape)[rng.choice((0, 0, 0, 1)) :]
    return arena.place("mask", values(rng, shape, special=False) > 0)
