"""dsm_loss and denoising_loss: values, and the gradient of one backward pass.
test_losses_autograd.py has more on autograd."""

from __future__ import annotations

import emulated
import pytest
import torch
from cases import LARGE, assert_equal, column, levels, name_of, normal

import pyebm
from pyebm import Noise

pytestmark = pytest.mark.usefixtures("poison", "one_thread")

NOISE = Noise(3, step=4)
REDUCTIONS = ("none", "sample", "sum", "mean", "batchmean")


def affine(batch, device="cpu"):
    """Coefficients as numbers and tensors, of several dtypes and signs."""
    return {
        "kappa": levels(batch, device, seed=1) - 0.6,
        "lam": -0.4,
        "mu": levels(batch, device, seed=2, dtype=torch.float64),
        "weight": levels(batch, device, seed=3),
    }


def calls(x, device="cpu"):
    """Returns {name: loss(pred, noise, **options)} for losses of every kind."""
    batch = x.shape[0]
    x0, sigma = normal(*x.shape, dtype=x.dtype, device=device, seed=7), levels(batch, device, seed=4)
    return {
        "dsm": lambda pred, noise, **kw: pyebm.dsm_loss(pred, 0.3, noise, **kw),
        "dsm-sigma2": lambda pred, noise, **kw: pyebm.dsm_loss(pred, sigma, noise, weight="sigma2", **kw),
        "dsm-rows": lambda pred, noise, **kw: pyebm.dsm_loss(pred, sigma, noise, weight=sigma, **kw),
        "epsilon": lambda pred, noise, **kw: pyebm.denoising_loss(pred, noise, **kw),
        "affine": lambda pred, noise, **kw: pyebm.denoising_loss(
            pred, noise, x0=x0, half=True, **affine(batch, device), **kw
        ),
    }


KINDS = tuple(calls(normal(1, 1)))


def formula(kind, pred, z, dtype, device="cpu"):
    """The elementwise loss in plain PyTorch, as the docstrings define it, of a float64 pred; x0
    is drawn in ``dtype``."""
    sigma, x0 = (
        column(levels(pred.shape[0], device, seed=4), pred).double(),
        normal(*pred.shape, dtype=dtype, device=device, seed=7),
    )
    z = z.double()
    if kind == "dsm":
        return 0.5 * (pred + z / 0.3) ** 2
    if kind.startswith("dsm"):
        return 0.5 * (sigma**2 if kind == "dsm-sigma2" else sigma) * (pred + z / sigma) ** 2
    if kind == "epsilon":
        return (pred - z) ** 2
    c = {
        k: column(v, pred).double() if isinstance(v, torch.Tensor) else v
        for k, v in affine(pred.shape[0], device).items()
    }
    return 0.5 * c["weight"] * (c["kappa"] * pred + c["lam"] * z + c["mu"] * x0) ** 2


def reduced(loss, reduction):
    if reduction == "none":
        return loss
    sums = loss.flatten(1).sum(1) if loss.dim() > 1 else loss
    return {"sample": sums, "sum": loss.sum(), "mean": loss.mean(), "batchmean": sums.mean()}[reduction]


def with_gradient(loss, pred, noise, seed=9, **options):
    """Returns (loss, gradient) for a random grad_output, because a loss is seldom the last
    layer."""
    pred = pred.detach().requires_grad_()
    value = loss(pred, noise, **options)
    above = normal(*value.shape, dtype=value.dtype, device=pred.device, seed=seed)
    return value.detach(), torch.autograd.grad(value, pred, above)[0]


