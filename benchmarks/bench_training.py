"""One training step of a small network, end to end, and the share of the perturbation and the
loss in it, before (eager) and after (ours)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import pyebm

from .bench_losses import LOSS
from .case import NOISE, Setting, Work, benchmark, grid
from .networks import make
from .timing import Run

SETTINGS = [
    *grid((512, 2), variant="MLP", quick=True, headline=True),
    *grid((128, 1, 8, 8), variant="U-Net", threads=(2,), quick=True, headline=True),
    *grid((8192, 2), variant="MLP", threads=(2,)),
]
Losses = tuple[Tensor, Callable[[Tensor], Tensor]]


def _ours(x: Tensor, sigma: Tensor, _: Tensor) -> Losses:
    return pyebm.perturb(x, sigma, NOISE), lambda score: pyebm.dsm_loss(score, sigma, NOISE, weight="sigma2")


def _eager(x: Tensor, _: Tensor, column: Tensor) -> Losses:
    z = torch.randn_like(x)
    return x + column * z, lambda score: 0.5 * ((column * score + z) ** 2).flatten(1).sum(1).mean()


@benchmark(
    "training",
    "a whole training step with Adam: perturbation, network, loss, backward, update; parts: what pyebm"
    " replaces, alone",
    SETTINGS,
)
def training(at: Setting) -> Work:
    x, sigma = at.randn(), at.rows(0.1, 1.0)
    column = sigma.view(-1, *[1] * (x.dim() - 1))
    output = make(at.variant, x[0].numel()).to(at.device)(x, sigma).detach().requires_grad_()
    work = Work(x.numel(), 4 * x.nbytes, (2 * at.normal + 2 + LOSS) * x.numel(), tolerance=1e-3, copied=False)
    restore: list[Callable[[], object]] = []

    def step(prepare: Callable[[Tensor, Tensor, Tensor], Losses]) -> Run:
        net = make(at.variant, x[0].numel()).to(at.device)
        start = {name: value.clone() for name, value in net.state_dict().items()}
        restore.append(lambda: net.load_state_dict(start))
        parameters = list(net.parameters())
        adam = torch.optim.Adam(parameters, lr=1e-5, fused=True)

        def run() -> tuple[Tensor, Tensor]:
            noisy, loss_of = prepare(x, sigma, column)
            loss = loss_of(net(noisy, sigma))
            adam.zero_grad()
            loss.backward()
            adam.step()
            return loss.detach(), nn.utils.parameters_to_vector(
                [p.grad for p in parameters if p.grad is not None][-2:]
            )

        return run

    def part(prepare: Callable[[Tensor, Tensor, Tensor], Losses]) -> Run:
        def run() -> Tensor:
            _, loss_of = prepare(x, sigma, column)
            return torch.autograd.grad(loss_of(output), output)[0]

        return run

    work.reset = lambda: [again() for again in restore]
    work.ours(lambda _: step(_ours), at.device)
    work.side("eager", step(_eager))
    work.part("ours: perturb + loss", "pyebm", part(_ours))
    return work.part("eager: perturb + loss", "eager", part(_eager))
