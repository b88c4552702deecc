"""The losses under autograd: beneath other layers, differentiated twice, accumulated, scaled, in
low precision, and under autocast."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, column, levels, name_of, normal

import pyebm
from pyebm import Noise

pytestmark = pytest.mark.usefixtures("poison", "one_thread")

NOISE = Noise(3, step=4)
REDUCTIONS = ("none", "sample", "sum", "mean", "batchmean")
HALVES = (torch.float16, torch.bfloat16)

X0 = normal(4, 7, dtype=torch.float64, seed=7)
LOSSES = {
    "dsm": lambda pred, noise, **kw: pyebm.dsm_loss(pred, levels(4, pred.device), noise, **kw),
    "affine": lambda pred, noise, **kw: pyebm.denoising_loss(
        pred,
        noise,
        kappa=levels(4, pred.device),
        mu=-0.3,
        x0=X0.to(pred),
        weight=levels(4, pred.device, seed=1),
        **kw,
    ),
}


def plain(name, pred, reduction):
    """The same loss in plain PyTorch, with the noise in pred's dtype."""
    z, (s, w) = (
        NOISE.randn(pred.shape, dtype=pred.dtype),
        (column(levels(4, seed=seed), pred).to(pred) for seed in (0, 1)),
    )
    loss = 0.5 * (pred + z / s) ** 2 if name == "dsm" else w * (s * pred - z - 0.3 * X0.to(pred)) ** 2
    sums = loss.sum(1)
    return {"none": loss, "sample": sums, "sum": sums.sum(), "mean": loss.mean(), "batchmean": sums.mean()}[
        reduction
    ]


LOSS_AND_REDUCTION = [
    pytest.param(loss, r, id=f"{name}-{r}") for name, loss in LOSSES.items() for r in REDUCTIONS
]


def given(own, pred):
    """Returns the noise by name, or the same numbers as a tensor (in float32 and float64, where
    they are equal)."""
    return NOISE.randn(pred.shape, dtype=pred.dtype, device=pred.device) if own else NOISE


@pytest.mark.parametrize(("loss", "reduction"), LOSS_AND_REDUCTION)
@pytest.mark.parametrize("own", [False, True], ids=["noise", "own-noise"])
class TestDerivatives:
    def test_gradcheck(self, loss, reduction, own):
        pred = normal(4, 7, dtype=torch.float64, grad=True)
        assert torch.autograd.gradcheck(lambda pred: loss(pred, given(own, pred), reduction=reduction), pred)

    def test_gradgradcheck(self, loss, reduction, own):
        pred = normal(4, 7, dtype=torch.float64, grad=True)
        assert torch.autograd.gradgradcheck(
            lambda pred: loss(pred, given(own, pred), reduction=reduction), pred
        )

    def test_create_graph_changes_no_bit(self, backend, device, loss, reduction, own):
        pred = normal(4, 7, device=device, grad=True)
        grads = []
        for create_graph in (False, True):
            value = loss(pred, given(own, pred), reduction=reduction, backend=backend)
            above = normal(*value.shape, device=device, seed=5)
            grads.append(torch.autograd.grad(value, pred, above, create_graph=create_graph)[0])
        assert grads[1].requires_grad
        assert not grads[0].requires_grad
        assert_equal(grads[1].detach(), grads[0])

    def test_retained_graph(self, backend, device, dtype, loss, reduction, own):
        """Three backward passes with different gradients from above: each gives what it would
        give as the first."""
        pred = normal(4, 7, dtype=dtype, device=device, grad=True)
        noise = given(own, pred)
        value = loss(pred, noise, reduction=reduction, backend=backend)
        for scale in (3.0, 1.0, -0.5):
            above = scale * normal(*value.shape, dtype=value.dtype, device=device, seed=5)
            (got,) = torch.autograd.grad(value, pred, above, retain_graph=True)
            (want,) = torch.autograd.grad(
                loss(pred, noise, reduction=reduction, backend=backend), pred, above
            )
            assert_equal(got, want)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", LOSSES)
