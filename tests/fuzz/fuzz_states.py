"""Saved states that somebody spoilt: each is refused in words, or taken for what it says."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import torch
from outcomes import REFUSALS, is_named
from torch import Tensor

from pyebm import Noise
from pyebm.samplers import HMC, MALA, Langevin, Sampler, State, Trajectory, UnderdampedLangevin


def energy(x: Tensor) -> Tensor:
    return x.square().reshape(len(x), -1).sum(1)


SAMPLERS: list[Callable[[], Sampler]] = [
    lambda: Langevin(torch.neg, 0.1),
    lambda: UnderdampedLangevin(torch.neg, 0.1),
    lambda: MALA(energy, 0.1, warmup=8),
    lambda: HMC(energy, 0.1, 2, warmup=30, adapt_mass=True),
]
SHAPES = ((), (0,), (1,), (3,), (4,), (5,), (4, 3), (3, 4), (5, 3), (4, 3, 2), (0, 3))
DTYPES = (
    *[torch.float32, torch.float64, torch.float16, torch.int64, torch.int32, torch.bool, torch.uint8],
    torch.complex64,
)
JUNK = (
    None,
    True,
    -1,
    0,
    1,
    2,
    10**30,
    -(2**63),
    2**32,
    0.5,
    float("nan"),
    "x",
    b"x",
    [],
    [1],
    (),
    {},
    {"x": 1},
    object,
    1j,
)


def tensors(rng: random.Random, like: Any) -> Tensor:
    """A tensor to put in the place of another."""
    shape = tuple(like.shape) if isinstance(like, Tensor) else (4,)
    dtype = rng.choice(DTYPES)
    if rng.random() < 0.6:
        shape = rng.choice(SHAPES)
    made = torch.full(
        shape, rng.choice((0.0, 1.0, -1.0, 1e30, float("nan"), float("inf"))), dtype=torch.float64
    )
    kind = rng.random()
    if kind < 0.06:
        return made.to("meta")
    if kind < 0.12 and made.dim() == 2:
        return made.to_sparse()
    return (
        made.nan_to_num(7.0, 9.0, -9.0).to(dtype)
        if dtype not in (torch.float32, torch.float64)
        else made.to(dtype)
    )


def spoil(rng: random.Random, found: dict[str, Any]) -> str:
    """Changes one entry somewhere in the nested dict, and says which."""
    where, path = found, ""
    while True:
        key = rng.choice(list(where)) if where else None
        inner = where.get(key) if key is not None else None
        if isinstance(inner, dict) and rng.random() < 0.7:
            where, path = inner, f"{path}[{key!r}]"
            continue
        break
    kind = rng.random()
    if key is None or kind < 0.1:
        where[rng.choice(("more", "x", 3))] = 1
        return f"{path} with another key"
    if kind < 0.25:
        del where[key]
        return f"{path} without {key!r}"
    where[key] = tensors(rng, inner) if kind < 0.7 else rng.choice(JUNK)
    shown = where[key]
    shown = (
        f"tensor {tuple(shown.shape)} {shown.dtype} {shown.layout} {shown.device}"
        if isinstance(shown, Tensor)
        else repr(shown)
    )
    return f"{path}[{key!r}] = {shown}"


def refused(what: str, call: Callable[[], Any]) -> Any:
    """Returns the call's result, or None if the call is refused in words that begin with a name."""
    try:
        return call()
    except REFUSALS as refusal:
        if not is_named(refusal):
            raise AssertionError(
                f"{what}: refused without a name: {type(refusal).__name__}: {refusal!s:.200}"
            ) from refusal
        return None
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {str(error)[:200]}") from error


def case(rng: random.Random) -> None:
    torch.manual_seed(0)
    sampler = rng.choice(SAMPLERS)()
    trajectory = sampler(State(torch.full((4, 3), 0.5), Noise(1)), rng.randint(1, 4), thin=1)
    kinds = [(State, trajectory.state), (Noise, rng.choice((Noise(1), Noise(1, sample_ids=[3, 1, 2, 0]))))]
    if hasattr(trajectory, "state_dict"):
        kinds.append((Trajectory, trajectory))
    kind, good = rng.choice(kinds)
    found = copy.deepcopy(good.state_dict())
    what = f"{kind.__name__} of {type(sampler).__name__}: {spoil(rng, found)}"
    made = refused(what, lambda: kind.from_state_dict(found))
    if made is None:
        return
    if kind is Noise:
        z = refused(what, lambda: made.randn((4, 3)))
        assert z is None or z.isfinite().all(), what
        return
    state = made if kind is State else made.state
    went_on = refused(what, lambda: sampler(state, 2))
    if went_on is not None:
        assert went_on.x.is_meta or went_on.x.isfinite().all(), (
            f"{what}: taken, and the chains are not finite"
        )
