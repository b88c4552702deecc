"""The CPU kernels make the coefficients, noise and sums of many narrow samples at a time: the
bits are those of one sample at a time."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, levels, normal
from torch import Tensor

from pyebm import Noise, _ops, denoising_loss, dsm_loss, langevin_step, perturb

pytestmark = pytest.mark.usefixtures("poison", "one_thread", "simd")

LANES = 16
WIDTHS = (1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 48)


def sums_in_order(terms: Tensor) -> Tensor:
    """The order in which the loss kernel promises to sum a sample: sixteen sums, each of every
    sixteenth element, then added one after another."""
    rows, width = terms.shape
    lanes = torch.zeros(rows, LANES, dtype=terms.dtype)
    for i in range(width):
        lanes[:, i % LANES] += terms[:, i]
    total = torch.zeros(rows, dtype=terms.dtype)
    for lane in range(min(width, LANES)):
        total += lanes[:, lane]
    return total


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("per_sample", [False, True], ids=["number", "per sample"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_sums_keep_their_order(width, per_sample, dtype):
    pred, z = normal(600, width, dtype=dtype), normal(600, width, dtype=dtype, seed=1)
    kappa = levels(600, dtype=dtype) if per_sample else 0.7
    residual = (kappa[:, None] if per_sample else kappa) * pred - z
    want = (0.5 * sums_in_order(residual * residual).double()).to(dtype)
    got = denoising_loss(pred, z, kappa=kappa, lam=-1.0, weight=0.5, reduction="sample")
    assert_equal(got, want)
    total, losses = 0.0, (0.5 * sums_in_order(residual * residual).double()).tolist()
    for block in (losses[k : k + 64] for k in range(0, len(losses), 64)):
        lanes = [sum(block[lane::8]) for lane in range(8)]
        total += ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + (
            (lanes[1] + lanes[5]) + (lanes[3] + lanes[7])
        )
    assert_equal(
        denoising_loss(pred, z, kappa=kappa, lam=-1.0, weight=0.5, reduction="sum"),
        torch.tensor(total, dtype=dtype),
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_every_sample_is_what_it_is_alone(width):
    x, sigma, noise = normal(600, width), levels(600), Noise(4)
    calls = {
        "perturb": lambda x, sigma, noise: perturb(x, sigma, noise),
        "step": lambda x, sigma, noise: langevin_step(x, -x, sigma, noise),
        "loss": lambda x, sigma, noise: dsm_loss(x, sigma, noise, weight="sigma2", reduction="sample"),
    }
    for call in calls.values():
        whole = call(x, sigma, noise)
        for b in (0, 1, 255, 256, 257, 511, 512, 599):
            assert_equal(call(x[b : b + 1], float(sigma[b]), noise.shard(first_sample=b)), whole[b : b + 1])


def test_more_sums_than_are_kept_at_once():
    """Samples beyond the first 2^18 are summed after them, in the same order."""
    pred, sigma = normal(300_000, 1), levels(300_000)
    noise = Noise(1)
    each = dsm_loss(pred, sigma, noise, reduction="sample")
    assert_equal(
        each[262_000:],
        dsm_loss(pred[262_000:], sigma[262_000:], noise.shard(first_sample=262_000), reduction="sample"),
    )
    total = dsm_loss(pred, sigma, noise, reduction="sum")
    torch.testing.assert_close(total, each.double().sum().float(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("rows", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("reduction", ["none", "sample", "sum"])
def test_coefficients_of_samples(width, rows, reduction):
    """Losses and gradients whose coefficients differ between samples have the reference's bits,
    summed in the kernel's order."""
    z, x0 = normal(2100, width, seed=1), normal(2100, width, seed=2)
    kappa, lam, mu, weight = (levels(2100, seed=seed).to(rows) for seed in range(4))
    above = (
        normal(2100, width)
        if reduction == "none"
        else normal(2100)
        if reduction == "sample"
        else torch.tensor(0.5)
    )
    for options in (
        {"kappa": kappa},
        {"kappa": kappa, "lam": lam, "mu": mu, "weight": weight, "x0": x0},
        {"x0": x0, "mu": mu},
    ):
        got = normal(2100, width).requires_grad_()
        loss = denoising_loss(got, z, reduction=reduction, **options)
        loss.backward(above)
        given = {key: value if key == "x0" else value[:, None] for key, value in options.items()}
        pred = normal(2100, width)
        a, b, c, w = (given.get(key, torch.tensor(default)) for key, default in DEFAULTS.items())
        residual = a.float() * pred + b.float() * z
        if "x0" in options:
            residual = residual + c.float() * x0
        grad = (2.0 * w.double() * a.double()).float() * residual
        grad = grad * (above if above.dim() != 1 else above[:, None])
        assert_equal(got.grad, grad)
        assert_equal(denoising_loss(pred, z, reduction=reduction, **options), loss.detach())
        if reduction == "none":
            assert_equal(loss.detach(), w.float() * (residual * residual))
        elif reduction == "sample":
            of_sample = w.double().expand(2100, 1)[:, 0]
            assert_equal(loss.detach(), (sums_in_order(residual * residual).double() * of_sample).float())


DEFAULTS = {"kappa": 1.0, "lam": -1.0, "mu": 0.0, "weight": 1.0}


@pytest.mark.parametrize("width", [*WIDTHS, 1500])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_leapfrog_and_scale(width, dtype):
    """HMC's kick and drift, and a kept gradient times the gradient from above: with a number for
    each sample, or one for all."""
    x, p, s = (normal(1100, width, seed=seed).to(dtype) for seed in range(3))
    for rows in (None, levels(1100).double(), levels(1100), levels(2200)[::2]):
        got, want = (x.clone(), p.clone()), (x.clone(), p.clone())
        number = 0.3 if rows is None else float("nan")
        _ops.kernels(None, x)["leapfrog"](*got, number, s, None, None, rows)
        _ops.kernels("reference", x)["leapfrog"](*want, number, s, None, None, rows)
        for one, other in zip(got, want, strict=True):
            assert_equal(one, other)
    if dtype != torch.bfloat16:
        for above in (levels(1100).to(dtype), levels(2200).to(dtype)[::2], torch.tensor(0.3, dtype=dtype)):
            got = x.clone()
            _ops.kernels(None, x)["scale_"](got, above)
            assert_equal(got, x * (above[:, None] if above.dim() else above))
