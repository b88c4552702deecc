"""Langevin chains on an energy network, per step: one launch for all steps, beside eager PyTorch,
torch.compile and JAX."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

import pyebm

from . import in_jax
from .case import NOISE, Setting, Work, benchmark, grid
from .timing import Run

ETA, QUADRATIC = 0.01, 0.5
SCALE = (2 * ETA) ** 0.5
MAIN = [
    *grid(
        (64, 2), variant="2 layers of 32", threads=(2,), steps=50, quick=True, headline=True, compiled=True
    ),
    *grid((64, 2), variant="2 layers of 64", threads=(2,), steps=50),
    *grid(
        (256, 2), variant="2 layers of 128", threads=(2,), steps=20, quick=True, headline=True, compiled=True
    ),
    *grid((1024, 2), variant="2 layers of 128", threads=(2,), steps=10),
    *grid((128, 64), variant="2 layers of 128", threads=(2,), steps=20),
    *grid((256, 2), variant="3 layers of 256", threads=(2,), steps=10, headline=True),
    *grid((1, 2), variant="2 layers of 128", steps=50),
]


def network(at: Setting) -> nn.Sequential:
    """ "2 layers of 128" with SiLU, and one output. The same weights at every call."""
    depth, width = (int(word) for word in at.variant.split() if word.isdigit())
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for inputs in [at.shape[1], *[width] * (depth - 1)]:
            layers += [nn.Linear(inputs, width), nn.SiLU()]
        return nn.Sequential(*layers, nn.Linear(width, 1)).to(at.device).requires_grad_(False)


def chain_in_jax(jax: ModuleType, net: nn.Sequential, x: Tensor, steps: int) -> Run:
    jnp: Any = jax.numpy
    layers = [
        (jnp.asarray(one.weight.numpy()), jnp.asarray(one.bias.numpy()))
        for one in net
        if isinstance(one, nn.Linear)
    ]

    def energy(x: Any) -> Any:
        h = x
        for weight, bias in layers[:-1]:
            h = jax.nn.silu(h @ weight.T + bias)
        weight, bias = layers[-1]
        return (h @ weight.T + bias).sum() + QUADRATIC * (x * x).sum()

    return in_jax.chain(jax, energy, x, steps, ETA)


@benchmark(
    "network", "langevin_chain on an energy network with SiLU, per step; JAX is jit, lax.scan and grad", MAIN
)
def chain(at: Setting) -> Work:
    net, x = network(at), at.randn()
    energy = pyebm.targets.MLPEnergy(net, quadratic=QUADRATIC)
    products = sum(one.weight.numel() for one in net if isinstance(one, nn.Linear))
    work = Work(
        x.numel() * at.steps,
        2 * x.nbytes,
        at.steps * (at.normal * x.numel() + 4 * products * len(x)),
        tolerance=1e-3,
    )

    def ours(backend: str | None) -> Run:
        return lambda: pyebm.langevin_chain(x, energy, at.steps, ETA, NOISE, backend=backend)

    def score(x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(net(x).sum() + QUADRATIC * x.square().sum(), x)
        return -gradient

    def step(x: Tensor) -> Tensor:
        return x + ETA * score(x) + SCALE * torch.randn_like(x)

    def loop(step: Any) -> Run:
        def run() -> Tensor:
            state = x
            for _ in range(at.steps):
                state = step(state)
            return state

        return run

    work.ours(ours, at.device, reference=at.steps * x.numel() <= 2**13).eager(
        step, loop, compiled=at.compiled
    )
    if at.device == "cpu":
        work.rival("JAX", lambda jax: chain_in_jax(jax, net, x, at.steps), "law")
    return work
