"""What a user of JAX writes, with jit, lax.scan and grad."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from .timing import Run


def normals(jax: ModuleType, shape: tuple[int, ...]) -> Run:
    """JAX's own stateless generator."""
    draw, key = jax.jit(functools.partial(jax.random.normal, shape=shape)), jax.random.PRNGKey(0)
    return lambda: torch.from_dlpack(draw(key))


def chain(jax: ModuleType, energy: Callable[[Any], Any], x: Tensor, steps: int, eta: float) -> Run:
    """A Langevin chain on the sum of the samples' energies; the state goes in and comes out as
    JAX's own array."""
    scale = (2 * eta) ** 0.5

    def step(carried: Any, _: None) -> Any:
        x, key = carried
        key, now = jax.random.split(key)
        return (x - eta * jax.grad(energy)(x) + scale * jax.random.normal(now, x.shape), key), None

    @jax.jit
    def run(x: Any, key: Any) -> Any:
        return jax.lax.scan(step, (x, key), None, length=steps)[0][0]

    start, key = jax.numpy.asarray(x.numpy()), jax.random.PRNGKey(0)
    return lambda: torch.from_dlpack(run(start, key))
