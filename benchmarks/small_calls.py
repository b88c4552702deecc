"""Measures what a call costs when there is nothing to do: a small call's pieces, among them those
that nothing written in Python can leave out (docs/small-calls.md).

    python -m pyebm.benchmarks.small_calls [--seconds 3]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import pyebm

from .timing import HostClock, Run, take_turns

SHAPE = (64, 2)


class Given(torch.autograd.Function):
    """Computes nothing: the gradients of its inputs were made before."""

    @staticmethod
    def forward(ctx: Any, result: Tensor, grads: Any, *_: Tensor) -> Tensor:
        ctx.grads = grads
        return result.clone()

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, *ctx.grads)


def pieces() -> dict[str, Run]:
    noise, x, out = pyebm.Noise(0), torch.randn(SHAPE), torch.empty(SHAPE)
    score, sigma = torch.randn(SHAPE), torch.rand(SHAPE[0])
    one = torch.ones(())
    name, normal = noise._name, torch.ops.pyebm.normal_.default
    options: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}
    pred = torch.randn(SHAPE).requires_grad_()
    width = 64
    net = nn.Sequential(
        nn.Linear(2, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1)
    )
    energy, parameters = pyebm.targets.MLPEnergy(net), list(net.parameters())

    def given(inputs: list[Tensor]) -> Run:
        grads = [torch.empty_like(tensor) for tensor in inputs]
        return lambda: torch.autograd.grad(Given.apply(one, grads, *inputs), inputs)  # type: ignore[no-untyped-call]

    def gradient(loss: Callable[[], Tensor], inputs: list[Tensor]) -> Run:
        return lambda: torch.autograd.grad(loss(), inputs, allow_unused=True)

    return {
        "`torch.empty(shape, dtype=, device=)`": lambda: torch.empty(SHAPE, **options),
        "the op `normal_`": lambda: normal(out, name),
        "**`noise.at(step=1)`**": lambda: noise.at(step=1),
        "`Noise.randn` through Python and the dispatcher": lambda: noise.randn(SHAPE, backend="cpu"),
        "**`Noise.randn`**": lambda: noise.randn(SHAPE),
        "eager: `torch.randn`": lambda: torch.randn(SHAPE),
        "`perturb` through Python and the dispatcher": lambda: pyebm.perturb(x, 0.5, noise, backend="cpu"),
        "**`perturb`**": lambda: pyebm.perturb(x, 0.5, noise),
        "eager: `x + 0.5 * torch.randn_like(x)`": lambda: x + 0.5 * torch.randn_like(x),
        "**`perturb` with a sigma for each sample**": lambda: pyebm.perturb(x, sigma, noise),
        "**`langevin_step`**": lambda: pyebm.langevin_step(x, score, 0.1, noise),
        "eager: `x + 0.1 * score + 0.4 * torch.randn_like(x)`": lambda: (
            x + 0.1 * score + 0.4 * torch.randn_like(x)
        ),
        "a network of two layers of 64, read and packed": torch.no_grad()(lambda: energy._numbers_for("", x)),
        "**`langevin_chain` of the network, one step**": lambda: pyebm.langevin_chain(
            x, energy, 1, 0.01, noise
        ),
        "an `autograd.Function` of one input that computes nothing, and `grad`": given([pred]),
        "**`dsm_loss` and its gradient**": gradient(lambda: pyebm.dsm_loss(pred, 0.5, noise), [pred]),
        "the same `Function` of the network's six parameters": given(parameters),
        "**`denoising_score_matching` of the network, and its gradients**": gradient(
            lambda: pyebm.denoising_score_matching(energy, x, 0.5, noise), parameters
        ),
        "a step of `torch.optim.Adam(fused=True)` for the network": _adam(parameters),
    }


def _adam(parameters: list[nn.Parameter]) -> Run:
    own = [nn.Parameter(one.detach().clone()) for one in parameters]
    for one in own:
        one.grad = torch.ones_like(one)
    return torch.optim.Adam(own, fused=True).step


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="in all (default: 3)")
    torch.set_num_threads(1)
    samples = take_turns(pieces(), parser.parse_args(arguments).seconds, HostClock())
    print(f"| at {SHAPE[0]} x {SHAPE[1]}, one thread | us |\n|---|---|")
    for piece, (calls, times) in samples.items():
        print(f"| {piece} | {1e6 * statistics.median(times) / calls:.1f} |")


if __name__ == "__main__":
    main()
