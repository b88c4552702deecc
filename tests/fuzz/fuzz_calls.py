"""Random public calls: functions, losses, targets, chains, noise. Each gives the reference's
bits, or a refusal in the reference's words."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from call_arguments import clamp_of, coefficient, mask_of, narrower, noise_of
from guarded import FLOATS, Arena, note, shape_of, values
from outcomes import LEVELS, flat, on_threads, outcome, same_bits
from torch import Tensor

import pyebm
from pyebm import targets

REDUCTIONS = ("none", "sample", "sum", "mean", "batchmean")


class Call(NamedTuple):
    """One public call. ``run(backend)`` makes it afresh, from tensors in the arena."""

    name: str
    run: Callable[[str | None], Any]
    arena: Arena
    close: Callable[[Any, Any], None]
    written: tuple[Tensor, ...] = ()


# --- arguments


# --- calls


def perturb(rng: random.Random, arena: Arena) -> Call:
    shape, dtype = shape_of(rng), rng.choice(FLOATS)
    x = arena.place("x", values(rng, shape, dtype))
    sigma, noise = coefficient(rng, arena, "sigma", x, low=0.0), noise_of(rng, shape[0])
    alpha = coefficient(rng, arena, "alpha", x) if rng.random() < 0.5 else 1.0
    return Call(
        "perturb",
        lambda backend: pyebm.perturb(x, sigma, noise, alpha=alpha, backend=backend),
        arena,
        same_bits,
    )


def steps(rng: random.Random, arena: Arena) -> Call:
    shape, dtype = shape_of(rng), rng.choice(FLOATS)
    name = rng.choice(("langevin_step", "langevin_step_", "affine_step"))
    in_place = name == "langevin_step_"
    first = values(rng, shape, dtype)
    x = arena.place("x", first, written=in_place)
    score = arena.place("score", values(rng, shape, narrower(rng, dtype)))
    options: dict[str, Any] = {
        "clamp": clamp_of(rng),
        "mask": mask_of(rng, arena, x),
    }
    if rng.random() < 0.3:
        options["return_mean"] = True
    noise = noise_of(rng, shape[0])
    if name == "affine_step":
        numbers = tuple(coefficient(rng, arena, each, x) for each in "abc")
    else:
        numbers = (coefficient(rng, arena, "step_size", x, low=0.0),)
        options["score_clip"] = rng.choice((None, None, 0.5, math.inf, 0.0))
        if rng.random() < 0.5:
            options["temperature"] = coefficient(rng, arena, "temperature", x, low=0.0)

    def run(backend: str | None) -> Any:
        if not in_place:
            return getattr(pyebm, name)(x, score, *numbers, noise, **options, backend=backend)
        x.copy_(first)
        result = flat(pyebm.langevin_step_(x, score, *numbers, noise, **options, backend=backend))
        return [each.clone() for each in result]

    return Call(name, run, arena, same_bits, (x,) if in_place else ())


def loss(rng: random.Random, arena: Arena) -> Call:
    shape, dtype = shape_of(rng), rng.choice(FLOATS)
    name, reduction = rng.choice(("dsm_loss", "denoising_loss")), rng.choice(REDUCTIONS)
    pred = arena.place("pred", values(rng, shape, dtype, special=reduction == "none"))
    noise: Any = noise_of(rng, shape[0])
    if rng.random() < 0.3:
        noise = arena.place("noise", values(rng, shape, narrower(rng, dtype), special=reduction == "none"))
    options: dict[str, Any] = {"reduction": reduction}
    if name == "dsm_loss":
        positional = (coefficient(rng, arena, "sigma", pred, low=0.0), noise)
        kind = rng.random()
        options["weight"] = (
            None if kind < 0.3 else "sigma2" if kind < 0.6 else coefficient(rng, arena, "weight", pred)
        )
    else:
        positional = (noise,)
        for each in ("kappa", "lam", "weight"):
            if rng.random() < 0.5:
                options[each] = coefficient(rng, arena, each, pred)
        if rng.random() < 0.5:
            options["mu"] = coefficient(rng, arena, "mu", pred)
            options["x0"] = arena.place(
                "x0", values(rng, shape, narrower(rng, dtype), special=reduction == "none")
            )
        options["half"] = rng.random() < 0.5
    with_gradient = rng.random() < 0.6
    above = rng.uniform(-2, 2)

    def run(backend: str | None) -> Any:
        at = pred.detach().requires_grad_(with_gradient)
        value = getattr(pyebm, name)(at, *positional, **options, backend=backend)
        if not with_gradient:
            return [value]
        return [value, *torch.autograd.grad((above * value).sum(), at)]

    def close(got: Any, want: Any) -> None:
        same_bits(got[1:], want[1:])  # gradients
        if not pred.numel():
            return torch.testing.assert_close(got[0], want[0], rtol=0, atol=0, equal_nan=True)  # 0 may be -0
        if reduction == "none":
            return same_bits(got[:1], want[:1])
        # Backends may add in different orders, so sums agree only within a few roundings of the sum
        # of the terms' sizes.
        terms = (
            getattr(pyebm, name)(pred, *positional, **options | {"reduction": "none"}, backend="reference")
            .abs()
            .double()
        )
        size = terms.flatten(1).sum(1) if terms.dim() > 1 else terms
        if reduction != "sample":
            size = size.sum() / {"sum": 1, "mean": terms.numel(), "batchmean": shape[0]}[reduction]
        unit = 1e-13 if dtype == torch.float64 else 3e-7
        off, allowed = (got[0].double() - want[0].double()).abs(), unit * size + 1e-37
        finite = want[0].isfinite() & got[0].isfinite() & size.isfinite()
        assert got[0].dtype == want[0].dtype
        assert torch.equal(got[0].isfinite() | ~size.isfinite(), want[0].isfinite() | ~size.isfinite()), (
            "finite or not"
        )
        assert not (off > allowed)[finite].any(), (
            f"the sum is off by {off.max().item():g} of {size.max().item():g}"
        )
        return None

    return Call(name, run, arena, close)


def target_for(rng: random.Random, elements: int) -> targets.Target:
    any_dim: list[Callable[[], targets.Target]] = [
        lambda: targets.Harmonic(rng.uniform(0.1, 3), rng.uniform(-1, 1)),
        lambda: targets.DoubleWell(rng.uniform(0.1, 3), rng.uniform(0.3, 2)),
        lambda: targets.Polynomial(
            [rng.uniform(-1, 1) for _ in range(rng.choice((2, 4, 6)))] + [rng.uniform(0.1, 1)]
        ),
        lambda: targets.Rastrigin(rng.uniform(0.1, 3)),
        lambda: targets.Rosenbrock(rng.uniform(0.1, 3), rng.uniform(0.1, 3)),
        lambda: targets.Ackley(7.0, 0.4, 5.0),
        lambda: targets.Funnel(rng.uniform(0.5, 3)),
        lambda: targets.Gaussian(values(rng, (elements,), special=False), rng.uniform(0.5, 2)),
    ]
    return rng.choice(any_dim if elements else any_dim[:-1])()


def score_or_energy(rng: random.Random, arena: Arena) -> Call:
    shape, dtype = shape_of(rng), rng.choice(FLOATS)
    x = arena.place("x", values(rng, shape, dtype))
    target = target_for(rng, math.prod(shape[1:]))
    return Call(
        f"{type(target).__name__}.score", lambda backend: target.score(x, backend=backend), arena, same_bits
    )


def chain(rng: random.Random, arena: Arena) -> Call:
    shape, dtype = shape_of(rng), rng.choice(FLOATS)
    if math.prod(shape) > 5000:
        shape = (7, 3)
    x = arena.place("x", values(rng, shape, dtype))
    target, noise = target_for(rng, math.prod(shape[1:])), noise_of(rng, shape[0])
    n_steps = rng.randint(0, 8)
    options: dict[str, Any] = {"clamp": clamp_of(rng), "return_diverged": rng.random() < 0.3}
    options["thin"] = rng.choice((None, None, 1, 2, 3, 0, -1))

    def by_step_or_sample(name: str) -> Any:
        if rng.random() < 0.3:
            return [rng.uniform(0.01, 0.2) for _ in range(n_steps)]
        value = coefficient(rng, arena, name, x, low=0.0)
        return value if isinstance(value, Tensor) and value.dim() < 2 else rng.uniform(0.001, 0.2)

    eta, options["temperature"] = by_step_or_sample("step_size"), by_step_or_sample("temperature")

    def run(backend: str | None) -> Any:
        return flat(pyebm.langevin_chain(x, target, n_steps, eta, noise, **options, backend=backend))

    return Call(f"langevin_chain on {type(target).__name__}", run, arena, same_bits)


def draw(rng: random.Random, arena: Arena) -> Call:
    shape, dtype, name = shape_of(rng), rng.choice(FLOATS), rng.choice(("randn", "rand"))
    noise = noise_of(rng, shape[0])
    return Call(
        name, lambda backend: getattr(noise, name)(shape, dtype=dtype, backend=backend), arena, same_bits
    )


def dense(rng: random.Random, arena: Arena) -> Call:
    """Mixtures and full covariances agree within a tolerance far wider than the bound of
    docs/accuracy.md, which has tests of its own."""
    elements, count = rng.choice((1, 2, 3, 4, 5, 16, 33)), rng.choice((1, 2, 5, 97))
    shape, dtype = (rng.choice((0, 1, 3, 8, 17, 65)), elements), rng.choice(FLOATS[:3])
    x = arena.place("x", values(rng, shape, dtype, special=False).clamp(-4, 4))
    if rng.random() < 0.5:
        scale = rng.choice(
            (
                0.8,
                torch.full((count, 1), 0.7),
                torch.full((elements,), 0.9),
                torch.full((count, elements), 1.1),
            )
        )
        target: targets.Target = targets.GaussianMixture(
            values(rng, (count, elements), special=False).clamp(-3, 3), scale
        )
    else:
        root = values(rng, (elements, elements), torch.float64, special=False).clamp(-2, 2)
        target = targets.Gaussian(
            torch.zeros(elements), covariance=root @ root.T + torch.eye(elements, dtype=torch.float64)
        )

    def close(got: Any, want: Any) -> None:
        unit = 1e-9 if dtype == torch.float64 else 2e-3
        torch.testing.assert_close(got, want, rtol=unit, atol=unit * 10)

    return Call(
        f"{type(target).__name__}.score", lambda backend: target.score(x, backend=backend), arena, close
    )


MAKERS = (perturb, steps, steps, loss, loss, score_or_energy, chain, draw, dense)


def make(rng: random.Random) -> Call:
    return rng.choice(MAKERS)(rng, Arena(rng))


def case(rng: random.Random) -> None:
    call = make(rng)
    placed = ", ".join(f"{name} {tuple(t.shape)} {t.dtype} {t.stride()}" for name, _, t in call.arena.placed)
    threads, level = rng.randint(1, 3), rng.choice(LEVELS)
    what = f"{call.name}({placed}) on {threads} threads, {level}"
    note(what)
    got = on_threads(threads, level, lambda: call.run(None))
    call.arena.check(*call.written)
    want = outcome(lambda: call.run("reference"))
    try:
        compare(call, got, want)
    except AssertionError as wrong:
        raise AssertionError(f"{what}: {wrong}") from wrong
    call.arena.release()


def compare(call: Call, got: Any, want: Any) -> None:
    if isinstance(got, Exception) or isinstance(want, Exception):
        assert type(got) is type(want), f"the kernel gave {got!r:.300}, the reference {want!r:.300}"
        return
    call.close(got, want)
