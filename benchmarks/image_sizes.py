"""Measures how far an op's arithmetic and the traffic of its operands overlap, on one thread
(docs/performance.md).

python -m pyebm.benchmarks.image_sizes
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from pyebm._schemas import REDUCTIONS

ELEMENTS = 3 * 64 * 64
IN_CACHE, IN_MEMORY = (4, 1), (256, 5)  # samples of a call, and sets of operands that take turns
ROUNDS = 30
OP, MEAN = torch.ops.pyebm, REDUCTIONS["mean"]
NAME = torch.tensor([0, 0, 0, 0])
LOSS, NUMBERS = torch.zeros(()), (1.0, False, MEAN, NAME)

# Each call writes into the first tensors of a set; the numbers are the tensors that it moves.
Call = Callable[[Tensor, Tensor, Tensor, Tensor], object]
CALLS: dict[str, tuple[int, Call]] = {
    "a copy": (2, lambda out, _, x, __: out.copy_(x)),
    "normal_": (1, lambda out, *_: OP.normal_(out, NAME)),
    "perturb": (2, lambda out, _, x, __: OP.perturb(out, x, 1.0, 0.5, NAME)),
    "affine_step": (3, lambda out, _, x, g: OP.affine_step(out, x, g, 0.9, 0.1, 0.5, NAME)),
    "predicted_step": (
        4,
        lambda out, x0, x, g: OP.predicted_step(out, x0, x, g, 0.9, 0.1, 0.3, 0.7, 0.5, NAME),
    ),
    "denoising_loss, gradient": (
        2,
        lambda out, _, x, __: OP.denoising_loss(LOSS, out, x, 1.0, -1.0, 0.0, 1.0, *NUMBERS),
    ),
    "denoising_loss, x0, gradient": (
        3,
        lambda out, _, x, g: OP.denoising_loss(
            LOSS, out, x, 1.0, -0.6, 0.8, 1.0, *NUMBERS, None, None, None, None, None, g
        ),
    ),
}


def times(samples: int, sets: int) -> dict[str, float]:
    """The shortest time of each call, in ns an element."""
    operands = [[torch.randn(samples, ELEMENTS) for _ in range(4)] for _ in range(sets)]
    found = dict.fromkeys(CALLS, float("inf"))
    repeat = max(1, 32 // (samples * sets))
    for _ in range(ROUNDS):
        for name, (_, call) in CALLS.items():
            for each in operands:
                begin = time.perf_counter()
                for _ in range(repeat):
                    call(*each)
                seconds = (time.perf_counter() - begin) / repeat
                found[name] = min(found[name], seconds / (samples * ELEMENTS) * 1e9)
    return found


def main() -> None:
    torch.set_num_threads(1)
    cached, far = times(*IN_CACHE), times(*IN_MEMORY)
    print("| float32, ns an element | in the L2 cache | in memory | its traffic alone |")
    print("|---|---|---|---|")
    for name, (tensors, _) in CALLS.items():
        traffic = far["a copy"] * tensors / 2
        print(f"| {name} | {cached[name]:.2f} | {far[name]:.2f} | {traffic:.2f} |")


if __name__ == "__main__":
    main()
