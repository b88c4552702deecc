"""MALA, HMC and underdamped Langevin (BAOAB), per step, on densities in closed form and around an
energy network.

Eager is each algorithm as a careful user writes it: energy and score of the state are kept from
step to step, and the double well's and the mixture's gradients are worked out by hand. The packages
take every gradient by autograd; blackjax's chains are one jitted lax.scan.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

import pyebm

from .case import NOISE, Setting, Work, benchmark, grid
from .mcmc_written_out import LEAPS, hmc_written_out, mala_written_out
from .timing import Run

BARRIER, SPREAD, COMPONENTS, FRICTION = 2.0, 0.5, 8, 1.0
SETTINGS = [
    *grid((64, 2), variant="double well", steps=50, quick=True, headline=True),
    *grid((1024, 2), variant="double well", threads=(2,), steps=50, quick=True, headline=True),
    *grid((4096, 32), variant="double well", threads=(2,), steps=20, headline=True),
    *grid((1024, 2), variant="mixture", threads=(2,), steps=50),
    *grid((64, 2), variant="network", steps=50),
]
ADAPTED = [
    *grid((64, 2), variant="double well, warm-up", steps=50, quick=True),
    *grid((1024, 2), variant="double well, warm-up", threads=(2,), steps=50),
]
STEP_SIZE = {
    "double well": 0.02,
    "mixture": 0.1,
    "network": 0.1,
}  # MALA's step sizes; a leapfrog step is sqrt(2 eta), as if a trajectory had one step


class Network(nn.Module):
    """An energy of points: a quadratic plus a network of three layers."""

    def __init__(self, dim: int, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x.square().sum(1) + self.layers(x).squeeze(1)


class Density:
    """The density that a setting samples, in the form that each side takes."""

    def __init__(self, at: Setting) -> None:
        self.kind, self.device, dim = at.variant.partition(",")[0], at.device, at.shape[1]
        self.eta = STEP_SIZE[self.kind]
        self.x = at.randn()  # chains begin near the mass: in the tails no step size works
        self.ours: Any
        self.means = (3 * torch.rand(COMPONENTS, dim, generator=torch.Generator().manual_seed(0))).to(
            at.device
        )
        if self.kind == "double well":
            self.x = self.x.sign() + 0.25 * at.randn(1)
            self.ours = pyebm.targets.DoubleWell(barrier=BARRIER).to(at.device)
        elif self.kind == "mixture":
            self.x = self.means[torch.arange(len(self.x), device=at.device) % COMPONENTS] + SPREAD * self.x
            self.ours = pyebm.targets.GaussianMixture(self.means, SPREAD).to(at.device)
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                self.ours = Network(dim).to(at.device).requires_grad_(False)

    def energy(self, x: Tensor) -> Tensor:
        if self.kind == "double well":
            return BARRIER * (x.square() - 1).square().flatten(1).sum(1)
        if self.kind == "mixture":
            return -torch.logsumexp(self._exponents(x), 1)
        return self.ours(x)  # type: ignore[no-any-return]

    def _exponents(self, x: Tensor) -> Tensor:
        return (-0.5 / SPREAD**2) * (x[:, None] - self.means).square().sum(2)

    def energy_and_score(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energy and score, for the eager loops."""
        if self.kind == "double well":
            well = x.square() - 1
            return BARRIER * well.square().sum(1), (-4 * BARRIER) * x * well
        if self.kind == "mixture":
            exponents = self._exponents(x)
            return -torch.logsumexp(exponents, 1), (torch.softmax(exponents, 1) @ self.means - x) / SPREAD**2
        with torch.enable_grad():
            at = x.detach().requires_grad_()
            energy = self.energy(at)
            (grad,) = torch.autograd.grad(energy.sum(), at)
        return energy.detach(), -grad

    def score(self, x: Tensor) -> Tensor:
        if self.kind == "double well":
            return (-4 * BARRIER) * x * (x.square() - 1)
        return self.energy_and_score(x)[1]

    def in_jax(self, at: Setting) -> bool:
        """Whether blackjax stands beside us: on the densities in closed form, with a given step
        size."""
        return at.device == "cpu" and self.kind != "network" and "warm-up" not in at.variant

    def work(self, at: Setting, evaluations: int = 1) -> Work:
        """A score and an energy cost about 9 operations an element on the double well, COMPONENTS
        times as many on the mixture."""
        each = {"double well": 9, "mixture": 9 * COMPONENTS, "network": 8 * 64}[self.kind]
        operations = at.steps * (at.normal + each * evaluations + 12) * self.x.numel()
        work = Work(self.x.numel() * at.steps, 2 * self.x.nbytes, operations, tolerance=1e-2, copied=False)
        # A uniform within rounding of its threshold may decide either way, and then its chain takes
        # another path.
        work.strays = 0.02
        return work


def in_blackjax(package: ModuleType, density: Density, steps: int, make: Callable[..., Any]) -> Run:
    """A kernel of blackjax as its documentation runs many chains: vmap over the chains, lax.scan
    over the steps, all in one jit; gradients are JAX's. ``make`` takes the package, the log-density
    and a vector of ones. The state goes in and comes out as JAX's own array."""
    jax: Any = importlib.import_module("jax")
    jnp, means = jax.numpy, jax.numpy.asarray(density.means.numpy())

    def log_density(x: Any) -> Any:
        if density.kind == "double well":
            return -BARRIER * ((x * x - 1) ** 2).sum()
        return jax.scipy.special.logsumexp((-0.5 / SPREAD**2) * ((x - means) ** 2).sum(1))

    kernel = make(package, log_density, jnp.ones(density.x.shape[1]))
    each = jax.vmap(kernel.step)

    def step(states: Any, key: Any) -> Any:
        return each(jax.random.split(key, len(density.x)), states)[0], None

    @jax.jit
    def chains(x: Any, key: Any) -> Any:
        return jax.lax.scan(step, jax.vmap(kernel.init)(x), jax.random.split(key, steps))[0].position

    start, key = jnp.asarray(density.x.numpy()), jax.random.PRNGKey(0)
    return lambda: torch.from_dlpack(chains(start, key))


