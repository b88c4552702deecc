"""A whole iteration of training an energy network, the optimiser's step included, beside eager
PyTorch and the packages for energy-based models."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

import pyebm
from pyebm._streams import CHAINS

from .bench_network import network
from .bench_objectives import ETA, PASSES, SCALE, SIGMA, STEPS
from .case import NOISE, Setting, Work, benchmark, grid
from .same import assert_same_law
from .timing import Run

SLOTS, REINIT = 8192, 0.05
SETTINGS = [
    setting
    for shape, size in (((256, 2), "2 layers of 128"), ((64, 2), "2 layers of 64"))
    for objective in ("denoising", "CD-10", "PCD-10")
    for setting in grid(
        shape,
        variant=f"{objective}, {size}",
        threads=(2,),
        quick=(objective, shape[0]) in {("CD-10", 64), ("PCD-10", 256)},
        headline=objective == "PCD-10",
    )
]


class _Eager:
    """The objectives as one writes them in PyTorch."""

    def __init__(self, objective: str, net: nn.Module, x: Tensor) -> None:
        self.objective, self.net, self.x = objective, net, x
        self.states = torch.randn(SLOTS, *x.shape[1:])

    def energy(self, x: Tensor) -> Tensor:
        energies: Tensor = self.net(x).squeeze(1)
        return energies

    def loss(self) -> Tensor:
        x = self.x
        if self.objective == "denoising":
            z = torch.randn_like(x)
            noisy = (x + SIGMA * z).requires_grad_()
            score = -torch.autograd.grad(self.energy(noisy).sum(), noisy, create_graph=True)[0]
            return 0.5 * ((SIGMA * score + z) ** 2).sum(1).mean()
        slots = torch.randint(SLOTS, x.shape[:1])
        state = x
        if self.objective == "PCD-10":
            fresh = torch.rand(len(x), 1) < REINIT
            state = torch.where(fresh, torch.randn_like(x), self.states[slots])
        for _ in range(STEPS):
            state = state.detach().requires_grad_()
            gradient = torch.autograd.grad(self.energy(state).sum(), state)[0]
            state = state - ETA * gradient + SCALE * torch.randn_like(state)
        state = state.detach()
        self.states[slots] = state
        return self.energy(x).mean() - self.energy(state).mean()


def _ours(objective: str, net: nn.Sequential, x: Tensor) -> Callable[[], Tensor]:
    energy = pyebm.targets.MLPEnergy(net)
    if objective == "denoising":
        return lambda: pyebm.denoising_score_matching(energy, x, SIGMA, NOISE)
    buffer = pyebm.ReplayBuffer(SLOTS, x.shape[1:], REINIT) if objective == "PCD-10" else None
    sampler = pyebm.samplers.Langevin(energy, ETA)
    divergence = pyebm.losses.ContrastiveDivergence(energy, sampler, STEPS, buffer)
    if buffer is None:
        return lambda: divergence(x, NOISE)
    step = itertools.count()
    return lambda: divergence(x, NOISE.at(step=next(step)))


def _torchebm(package: ModuleType, objective: str, net: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    class Model(package.core.BaseModel):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Any:
            return self.net(x).squeeze(1)

    model = Model()
    if objective == "denoising":
        # Its loss is that of weight 1: ours times 1 / sigma^2.
        matching = package.losses.DenoisingScoreMatching(model=model, noise_scale=SIGMA)
        return lambda: SIGMA**2 * matching(x)
    sampler = package.samplers.LangevinDynamics(model, step_size=ETA, noise_scale=1.0)
    divergence = package.losses.ContrastiveDivergence(
        model,
        sampler,
        k_steps=STEPS,
        persistent=objective == "PCD-10",
        buffer_size=SLOTS,
        init_steps=0,
        new_sample_ratio=REINIT,
        energy_reg_weight=0.0,
    )
    if objective == "PCD-10":
        # Without this the buffer begins close to 0. torchebm never begins a chain anew; it adds a
        # little noise to some.
        divergence.initialize_buffer(x.shape[1:], init_noise_scale=1.0)
    return lambda: divergence(x)[0]  # type: ignore[no-any-return]


def _ebmkit(package: ModuleType, objective: str, net: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    def energy(x: Tensor) -> Any:
        return net(x).squeeze(1)

    if objective == "denoising":
        matching = package.losses.DenoisingScoreMatching(sigma=SIGMA)
        return lambda: SIGMA**2 * matching(energy, x).loss
    sampler = package.samplers.LangevinDynamics(step_size=ETA, steps=STEPS)
    buffer = package.ReplayBuffer(SLOTS, tuple(x.shape[1:]), REINIT) if objective == "PCD-10" else None
    divergence = package.losses.ContrastiveDivergence(sampler, buffer, init_fn=lambda _: x)
    return lambda: divergence(energy, x).loss  # type: ignore[no-any-return]


@benchmark(
    "energy-training",
    "a whole iteration of training an energy network with SiLU: loss, backward, a step of Adam; PCD with a"
    f" buffer of {SLOTS} chains",
    SETTINGS,
)
def iterations(at: Setting) -> Work:
    objective, _, size = at.variant.partition(", ")
    x = at.randn()
    start = network(Setting(at.shape, variant=size)).state_dict()
    products = sum(one.numel() for one in start.values() if one.dim() == 2)
    passes = PASSES[objective.removeprefix("P")]
    work = Work(x.numel(), 4 * x.nbytes, 2 * passes * products * len(x), tolerance=1e-3, copied=False)
    work.draws = lambda n: (n, 0 if objective == "denoising" else CHAINS)
    nets: list[nn.Module] = []
    work.reset = lambda: [net.load_state_dict(start) for net in nets]

    def iteration(make: Callable[[nn.Sequential], Callable[[], Tensor]]) -> Run:
        net = network(Setting(at.shape, variant=size)).requires_grad_()
        nets.append(net)
        loss_of, parameters = make(net), list(net.parameters())
        adam = torch.optim.Adam(parameters, lr=1e-5, fused=True)

        def run() -> tuple[Tensor, ...]:
            adam.zero_grad()
            loss = loss_of()
            loss.backward()
            adam.step()
            return loss.detach(), *(one.grad for one in parameters[:-1] if one.grad is not None)

        return run

    def check(name: str) -> Any:
        """PCD's sides draw other chains of their buffers, so their losses agree in law alone."""

        def alike() -> None:
            work.reset()
            ours, theirs = (
                torch.stack([work.sides[side]()[0] for _ in range(64)]) for side in ("pyebm", name)
            )
            assert_same_law(ours, theirs)

        return alike if objective == "PCD-10" else "noise"

    def by_package(function: Callable[..., Callable[[], Tensor]]) -> Callable[[ModuleType], Run]:
        return lambda package: iteration(lambda net: function(package, objective, net, x))

    work.ours(lambda _: iteration(lambda net: _ours(objective, net, x)))
    work.side("eager", iteration(lambda net: _Eager(objective, net, x).loss), check("eager"))
    work.rival("torchebm", by_package(_torchebm), check("torchebm"))
    return work.rival("ebmkit", by_package(_ebmkit), check("ebmkit"))
