"""Cuts sampler runs in every way: in time (through a saved state), by samples, by ids, over
threads and SIMD levels. All give the same bits."""

from __future__ import annotations

import io
import itertools
import math
import random
from collections.abc import Callable
from typing import Any

import torch
from fuzz_calls import target_for
from guarded import FLOATS, values
from outcomes import LEVELS, same_bits
from torch import Tensor

from pyebm import Noise, _ops
from pyebm.samplers import (
    HMC,
    MALA,
    VE,
    VP,
    AnnealedLangevin,
    Langevin,
    PredictorCorrector,
    Sampler,
    State,
    SubVP,
    UnderdampedLangevin,
)

Make = Callable[..., Sampler]


def energy(x: Tensor) -> Tensor:
    return (0.1 * x.square() - x.cos()).flatten(1).sum(1)


def score(x: Tensor) -> Tensor:
    return -(0.2 * x + x.sin())


def at_level(x: Tensor, level: Tensor) -> Tensor:
    return (-x / (1 + level.reshape(-1, *[1] * (x.dim() - 1)) ** 2)).to(x.dtype)


def sampler_for(rng: random.Random, shape: tuple[int, ...], n_steps: int) -> Make:
    """Returns a function that makes one sampler, around a function or a target, with random
    options, for all or some of the samples."""
    elements = shape[1:]
    mask = torch.rand((1, *elements), generator=torch.Generator().manual_seed(rng.getrandbits(60))) > 0.3
    options: dict[str, Any] = {"mask": mask} if rng.random() < 0.4 else {}
    clamp: dict[str, Any] = {"clamp": (-1.5, 1.5)} if rng.random() < 0.3 else {}
    clip: dict[str, Any] = {"score_clip": 0.7} if rng.random() < 0.3 else {}
    target = target_for(rng, math.prod(elements))
    eta = rng.choice((0.05, 0.3, [rng.uniform(0.01, 0.4) for _ in range(40)]))
    t = rng.choice((1.0, 0.5, [rng.uniform(0.1, 2) for _ in range(40)]))
    warm: dict[str, Any] = (
        {"warmup": rng.randint(1, 12)} if rng.random() < 0.4 and not isinstance(eta, list) else {}
    )
    per = {"per": "sample"}
    known = {"mask": mask, "known": torch.ones(1, *elements)} if rng.random() < 0.3 else {}

    def with_known(x: Tensor) -> dict[str, Any]:
        return {
            name: value.to(x.dtype).expand_as(x) if name == "known" else value
            for name, value in known.items()
        } or options

    n = max(n_steps, 2)
    sde = rng.choice((VE(0.1, 5.0), VP(0.1, 1.5), SubVP(0.1, 1.5)))
    sigmas = sorted((rng.uniform(0.2, 3) for _ in range(n)), reverse=True)
    at = rng.choice((score, target))
    predictor = rng.choice(("reverse_diffusion", "euler_maruyama", None))
    chosen = rng.choice(("langevin", "langevin", "mala", "hmc", "underdamped", "annealed", "pc"))
    around: Any = rng.choice((energy, target))
    leaps, jitter = rng.randint(1, 4), rng.choice((0.0, 0.3))

    def make(x: Tensor, backend: str | None = None) -> Sampler:
        more: dict[str, Any] = {"backend": backend}
        if chosen == "langevin":
            return Langevin(at, eta, temperature=t, **options, **clamp, **clip, **more)
        if chosen == "mala":
            return MALA(around, eta, temperature=t, **options, **warm, **per, **more)
        if chosen == "hmc":
            return HMC(around, eta, leaps, jitter=jitter, temperature=t, **options, **warm, **per, **more)
        if chosen == "underdamped":
            return UnderdampedLangevin(at, eta, 0.7, temperature=t, **options, **clamp, **clip, **more)
        if chosen == "annealed":
            return AnnealedLangevin(at_level, sigmas, 0.02, 1, **with_known(x), **clamp, **clip, **more)
        return PredictorCorrector(
            at_level, sde, n, predictor=predictor, **with_known(x), **clamp, **per, **more
        )

    return make


def saved(state: State) -> State:
    """Passes the state through a file, as a checkpoint does."""
    file = io.BytesIO()
    torch.save(state.state_dict(), file)
    file.seek(0)
    return State.from_state_dict(torch.load(file, weights_only=True))


def same_state(got: State, want: State) -> None:
    same_bits(got.x, want.x)
    assert got.noise == want.noise
    assert got.extra.keys() == want.extra.keys()
    for name in want.extra:
        same_bits(got.extra[name], want.extra[name])


def rows(value: Tensor, part: slice, batch: int) -> Tensor:
    return value[part] if value.dim() and value.shape[0] == batch else value


def case(rng: random.Random) -> None:
    batch = rng.choice((1, 2, 3, 5, 6, 17))
    shape = (batch, *rng.choice(((2,), (3,), (5,), (4, 3), (1,), (2, 3, 3))))
    if shape[1:] == (1,):
        shape = (batch, 2)  # a funnel has at least two elements
    n_steps = rng.randint(2, 14)
    x0 = values(rng, shape, rng.choice(FLOATS), special=False).clamp(-3, 3)
    first, step = rng.choice((0, 5, 2**32 - 100)), 0
    noise = Noise(rng.getrandbits(64), first_sample=first, step=step, stream=rng.randrange(100))
    make = sampler_for(rng, shape, n_steps)

    def begin(part: slice = slice(None), listed: bool = False) -> State:
        if listed:
            ids = torch.arange(first, first + batch)[part]
            return State(x0[part], Noise(noise.seed, sample_ids=ids, step=step, stream=noise.stream))
        return State(x0[part], noise.shard(first_sample=first + (part.start or 0)))

    def setting() -> None:
        torch.set_num_threads(rng.randint(1, 3))
        _ops.simd(rng.choice(LEVELS))

    setting()
    whole = make(x0)(begin(), n_steps)
    name = type(make(x0)).__name__

    # Cut the run in time, with threads and a SIMD level of its own for each part.
    state = begin()
    cuts = sorted({0, n_steps, *(rng.randint(0, n_steps) for _ in range(rng.randint(1, 3)))})
    for a, b in itertools.pairwise(cuts):
        setting()
        state = saved(make(x0)(state, b - a))
    _explained(f"{name} cut at {cuts}", lambda: same_state(state, whole))

    # Cut the batch, once by a range of samples and once by their ids.
    a, b = sorted((rng.randint(0, batch), rng.randint(0, batch)))
    for listed in (False, True):
        setting()
        part = make(x0[a:b])(begin(slice(a, b), listed), n_steps)

        def check(part: State = part) -> None:
            same_bits(part.x, whole.x[a:b])
            for key, value in whole.extra.items():
                same_bits(part.extra[key], rows(value, slice(a, b), batch))

        if not (whole.extra and a == b):
            _explained(f"{name}, samples {a} to {b} alone, listed={listed}", check)

    # Compare the states that are kept on the way.
    thin = rng.randint(1, n_steps)
    kept = make(x0)(begin(), n_steps, thin=thin)
    _explained(f"{name}, thin={thin}", lambda: same_state(kept.state, whole))
    if n_steps // thin:
        at = rng.randint(1, n_steps // thin)
        shorter = make(x0)(begin(), at * thin)
        _explained(
            f"{name}, the state kept after {at * thin}", lambda: same_bits(kept.states[at - 1], shorter.x)
        )


def _explained(what: str, check: Callable[[], None]) -> None:
    try:
        check()
    except AssertionError as wrong:
        raise AssertionError(f"{what}: {wrong}") from wrong
