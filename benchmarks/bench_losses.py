"""The denoising-score-matching loss: with its perturbation, by itself, and for an energy, beside
the losses that packages bring."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

import pyebm

from .bench_noise import EVERYWHERE, IMAGES, NARROW, SIGMA, small
from .case import BFLOAT, NOISE, TOLERANCE, Setting, Work, benchmark, grid
from .timing import Run

LOSS = 6  # operations of an element's loss and gradient


def with_gradient(loss: Callable[[], Tensor | tuple[Tensor, Tensor]], leaf: Tensor) -> Run:
    """Returns the loss and its gradient, as a training step makes them, and the perturbed
    samples, which are the network's input."""

    def run() -> tuple[Tensor, ...]:
        made = loss()
        *noisy, value = made if isinstance(made, tuple) else (made,)
        return (*noisy, value.detach(), *torch.autograd.grad(value, leaf))

    return run


def formula(score: Tensor, z: Tensor) -> Tensor:
    return 0.5 * ((score + z / SIGMA) ** 2).flatten(1).sum(1).mean()


def perturbed_formula(x: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
    z = torch.randn_like(x)
    return x + SIGMA * z, formula(score, z)


@benchmark("dsm-forward", "perturb + dsm_loss, the loss's value alone (evaluation)", EVERYWHERE[:3])
def forward(at: Setting) -> Work:
    x, score = at.randn(0), at.randn(1)
    work = Work(x.numel(), 3 * x.nbytes, (2 * at.normal + LOSS) * x.numel(), tolerance=TOLERANCE[at.dtype])

    def ours(backend: str | None) -> Run:
        return lambda: (
            pyebm.perturb(x, SIGMA, NOISE, backend=backend),
            pyebm.dsm_loss(score, SIGMA, NOISE, backend=backend),
        )

    work.ours(ours, at.device, reference=small(at))
    return work.eager(perturbed_formula, lambda loss: lambda: loss(x, score), compiled=at.compiled)


@benchmark(
    "dsm", "perturb + dsm_loss with its gradient: what a training step adds to the network", EVERYWHERE
)
def perturb_and_loss(at: Setting) -> Work:
    x, score = at.randn(0), at.randn(1).requires_grad_()
    work = Work(
        x.numel(), 4 * x.nbytes, (2 * at.normal + 2 + LOSS) * x.numel(), tolerance=TOLERANCE[at.dtype]
    )

    def ours(backend: str | None) -> Run:
        def loss() -> tuple[Tensor, Tensor]:
            noisy = pyebm.perturb(x, SIGMA, NOISE, backend=backend)
            return noisy, pyebm.dsm_loss(score, SIGMA, NOISE, backend=backend)

        return with_gradient(loss, score)

    work.ours(ours, at.device, reference=small(at))
    return work.eager(
        perturbed_formula, lambda loss: with_gradient(lambda: loss(x, score), score), compiled=at.compiled
    )


TAILS = [
    *grid((64, 2), variant="own noise", quick=True),
    *grid(IMAGES, variant="own noise", threads=(2,), quick=True, compiled=True),
    *grid((64, 2), variant="regenerated"),
    *grid(IMAGES, variant="regenerated", threads=(1, 2)),
    *grid(IMAGES, variant="own noise", threads=(1,)),
    *grid(IMAGES, variant="own noise", threads=(2,), dtypes=(BFLOAT,)),
]


@benchmark(
    "dsm-tail",
    "dsm_loss alone, with its gradient; eager has the noise in memory, ours too, or makes it again",
    TAILS,
)
def tail(at: Setting) -> Work:
    score = at.randn(1).requires_grad_()
    z = NOISE.randn(at.shape, dtype=at.dtype, device=at.device)
    own = at.variant == "own noise"
    tensors, normals = (3, 0) if own else (2, at.normal)
    work = Work(
        score.numel(), tensors * score.nbytes, (normals + LOSS) * score.numel(), tolerance=TOLERANCE[at.dtype]
    )
    noise = z if own else NOISE
    work.ours(
        lambda backend: with_gradient(lambda: pyebm.dsm_loss(score, SIGMA, noise, backend=backend), score),
        at.device,
    )
    return work.eager(
        formula, lambda loss: with_gradient(lambda: loss(score, z), score), compiled=at.compiled, draws=False
    )


@benchmark(
    "dsm-narrow",
    'dsm_loss(weight="sigma2") of narrow samples with one sigma each: its value, or the gradient too; z is in'
    " memory",
    [
        *grid(NARROW[0], variant="value", quick=True),
        *grid(*NARROW[1:], variant="value"),
        *grid(*NARROW, variant="value", threads=(2,)),
        *grid(*NARROW, variant="gradient", threads=(1, 2)),
    ],
)
def narrow(at: Setting) -> Work:
    score, z, sigma = at.randn(1), at.randn(2), at.rows(0.1, 1.0)
    column = sigma[:, None]
    work = Work(
        score.numel(), 3 * score.nbytes + sigma.nbytes, LOSS * score.numel(), tolerance=TOLERANCE[at.dtype]
    )

    def ours(backend: str | None) -> Tensor:
        return pyebm.dsm_loss(score, sigma, z, weight="sigma2", backend=backend)

    def eager() -> Tensor:
        return (0.5 * (column * score + z) ** 2).sum(1).mean()

    if at.variant == "value":
        work.ours(lambda backend: lambda: ours(backend), at.device)
        return work.side("eager", eager)
    score.requires_grad_()
    work.ours(lambda backend: with_gradient(lambda: ours(backend), score), at.device)
    return work.side("eager", with_gradient(eager, score))


class Bowl(torch.nn.Module):
    """``E(x) = sum_i w x_i^2 / 2``: an energy so cheap that its own cost hides nothing of the
    loss around it."""

    def __init__(self) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * (self.w * x.square()).flatten(1).sum(1)


@benchmark(
    "dsm-energy",
    "the whole DSM loss of an energy E = w |x|^2 / 2 and its gradient in w: perturbation, score by autograd,"
    " loss",
    [*grid((64, 2), (1024, 2), quick=True), *grid((4096, 32), (64, 3, 64, 64), threads=(2,))],
)
def of_an_energy(at: Setting) -> Work:
    x, energy = at.randn(), Bowl().to(at.device)
    work = Work(x.numel(), 4 * x.nbytes, (2 * at.normal + 2 + LOSS) * x.numel(), tolerance=1e-4)

    def ours(backend: str | None) -> Run:
        def loss() -> Tensor:
            noisy = pyebm.perturb(x, SIGMA, NOISE, backend=backend)
            return pyebm.dsm_loss(
                pyebm.energy_score(energy, noisy, create_graph=True), SIGMA, NOISE, backend=backend
            )

        return with_gradient(loss, energy.w)

    def eager() -> Tensor:
        z = torch.randn_like(x)
        noisy = (x + SIGMA * z).requires_grad_()
        (gradient,) = torch.autograd.grad(energy(noisy).sum(), noisy, create_graph=True)
        return formula(-gradient, z)

    def torchebm(_: ModuleType) -> Run:
        from torchebm.core import BaseModel
        from torchebm.losses import DenoisingScoreMatching

        class Model(BaseModel):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__(device=at.device)
                self.energy = energy

            def forward(self, x: Tensor) -> Tensor:
                return self.energy(x)

        loss = DenoisingScoreMatching(model=Model(), noise_scale=SIGMA, device=at.device)
        return with_gradient(lambda: loss(x), energy.w)

    def ebmkit(package: ModuleType) -> Run:
        loss = package.losses.DenoisingScoreMatching(sigma=SIGMA)
        return with_gradient(lambda: loss(energy, x).loss, energy.w)

    work.ours(ours, at.device)
    work.side("eager", with_gradient(eager, energy.w))
    return work.rival("torchebm", torchebm).rival("ebmkit", ebmkit)