def test_not_the_last_layer(backend, device, dtype, name, reduction):
    """The loss is in the middle of a graph, beside another use of the same tensor, and gradients
    accumulate in the leaf."""

    def gradient(dtype, loss):
        leaf = normal(4, 7, dtype=torch.float64, device=device).to(dtype).requires_grad_()
        for factor in (2.5, -1.0):
            pred = leaf.tanh()
            (factor * loss(pred).square().sum() + (0.1 * pred).sum()).backward()
        return leaf.grad.double()

    got = gradient(dtype, lambda pred: LOSSES[name](pred, NOISE, reduction=reduction, backend=backend))
    want = gradient(torch.float64, lambda pred: plain(name, pred, reduction))
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance * want.abs().max().item())


def test_gradient_penalty_trains(backend, device):
    """Differentiates a function of the loss's gradient, against plain PyTorch."""

    def gradient(loss):
        weight = normal(7, 7, device=device, seed=1, grad=True)
        x = normal(4, 7, device=device, grad=True)
        (slope,) = torch.autograd.grad(loss(x @ weight), x, create_graph=True)
        slope.square().sum().backward()
        return weight.grad

    got = gradient(lambda pred: LOSSES["dsm"](pred, NOISE, backend=backend))
    want = gradient(lambda pred: plain("dsm", pred, "batchmean"))
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5 * want.abs().max().item())


class TestLowPrecision:
    def test_a_scaler_saves_small_gradients(self, backend, device):
        """Gradients below float16's least number survive when scaled by 65536, as under
        torch.amp.GradScaler."""
        pred = normal(64, 1024, dtype=torch.float16, device=device, grad=True)
        (plain,) = torch.autograd.grad(pyebm.denoising_loss(pred, NOISE, weight=1e-4, backend=backend), pred)
        (scaled,) = torch.autograd.grad(
            65536 * pyebm.denoising_loss(pred, NOISE, weight=1e-4, backend=backend), pred
        )
        exact = (
            2e-4 / pred.numel() * (pred.detach().double() - NOISE.randn(pred.shape, device=device).double())
        )
        assert (plain == 0).double().mean() > 0.9  # they underflow unless scaled
        torch.testing.assert_close(scaled.double() / 65536, exact, rtol=2**-11, atol=2.0**-25 / 65536)

    @pytest.mark.parametrize("dtype", HALVES, ids=name_of)
    def test_the_kept_gradient_is_the_one_made_anew(self, backend, device, dtype):
        """The forward pass keeps a gradient for grad_output = 1. A second backward pass makes its
        own, and so does the first one for another grad_output."""
        pred = normal(64, 7, dtype=dtype, device=device, grad=True)
        for factor in (1.0, 3.0):
            loss = pyebm.denoising_loss(pred, NOISE, backend=backend)
            above = torch.full_like(loss, factor)
            first, again = (torch.autograd.grad(loss, pred, above, retain_graph=True) for _ in range(2))
            assert_equal(first, again)

    @pytest.mark.parametrize("dtype", HALVES, ids=name_of)
    @pytest.mark.parametrize("weight", [None, "sigma2"])
    def test_small_sigma_does_not_overflow(self, backend, device, dtype, weight):
        """(score + z / sigma)^2 exceeds float16's 65504 here, and yet the loss is as good as its
        input."""
        sigma = torch.tensor([1e-4, 1e-3, 1e-2, 10.0], device=device)
        z = NOISE.randn((4, 4096), device=device)
        exact_score = -z / sigma[:, None]
        score = (exact_score.clamp(-6e4, 6e4) + normal(4, 4096, device=device)).to(dtype).requires_grad_()
        loss = pyebm.dsm_loss(score, sigma, NOISE, weight=weight, reduction="sample", backend=backend)
        s, t = score.detach().double(), sigma.double()[:, None]
        factor = 0.5 * (1.0 if weight is None else t**2)
        torch.testing.assert_close(
            loss.double(), (factor * (s + z.double() / t) ** 2).sum(1), rtol=1e-5, atol=0
        )
        (grad,) = torch.autograd.grad(loss.sum(), score)
        # The residual is a small difference, so its float32 error is relative to z / sigma.
        want, eps = 2 * factor * (s + z.double() / t), torch.finfo(dtype).eps
        error = (grad.double() - want).abs() - eps * want.abs() - 2 * factor * 2**-22 * (z.double() / t).abs()
        assert error.max() < (2.0**-25 if dtype == torch.float16 else 0.0) + 1e-30

    def test_a_wider_target_widens(self, backend, device):
        """With float32 noise or x0 and a half-precision prediction, only the gradient is
        rounded."""
        pred = normal(4, 7, dtype=torch.bfloat16, device=device, grad=True)
        z, x0 = normal(4, 7, device=device, seed=1), normal(4, 7, device=device, seed=2)
        wide = pred.detach().float().requires_grad_()
        got = pyebm.denoising_loss(pred, z, mu=0.5, x0=x0, backend=backend)
        want = pyebm.denoising_loss(wide, z, mu=0.5, x0=x0, backend=backend)
        assert_equal(got, want)
        (a,), (b,) = torch.autograd.grad(got, pred), torch.autograd.grad(want, wide)
        assert_equal(a, b.bfloat16())

    @pytest.mark.parametrize("reduction", ["mean", "none"])
    def test_autocast(self, backend, device, reduction):
        """Like torch's losses, it takes a half-precision prediction and returns a float32 loss,
        with gradients for float32 parameters."""
        net, x = torch.nn.Linear(7, 7, device=device), normal(4, 7, device=device)
        with torch.no_grad():
            net.weight.copy_(normal(7, 7, seed=1))
            net.bias.zero_()
        sigma = levels(4, device)
        with torch.autocast(device.type, torch.bfloat16):
            pred = net(pyebm.perturb(x, sigma, NOISE, backend=backend))
            assert pred.dtype == torch.bfloat16
            loss = pyebm.dsm_loss(pred, sigma, NOISE, reduction=reduction, backend=backend)
        assert loss.dtype == torch.float32
        assert_equal(loss, pyebm.dsm_loss(pred, sigma, NOISE, reduction=reduction, backend=backend))
        loss.sum().backward()
        pred = pred.detach().requires_grad_()
        pyebm.dsm_loss(pred, sigma, NOISE, reduction=reduction, backend=backend).sum().backward()
        noisy = pyebm.perturb(x, sigma, NOISE, backend=backend).bfloat16()
        want = pred.grad.double().T @ noisy.double()
        torch.testing.assert_close(
            net.weight.grad.double(), want, rtol=1e-2, atol=1e-2 * want.abs().max().item()
        )