@pytest.mark.parametrize("own", [False, True], ids=["noise", "own-noise"])
@pytest.mark.parametrize("kind", ["dsm-rows", "affine"])
def test_equals_the_reference(backend, device, dtype, shape, kind, own):
    """Gradients and elementwise losses agree to the bit; sums, whose bits are not promised,
    agree closely."""
    pred = normal(*shape, dtype=dtype, device=device)
    loss = calls(pred, device)[kind]
    noise = normal(*shape, dtype=dtype, device=device, seed=5) if own else NOISE
    for reduction in ("none", "sample", "batchmean"):
        got, gradient = with_gradient(loss, pred, noise, reduction=reduction, backend=backend)
        want, other = with_gradient(loss, pred, noise, reduction=reduction, backend="reference")
        assert_equal(gradient, other)
        assert gradient.dtype == dtype
        rtol = 0 if reduction == "none" else 1e-14 if dtype == torch.float64 else 1e-6
        torch.testing.assert_close(
            got, want, rtol=rtol, atol=0, equal_nan=shape[0] == 0
        )  # the mean of nothing is NaN


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
class TestEqualsTheFormula:
    def test_value(self, backend, device, dtype, kind, reduction):
        pred = normal(6, 5, 33, dtype=dtype, device=device)
        got = calls(pred, device)[kind](pred, NOISE, reduction=reduction, backend=backend)
        want = reduced(
            formula(kind, pred.double(), NOISE.randn(pred.shape, device=device), dtype, device), reduction
        )
        assert got.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        # float32 sums are good to 1e-6; a single element loses more by cancellation, and its own
        # size does not show how much.
        rtol, atol = (1e-13, 1e-14) if dtype == torch.float64 else (1e-6, 2e-6 if reduction == "none" else 0)
        torch.testing.assert_close(got.double(), want, rtol=rtol, atol=atol)

    def test_gradient(self, backend, device, dtype, kind, reduction):
        pred = normal(6, 5, 33, dtype=dtype, device=device)
        _, got = with_gradient(calls(pred, device)[kind], pred, NOISE, reduction=reduction, backend=backend)
        at = pred.double().requires_grad_()
        loss = reduced(formula(kind, at, NOISE.randn(pred.shape, device=device), dtype, device), reduction)
        above = normal(
            *loss.shape, dtype=got.dtype if dtype == torch.float64 else torch.float32, device=device, seed=9
        )
        (want,) = torch.autograd.grad(loss, at, above.double())
        rtol = {torch.float64: 1e-13, torch.float32: 1e-6, torch.float16: 2**-11, torch.bfloat16: 2**-8}[
            dtype
        ]
        tiny = 2.0**-24 if dtype == torch.float16 else 0  # the least positive float16
        torch.testing.assert_close(got.double(), want, rtol=rtol, atol=rtol * want.abs().max().item() + tiny)


def test_float32_elementwise_is_the_plain_expression(backend, device):
    pred, z = normal(7, 31, device=device), NOISE.randn((7, 31), device=device)
    r = 0.25 * pred + z
    assert_equal(pyebm.dsm_loss(pred, 0.25, NOISE, reduction="none", backend=backend), 8.0 * (r * r))
    r = pred - z
    assert_equal(pyebm.denoising_loss(pred, NOISE, reduction="none", backend=backend), r * r)


@pytest.mark.parametrize("kind", KINDS)
def test_own_noise_equals_the_regenerated(backend, device, dtype, kind):
    """float64 noise is regenerated from the same float32 normals; a half-precision tensor would
    round them, so the test gives float32."""
    pred = normal(6, 5, 33, dtype=dtype, device=device)
    z = NOISE.randn(pred.shape, dtype=torch.promote_types(dtype, torch.float32), device=device)
    for reduction in ("none", "sample", "mean"):
        want = with_gradient(calls(pred, device)[kind], pred, NOISE, reduction=reduction, backend=backend)
        got = with_gradient(calls(pred, device)[kind], pred, z, reduction=reduction, backend=backend)
        assert_equal(got, want)


