"""The work that is timed: each op at an image batch's size and at a toy's, beside what one writes without pyebm."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import pyebm

from .harness import Case

LARGE = (256, 3, 64, 64)
SMALL = (64, 2)
ETA, SIGMA = 1e-3, 0.5
SCALE = (2 * ETA) ** 0.5
NOISE = pyebm.Noise(0)


def _eager_step(x: Tensor, score: Tensor) -> Tensor:
    return x + ETA * score + SCALE * torch.randn_like(x)


def _eager_loss(score: Tensor, z: Tensor) -> Tensor:
    return 0.5 * ((score + z / SIGMA) ** 2).flatten(1).sum(1).mean()


def _eager_training(x: Tensor, score: Tensor) -> Tensor:
    z = torch.randn_like(x)
    perturbed = x + SIGMA * z
    return _eager_loss(score, z) + 0.0 * perturbed[0, 0].sum()  # so that a compiler can't drop the perturbation


def _training(x: Tensor, score: Tensor) -> Tensor:
    perturbed = pyebm.perturb(x, SIGMA, NOISE)  # alive, as a network's input would be
    loss = pyebm.dsm_loss(score, SIGMA, NOISE)
    del perturbed
    return loss


def _backward(loss: Callable[..., Tensor], *inputs: Tensor) -> Callable[[], object]:
    score = inputs[-1] if inputs[-1].requires_grad else inputs[0]

    def run() -> None:
        loss(*inputs).backward()  # type: ignore[no-untyped-call]
        score.grad = None  # so that every call begins without one

    return run


def _same(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def large(threads: int, compile_too: bool) -> list[Case]:
    """[256, 3, 64, 64] in float32."""
    x, score, z = (torch.randn(LARGE) for _ in range(3))
    leaf = score.clone().requires_grad_()
    state = x.clone()
    elements = x.numel()
    compiled = torch.compile if compile_too else None

    def against(eager: Callable[..., Tensor], run: Callable[[Callable[..., Tensor]], Callable[[], object]]) -> dict[str, Callable]:
        sides = {"eager": run(eager)}
        if compiled is not None:
            sides["torch.compile"] = run(compiled(eager))
        return sides

    def check_noise() -> None:
        ours = NOISE.randn(LARGE)
        assert abs(ours.mean()) < 5e-3
        assert abs(ours.var() - 1) < 5e-3

    def check_step() -> None:
        _same(pyebm.langevin_step(x, score, ETA, NOISE), x + ETA * score + SCALE * NOISE.randn(LARGE))

    def check_loss() -> None:
        ours, theirs = leaf.detach().requires_grad_(), leaf.detach().requires_grad_()
        loss, expected = pyebm.dsm_loss(ours, SIGMA, z), _eager_loss(theirs, z)
        torch.testing.assert_close(loss, expected)
        _same(*torch.autograd.grad(loss, ours), *torch.autograd.grad(expected, theirs))
        assert torch.equal(pyebm.dsm_loss(ours, SIGMA, NOISE), pyebm.dsm_loss(ours, SIGMA, NOISE.randn(LARGE)))

    def check_perturb() -> None:
        _same(pyebm.perturb(x, SIGMA, NOISE), x + SIGMA * NOISE.randn(LARGE))

    return [
        Case(
            "Noise.randn",
            {"pyebm": lambda: NOISE.randn(LARGE), "eager": lambda: torch.randn(LARGE)},
            check_noise,
            elements,
            4,
            1,
            threads,
            asked={"eager": 5.0 if threads == 2 else 3.0},
        ),
        Case(
            "perturb",
            {"pyebm": lambda: pyebm.perturb(x, SIGMA, NOISE), "eager": lambda: x + SIGMA * torch.randn_like(x)},
            check_perturb,
            elements,
            8,
            1,
            threads,
            memory=True,
        ),
        Case(
            "langevin_step_",
            {
                "pyebm": lambda: pyebm.langevin_step_(state, score, ETA, NOISE),
                **against(_eager_step, lambda step: lambda: step(x, score)),
            },
            check_step,
            elements,
            12,
            1,
            threads,
            asked={"eager": 8.0, "torch.compile": 45.0} if threads == 2 else {},
        ),
        Case(
            "dsm_loss, noise regenerated, fwd + bwd",
            {"pyebm": _backward(lambda s: pyebm.dsm_loss(s, SIGMA, NOISE), leaf)},
            check_loss,
            elements,
            8,
            1,
            threads,
            memory=True,
        ),
        Case(
            "perturb + dsm_loss, fwd + bwd",
            {"pyebm": _backward(_training, x, leaf), **against(_eager_training, lambda loss: _backward(loss, x, leaf))},
            check_loss,
            elements,
            16,
            2,
            threads,
            memory=True,
            asked={"eager": 6.5, "torch.compile": 25.0} if threads == 2 else {},
        ),
        Case(
            "dsm_loss, the caller's noise, fwd + bwd",
            {
                "pyebm": _backward(lambda s: pyebm.dsm_loss(s, SIGMA, z), leaf),
                **against(_eager_loss, lambda loss: _backward(lambda s: loss(s, z), leaf)),
            },
            check_loss,
            elements,
            12,
            0,
            threads,
            memory=True,
            asked={"eager": 6.0, "torch.compile": 2.5} if threads == 2 else {},
        ),
    ]


def small() -> list[Case]:
    """[64, 2]: what a call costs when there is next to nothing to do."""
    x, score = torch.randn(SMALL), torch.randn(SMALL)
    leaf = score.clone().requires_grad_()
    z, column = torch.randn(SMALL), torch.full((64, 1), SIGMA)
    rows = column.flatten()
    state = x.clone()

    def step_check() -> None:
        _same(pyebm.langevin_step(x, score, ETA, NOISE), x + ETA * score + SCALE * NOISE.randn(SMALL))

    sides: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "Noise.randn": (lambda: NOISE.randn(SMALL), lambda: torch.randn(SMALL)),
        "perturb": (lambda: pyebm.perturb(x, SIGMA, NOISE), lambda: x + SIGMA * torch.randn_like(x)),
        "perturb, sigma (B,)": (lambda: pyebm.perturb(x, rows, NOISE), lambda: x + column * torch.randn_like(x)),
        "langevin_step": (lambda: pyebm.langevin_step(x, score, ETA, NOISE), lambda: _eager_step(x, score)),
        "langevin_step_": (lambda: pyebm.langevin_step_(state, score, ETA, NOISE), lambda: _eager_step(x, score)),
        "affine_step": (
            lambda: pyebm.affine_step(x, score, 0.9, 0.1, 0.2, NOISE),
            lambda: 0.9 * x + 0.1 * score + 0.2 * torch.randn_like(x),
        ),
        "dsm_loss": (lambda: pyebm.dsm_loss(score, SIGMA, NOISE), lambda: _eager_loss(score, torch.randn_like(x))),
        "dsm_loss, with grad": (lambda: pyebm.dsm_loss(leaf, SIGMA, NOISE), lambda: _eager_loss(leaf, torch.randn_like(x))),
        "dsm_loss, caller's noise, with grad": (lambda: pyebm.dsm_loss(leaf, SIGMA, z), lambda: _eager_loss(leaf, z)),
        "denoising_loss, with grad": (
            lambda: pyebm.denoising_loss(leaf, NOISE),
            lambda: torch.nn.functional.mse_loss(leaf, torch.randn_like(x)),
        ),
    }
    return [
        Case(f"{name} at 64x2", {"pyebm": ours, "eager": eager}, step_check, threads=1, asked={"eager": 1.0})
        for name, (ours, eager) in sides.items()
    ]