@pytest.mark.parametrize("changed", ["pred", "noise", "x0", "kappa", "weight"])
def test_what_backward_needs_must_not_change_unseen(backend, device, changed):
    """Backward gives the right gradient, or torch refuses it because its saved tensors were
    written to."""
    tensors = {
        "noise": normal(4, 7, device=device, seed=1),
        "x0": normal(4, 7, device=device, seed=2),
        "kappa": levels(4, device),
    }
    tensors["weight"] = levels(4, device, seed=1)
    pred = normal(4, 7, device=device, grad=True) * 1.0
    leaf = pred

    def loss():
        return pyebm.denoising_loss(pred, mu=0.5, reduction="none", backend=backend, **tensors)

    above = normal(4, 7, device=device, seed=5)
    (want,) = torch.autograd.grad(loss(), leaf, above)
    value = loss()
    with torch.no_grad():
        {**tensors, "pred": pred}[changed].mul_(-3)
    try:
        (got,) = torch.autograd.grad(value, leaf, above)
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error)  # noqa: PT017 (both outcomes are right)
    else:
        assert_equal(got, want)


def test_no_graph_without_need(backend, device):
    pred = normal(4, 7, device=device, grad=True)
    with torch.no_grad():
        assert not pyebm.dsm_loss(pred, 0.3, NOISE, backend=backend).requires_grad
    with torch.inference_mode():
        assert_equal(
            pyebm.dsm_loss(pred.detach(), 0.3, NOISE, backend=backend).clone(),
            pyebm.dsm_loss(pred, 0.3, NOISE, backend=backend).detach().clone(),
        )
    assert not pyebm.dsm_loss(pred.detach(), 0.3, NOISE, backend=backend).requires_grad