@pytest.mark.parametrize("size", [(3,), (5, 33), (2, 513), (1031,), (3 * 1024,)], ids=name_of)
def test_a_sample_does_not_depend_on_its_batch(backend, device, size):
    pred, sigma, order = normal(7, *size, device=device), levels(7, device), torch.tensor([5, 0, 5])

    def loss_and_gradient(rows, noise):
        part = pred[rows].clone().requires_grad_()
        loss = pyebm.dsm_loss(part, sigma[rows], noise, reduction="sample", backend=backend)
        return loss.detach(), torch.autograd.grad(loss.sum(), part)[0]

    whole = loss_and_gradient(slice(None), NOISE)
    for rows, noise in (
        (slice(4, 7), NOISE.shard(first_sample=4)),
        (order, Noise(3, step=4, sample_ids=order)),
    ):
        assert_equal(loss_and_gradient(rows, noise), tuple(t[rows] for t in whole))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", LARGE, ids=name_of)
def test_threads_change_nothing(backend, device, shape, reduction):
    """Not even the sums change: with one thread, with two, and on every run."""
    if backend == emulated.BACKEND:
        pytest.skip("torch's threads are not its own; test_emulated.py changes the order of its threads")
    pred, before, results = normal(*shape, device=device), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            results.append(
                with_gradient(
                    calls(pred, device)["affine"], pred, NOISE, reduction=reduction, backend=backend
                )
            )
    finally:
        torch.set_num_threads(before)
    assert_equal(results[1:], results[:1] * 2)


@pytest.mark.parametrize("kind", KINDS)
def test_nan_stays_in_its_sample(backend, device, dtype, kind):
    pred = normal(5, 300, dtype=dtype, device=device)
    clean = {
        r: with_gradient(calls(pred, device)[kind], pred, NOISE, reduction=r, backend=backend)
        for r in ("none", "sample")
    }
    at = torch.zeros(5, 300, dtype=torch.bool, device=device)
    at[[1, 4], [7, 299]] = True
    pred[at] = torch.nan
    for reduction, (loss, gradient) in clean.items():
        got, slope = with_gradient(
            calls(pred, device)[kind], pred, NOISE, reduction=reduction, backend=backend
        )
        ill = at if reduction == "none" else at.any(1)
        assert got[ill].isnan().all()
        assert slope[at].isnan().all()
        assert_equal(got[~ill], loss[~ill])
        assert_equal(slope[~at], gradient[~at])


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)], ids=name_of)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_empty(backend, device, dtype, shape, reduction):
    """As in torch, the sum of no elements is 0, and their mean is NaN."""
    pred = normal(*shape, dtype=dtype, device=device, grad=True)
    loss = pyebm.dsm_loss(pred, levels(shape[0], device), NOISE, reduction=reduction, backend=backend)
    assert_equal(loss.detach().double(), reduced(pred.detach().double(), reduction), equal_nan=True)
    loss.sum().backward()
    assert pred.grad.shape == shape


def test_empty_samples_with_coefficients_by_element(backend, device):
    """A sum of nothing is 0, whatever its weights."""
    pred = torch.empty(3, 0, device=device)
    nothing = torch.empty(3, 0, device=device)
    assert_equal(
        pyebm.dsm_loss(pred, nothing, NOISE, reduction="sample", backend=backend),
        torch.zeros(3, device=device),
    )
    weighed = pyebm.denoising_loss(pred, NOISE, weight=nothing, reduction="sum", backend=backend)
    assert_equal(weighed, torch.zeros((), device=device))


def test_modules_are_the_functions():
    pred, x0, sigma = normal(4, 9), normal(4, 9, seed=1), levels(4)
    module = pyebm.losses.DSMLoss(weight="sigma2", reduction="sample")
    assert_equal(
        module(pred, sigma, NOISE), pyebm.dsm_loss(pred, sigma, NOISE, weight="sigma2", reduction="sample")
    )
    assert repr(module) == "DSMLoss(weight='sigma2', reduction='sample')"
    options = {"kappa": sigma, "lam": 0.5, "mu": -1.0, "x0": x0, "weight": sigma}
    module = pyebm.losses.DenoisingLoss(half=True, reduction="sum")
    assert_equal(
        module(pred, NOISE, **options),
        pyebm.denoising_loss(pred, NOISE, half=True, reduction="sum", **options),
    )
    assert not list(module.parameters())
