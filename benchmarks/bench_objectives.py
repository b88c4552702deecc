"""Training an energy network: an objective and its gradient in the parameters, beside eager
PyTorch and JAX."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

import pyebm
from pyebm._streams import PROJECTIONS

from .bench_network import network
from .case import NOISE, Setting, Work, benchmark, grid
from .timing import Run

ETA, STEPS, SIGMA = 0.01, 10, 0.3
SCALE = (2 * ETA) ** 0.5
NETWORKS = (((256, 2), "2 layers of 128"), ((64, 2), "2 layers of 64"))
SETTINGS = [
    setting
    for objective in ("denoising", "sliced", "exact", "CD-10")
    for shape, size in NETWORKS
    for setting in grid(
        shape,
        variant=f"{objective}, {size}",
        threads=(2,),
        quick=shape[0] == 64 and objective != "exact",
        headline=objective != "exact",
    )
]
Energy = Callable[[Tensor], Tensor]
# The cost of each objective, in passes through the energy's layers: a score takes two passes, and
# its gradient in the parameters four more.
PASSES = {"denoising": 6, "sliced": 9, "exact": 12, "CD-10": 2 * STEPS + 6}


def _ours(objective: str, energy: pyebm.targets.MLPEnergy, x: Tensor) -> Tensor:
    if objective == "denoising":
        return pyebm.denoising_score_matching(energy, x, SIGMA, NOISE)
    if objective == "sliced":
        return pyebm.sliced_score_matching(energy, x, NOISE, projection="gaussian")
    if objective == "exact":
        return pyebm.score_matching(energy, x)
    negatives = pyebm.langevin_chain(x, energy, STEPS, ETA, NOISE)
    return pyebm.contrastive_divergence(energy, x, negatives)


def _score(energy: Energy, x: Tensor, create_graph: bool = True) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    return x, -torch.autograd.grad(energy(x).sum(), x, create_graph=create_graph)[0]


def _eager(objective: str, energy: Energy, x: Tensor) -> Tensor:
    if objective == "denoising":
        z = torch.randn_like(x)
        _, score = _score(energy, x + SIGMA * z)
        return 0.5 * ((SIGMA * score + z) ** 2).sum(1).mean()
    if objective in ("sliced", "exact"):
        vectors = (
            [torch.randn_like(x)]
            if objective == "sliced"
            else [row.expand_as(x) for row in torch.eye(x.shape[1])]
        )
        at, score = _score(energy, x)
        trace = sum((torch.autograd.grad(score, at, v, create_graph=True)[0] * v).sum(1) for v in vectors)
        return (0.5 * (score**2).sum(1) + trace).mean()
    state = x
    for _ in range(STEPS):
        _, score = _score(energy, state, create_graph=False)
        state = (state + ETA * score).detach() + SCALE * torch.randn_like(state)
    return energy(x).mean() - energy(state).mean()


def in_jax(jax: ModuleType, objective: str, net: nn.Sequential, x: Tensor) -> Run:
    """The objective as one writes it in JAX: jit of value_and_grad, and lax.scan for the chain."""
    jnp: Any = jax.numpy
    weights = [
        (jnp.asarray(one.weight.detach().numpy()), jnp.asarray(one.bias.detach().numpy()))
        for one in net
        if hasattr(one, "weight")
    ]

    def energy(weights: Any, x: Any) -> Any:
        h = x
        for weight, bias in weights[:-1]:
            h = jax.nn.silu(h @ weight.T + bias)
        weight, bias = weights[-1]
        return (h @ weight.T + bias)[:, 0]

    def score(weights: Any, x: Any) -> Any:
        return -jax.grad(lambda x: energy(weights, x).sum())(x)

    def loss(weights: Any, x: Any, key: Any) -> Any:
        if objective == "denoising":
            z = jax.random.normal(key, x.shape)
            return 0.5 * ((SIGMA * score(weights, x + SIGMA * z) + z) ** 2).sum(1).mean()
        if objective in ("sliced", "exact"):
            of_x = functools.partial(score, weights)
            vectors = (
                [jax.random.normal(key, x.shape)]
                if objective == "sliced"
                else [jnp.broadcast_to(row, x.shape) for row in jnp.eye(x.shape[1])]
            )
            trace = sum((jax.jvp(of_x, (x,), (v,))[1] * v).sum(1) for v in vectors)
            return (0.5 * (of_x(x) ** 2).sum(1) + trace).mean()

        def step(carried: Any, _: None) -> Any:
            state, key = carried
            key, now = jax.random.split(key)
            return (state + ETA * score(weights, state) + SCALE * jax.random.normal(now, x.shape), key), None

        state = jax.lax.stop_gradient(jax.lax.scan(step, (x, key), None, length=STEPS)[0][0])
        return energy(weights, x).mean() - energy(weights, state).mean()

    run, data, key = jax.jit(jax.value_and_grad(loss)), jnp.asarray(x.numpy()), jax.random.PRNGKey(0)

    def in_torch() -> tuple[Tensor, ...]:
        value, grads = run(weights, data, key)
        return torch.from_dlpack(value), *(torch.from_dlpack(grad) for pair in grads for grad in pair)

    return in_torch


@benchmark(
    "objectives",
    "a loss of an energy network with SiLU and its gradient by the parameters; JAX is jit of value_and_grad",
    SETTINGS,
)
def objectives(at: Setting) -> Work:
    objective, _, size = at.variant.partition(", ")
    net, x = network(Setting(at.shape, variant=size)).requires_grad_(), at.randn()
    target, parameters = pyebm.targets.MLPEnergy(net), list(net.parameters())
    products = sum(one.weight.numel() for one in net if isinstance(one, nn.Linear))
    work = Work(
        x.numel(), 4 * x.nbytes, 2 * PASSES[objective] * products * len(x), tolerance=1e-3, copied=False
    )
    work.draws = lambda n: (0, PROJECTIONS) if objective == "sliced" else (n, 0)

    def differentiated(loss: Callable[[], Tensor]) -> Run:
        def run() -> tuple[Tensor, ...]:
            value = loss()
            return value.detach(), *torch.autograd.grad(
                value, parameters, allow_unused=True, materialize_grads=True
            )

        return run

    work.ours(lambda _: differentiated(lambda: _ours(objective, target, x)))
    work.side("eager", differentiated(lambda: _eager(objective, lambda x: net(x).squeeze(1), x)))

    def like_ours() -> None:
        """JAX draws other noise, so only the objective that draws none is compared by value."""
        ours, theirs = work.sides["pyebm"](), work.sides["JAX"]()
        for one, other in zip(ours, theirs, strict=True):
            assert one.shape == other.shape
            if objective == "exact":
                torch.testing.assert_close(
                    other, one, rtol=1e-3, atol=1e-3 * max(float(one.abs().max()), 1e-6)
                )

    return work.rival("JAX", lambda jax: in_jax(jax, objective, net, x), like_ours)
