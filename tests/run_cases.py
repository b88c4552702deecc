"""Calls of the ops whose coefficients change within a sample, for the tests of the GPU's
kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from cases import assert_equal, levels, normal
from torch import Tensor

from pyebm import Noise, reference

Ops = Mapping[str, Callable[..., None]]

# (the samples' shape, the numbers of values of two coefficients): tokens of whole cells of four and
# eight elements, and of odd sizes; one value per element; one per token beside one per sample, per
# row and per element.
CASES = (
    ((2, 3, 8), 6, 1),
    ((2, 4, 5, 5), 8, 8),
    ((3, 17), 51, 3),
    ((2, 3, 4, 6), 6, 24),
    ((5, 72), 360, 360),
    ((1, 3, 700), 3, 1),
    ((530, 2), 1060, 530),
    ((2, 2, 1031), 4, 2),
    ((1, 2, 1540), 3080, 2),
)
ODD_CASES = ((2, 4, 5, 5), 8, 8), ((3, 17), 51, 3), ((2, 3, 8), 6, 1)
NOISE = Noise(2**63 + 12345, step=7, stream=3, first_sample=11)


def calls(ops: Ops, x: Tensor, first: int, second: int) -> Iterator[tuple[str, Tensor]]:
    """Yields (name, result) for every op that takes coefficients and promises the reference's
    bits."""
    batch, name = x.shape[0], NOISE._name
    one, other = levels(first), levels(second, seed=1, dtype=torch.float64)
    score, x0 = normal(*x.shape, dtype=x.dtype, seed=1), normal(*x.shape, dtype=x.dtype, seed=2)
    seeds, ids = torch.arange(batch), torch.arange(batch).flip(0)
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32

    def output_of(op: str, *arguments: object) -> Tensor:
        out = torch.full_like(x, float("nan"))
        ops[op](out, *arguments)
        return out

    yield "perturb", output_of("perturb", x, 0.7, 0.3, name, None, one, None, None)
    yield "perturb, alpha", output_of("perturb", x, 0.7, 0.3, name, other, one, seeds, ids)
    plain = (None, None, None, None, None, None, None)
    yield "langevin", output_of("langevin_step", x, score, 0.1, 0.5, name, one, None, *plain)
    yield "langevin, temperature", output_of("langevin_step", x, score, 0.1, 0.5, name, one, other, *plain)
    mean, mask = torch.full_like(x, float("nan")), x0 > 0
    yield (
        "affine",
        output_of(
            "affine_step",
            x,
            score,
            0.9,
            0.1,
            0.2,
            name,
            None,
            one,
            other,
            mean,
            mask,
            -1.0,
            1.0,
            0.8,
            seeds,
            ids,
        ),
    )
    yield "affine's mean", mean
    yield "affine, a", output_of("affine_step", x, score, 0.9, 0.1, 0.2, name, other, None, one, *plain)
    for above in (torch.tensor(1.5, dtype=wide), levels(batch, dtype=wide)):
        for over in (False, True):
            given = (above, x, 0.7, 1.0, 0.0, 1.5, 0.5, over, 1, name)
            yield (
                f"gradient, {over}",
                output_of("denoising_grad", *given, one, None, None, other, None, None, None, None, None),
            )
    above = normal(*x.shape, dtype=wide, seed=4)
    given = (above, x, 0.7, -0.4, 0.6, 1.5, 1.0, False, 0, name)
    yield (
        "gradient of elements",
        output_of("denoising_grad", *given, other, one, one, None, None, x0, None, None, None),
    )
    for weight in (one, other):
        loss = torch.full_like(x, float("nan"), dtype=wide)
        ops["denoising_loss"](
            loss, None, x, 0.7, 1.0, 0.0, 1.5, 0.5, False, 0, name, *[None] * 3, weight, *[None] * 5
        )
        yield "loss of elements", loss


def assert_the_references_bits(ops: Ops, x: Tensor, *counts: int) -> None:
    for (which, got), (_, want) in zip(calls(ops, x, *counts), calls(reference.OPS, x, *counts), strict=True):
        assert_equal(got, want, msg=lambda text, which=which: f"{which}: {text}")


def assert_close_sums(ops: Ops, x: Tensor, *counts: int, reduction: int) -> None:
    """Losses are near the reference's; gradients have its bits."""
    for got, want in zip(
        sums(ops, x, *counts, reduction), sums(reference.OPS, x, *counts, reduction), strict=True
    ):
        assert_equal(got[1], want[1])
        torch.testing.assert_close(got[0], want[0], rtol=3e-6, atol=0)


def sums(ops: Ops, x: Tensor, first: int, second: int, reduction: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields (loss, gradient) of losses that are summed."""
    name, one, other = NOISE._name, levels(first), levels(second, seed=1)
    z, x0 = normal(*x.shape, dtype=x.dtype, seed=1), normal(*x.shape, dtype=x.dtype, seed=2)
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    for over, rows, rest in (
        (True, (one, None, None, None), (None, None, None, None, None)),
        (False, (None, None, None, one), (None, None, None, None, None)),
        (False, (other, one, one, other), (z, x0, None, None, None)),
    ):
        loss = torch.full(x.shape[:1] if reduction == 1 else (), float("nan"), dtype=wide)
        grad = torch.full_like(x, float("nan"))
        ops["denoising_loss"](loss, grad, x, 0.7, 1.0, 0.3, 1.5, 0.5, over, reduction, name, *rows, *rest)
        yield loss, grad


def layouts(x: Tensor) -> Iterator[Tensor]:
    """Yields the same samples in other strides; x has three dimensions."""
    yield x.transpose(1, 2).contiguous().transpose(1, 2)
    yield torch.stack([x, x], -1)[..., 0]
    yield torch.cat([x.flatten()[:1], x.flatten()])[1:].view(x.shape)
    yield torch.cat([x, x], 1)[:, : x.shape[1]]