def baoab_written_out(x: Tensor, score_fn: Callable[[Tensor], Tensor], h: float, steps: int) -> Tensor:
    c = math.exp(-FRICTION * h)
    d = math.sqrt(1 - c * c)
    v, score = torch.randn_like(x), score_fn(x)
    for _ in range(steps):
        v = v + 0.5 * h * score
        x = x + 0.5 * h * v
        v = c * v + d * torch.randn_like(x)
        x = x + 0.5 * h * v
        score = score_fn(x)
        v = v + 0.5 * h * score
    return x


@benchmark(
    "mala",
    "MALA, per step; with warm-up its step size is adapted to all chains' acceptance",
    [*SETTINGS, *ADAPTED],
)
@torch.no_grad()
def mala(at: Setting) -> Work:
    density, warm_up = Density(at), at.variant.endswith("warm-up")
    x, eta = density.x, density.eta

    def ours(backend: str | None) -> Run:
        options: dict[str, Any] = {"warmup": at.steps, "per": "batch"} if warm_up else {}
        sampler = pyebm.samplers.MALA(density.ours, eta, backend=backend, **options)
        return lambda: sampler(x, at.steps, noise=NOISE)

    def ebmkit(package: ModuleType) -> Run:
        if warm_up:
            # The sampler keeps what it learned and would begin the next call with it, so each call
            # makes its own.
            make = package.samplers.AdaptiveMALA
            return lambda: make(eta, warmup=at.steps).sample(density.energy, x, steps=0)
        sampler = package.samplers.MALA(eta, steps=at.steps)
        return lambda: sampler.sample(density.energy, x)

    work = density.work(at).ours(ours, at.device)

    def blackjax(package: ModuleType) -> Run:
        return in_blackjax(package, density, at.steps, lambda it, log, _: it.mala(log, eta))

    work.side(
        "eager",
        torch.no_grad()(lambda: mala_written_out(x, density.energy_and_score, eta, at.steps, warm_up)),
    )
    if density.in_jax(at):
        work.rival("blackjax", blackjax, "law")
    return work.rival("ebmkit", ebmkit)


@benchmark("hmc", f"HMC, per step of {LEAPS} leapfrogs; warm-up as for mala", [*SETTINGS, *ADAPTED[:1]])
@torch.no_grad()
def hmc(at: Setting) -> Work:
    density, warm_up = Density(at), at.variant.endswith("warm-up")
    x, eps = density.x, math.sqrt(2 * density.eta)

    def ours(backend: str | None) -> Run:
        options: dict[str, Any] = {"warmup": at.steps, "per": "batch"} if warm_up else {}
        sampler = pyebm.samplers.HMC(density.ours, eps, LEAPS, backend=backend, **options)
        return lambda: sampler(x, at.steps, noise=NOISE)

    def ebmkit(package: ModuleType) -> Run:
        sampler = package.samplers.HMC(eps, LEAPS, at.steps)
        return lambda: sampler.sample(density.energy, x)

    def torchebm(package: ModuleType) -> Run:
        class Model(package.core.BaseModel):  # type: ignore[misc,name-defined]
            def forward(self, x: Tensor) -> Tensor:
                return density.energy(x)

        model = Model(device=at.device)
        if density.kind == "double well":
            model = package.core.DoubleWellModel(barrier_height=BARRIER, device=at.device)
        sampler = package.samplers.HamiltonianMonteCarlo(model, eps, LEAPS, device=at.device)
        return lambda: sampler.sample(x=x, n_steps=at.steps)

    def blackjax(package: ModuleType) -> Run:
        return in_blackjax(package, density, at.steps, lambda it, log, ones: it.hmc(log, eps, ones, LEAPS))

    work = density.work(at, LEAPS).ours(ours, at.device)
    work.strays = 0.05  # rounding errors grow when a trajectory passes a barrier
    # All chains learn one step size, so one chain's rounding reaches all: after 20 steps equal
    # noise no longer means equal states.
    check = "law" if warm_up else "noise"
    work.side(
        "eager",
        torch.no_grad()(
            lambda: hmc_written_out(x, density.energy_and_score, density.score, eps, at.steps, warm_up)
        ),
        check,
    )
    if density.in_jax(at):
        work.rival("blackjax", blackjax, "law")
    return (
        work if warm_up else work.rival("torchebm", torchebm).rival("ebmkit", ebmkit)
    )  # neither adapts HMC's step size


@benchmark(
    "underdamped", "UnderdampedLangevin (BAOAB), per step; neither package has this integrator", SETTINGS
)
@torch.no_grad()
def underdamped(at: Setting) -> Work:
    density = Density(at)
    x, h = density.x, math.sqrt(2 * density.eta)
    score = density.ours if density.kind != "network" else density.score

    def ours(backend: str | None) -> Run:
        sampler = pyebm.samplers.UnderdampedLangevin(score, h, FRICTION, backend=backend)
        return lambda: sampler(x, at.steps, noise=NOISE)

    work = density.work(at).ours(ours, at.device)
    work.draws = lambda n: (n - 1, 0) if n else (0, 1)  # the first velocity has a stream of its own
    return work.side("eager", torch.no_grad()(lambda: baoab_written_out(x, density.score, h, at.steps)))
