"""The training step against diffusers' own: add_noise, the target, mse_loss and the weights of
compute_snr, as in its scripts."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, column, normal
from compare import DTYPES, assert_as_good, gradient
from peers import package
from torch.nn.functional import mse_loss

from pyebm import Noise

diffusers = package("diffusers")
from diffusers.training_utils import compute_snr  # noqa: E402

from pyebm.integrations.diffusers import add_noise, loss  # noqa: E402

SHAPE = (6, 4, 8, 8)
NOISE = Noise(1, step=7)
TIMES = torch.tensor([0, 3, 40, 400, 900, 999])
KINDS = ("epsilon", "v_prediction", "sample")


def schedule(dtype=torch.float32, **options):
    made = diffusers.DDPMScheduler(**options)
    made.alphas_cumprod = made.alphas_cumprod.to(dtype)
    return made


def theirs(scheduler, pred, x0, z, kind, gamma):
    target = {
        "epsilon": lambda: z,
        "v_prediction": lambda: scheduler.get_velocity(x0, z, TIMES),
        "sample": lambda: x0,
    }[kind]()
    work = torch.float64 if pred.dtype == torch.float64 else torch.float32
    if gamma is None:
        return mse_loss(pred.to(work), target.to(work))
    snr = compute_snr(scheduler, TIMES).to(work)
    weight = torch.stack([snr, gamma * torch.ones_like(TIMES)], dim=1).min(dim=1)[0]
    weight = {"epsilon": weight / snr, "v_prediction": weight / (snr + 1), "sample": weight}[kind]
    losses = mse_loss(pred.to(work), target.to(work), reduction="none").mean(dim=[1, 2, 3])
    return (losses * weight).mean()


@pytest.mark.parametrize("gamma", [None, 5.0])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ours", [True, False], ids=["regenerated", "caller's noise"])
def test_loss_and_gradient(dtype, kind, gamma, ours):
    x0, pred, z = (normal(*SHAPE, dtype=dtype, seed=k) for k in range(3))
    if ours:
        z = NOISE.randn(SHAPE, dtype=dtype)  # ours uses the float32 numbers behind it
    noise = NOISE if ours else z
    exact_z = NOISE.randn(SHAPE, dtype=torch.float64) if ours else z.double()
    pred.requires_grad_()
    noisy, noised = add_noise(schedule(prediction_type=kind), x0, noise, TIMES)
    assert noisy.dtype == dtype
    got = gradient(loss(pred, noised, snr_gamma=gamma), pred)
    assert got[0].dtype == torch.promote_types(dtype, torch.float32)
    scheduler, exact = schedule(), schedule(torch.float64)
    plain = gradient(theirs(scheduler, pred, x0, z, kind, gamma), pred)
    wide = pred.detach().double().requires_grad_()
    truth = gradient(theirs(exact, wide, x0.double(), exact_z, kind, gamma), wide)
    for triple in zip(got, plain, truth, strict=True):
        assert_as_good(*triple)
    assert_as_good(noisy, scheduler.add_noise(x0, z, TIMES), exact.add_noise(x0.double(), exact_z, TIMES))


def test_the_scheduler_keeps_its_precision():
    """diffusers rounds alphas_cumprod to the latents' dtype; in float16 that loses the first
    steps' noise."""
    scheduler = diffusers.DDPMScheduler()
    add_noise(scheduler, normal(*SHAPE, dtype=torch.float16), NOISE, TIMES)
    assert scheduler.alphas_cumprod.dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
def test_zero_terminal_snr(kind):
    """Where abar = 0, diffusers computes an epsilon weight as 0/0."""
    scheduler = diffusers.DDPMScheduler(rescale_betas_zero_snr=True, beta_schedule="scaled_linear")
    scheduler.alphas_cumprod[-1] = 0.0  # diffusers clamps it to 2**-24 in some versions
    x0, pred = normal(*SHAPE), normal(*SHAPE, seed=1).requires_grad_()
    noisy, noised = add_noise(scheduler, x0, NOISE, TIMES)
    assert_equal(noisy[-1], NOISE.randn(SHAPE)[-1])
    losses = loss(pred, noised, kind, snr_gamma=5.0, reduction="sample")
    (grad,) = torch.autograd.grad(losses.sum(), pred)
    assert losses.isfinite().all()
    assert grad.isfinite().all()
    limit = {"epsilon": (pred - NOISE.randn(SHAPE)).square().sum((1, 2, 3))[-1].item()}.get(kind, 0.0)
    assert losses[-1].item() == pytest.approx(limit, rel=1e-5)


def test_noise_offset_of_the_callers_noise():
    """noise += offset * randn(B, C, 1, 1), as in diffusers' scripts."""
    x0, z, scheduler = normal(*SHAPE), normal(*SHAPE, seed=1), schedule()
    torch.manual_seed(3)
    noisy, noised = add_noise(scheduler, x0, z, TIMES, noise_offset=0.1)
    torch.manual_seed(3)
    shifted = z + 0.1 * torch.randn(*SHAPE[:2], 1, 1)
    assert_equal(noised.noise, shifted)
    torch.testing.assert_close(noisy, scheduler.add_noise(x0, shifted, TIMES))


def test_input_perturbation_of_the_callers_noise():
    """The network sees noise + p * randn; the target stays."""
    x0, z, scheduler = normal(*SHAPE), normal(*SHAPE, seed=1), schedule()
    torch.manual_seed(3)
    noisy, noised = add_noise(scheduler, x0, z, TIMES, input_perturbation=0.1)
    torch.manual_seed(3)
    torch.testing.assert_close(noisy, scheduler.add_noise(x0, z + 0.1 * torch.randn(*SHAPE), TIMES))
    assert noised.noise is z


def test_offset_and_perturbation_of_ours(dtype):
    """Offset and perturbation come from the next streams, a sample's from its own noise: half of
    the batch, called alone, gets the same."""
    x0, scheduler = normal(*SHAPE, dtype=dtype), schedule(torch.float64)
    options = {"noise_offset": 0.1, "input_perturbation": 0.2}
    noisy, noised = add_noise(scheduler, x0, NOISE, TIMES, **options)
    offset, further = NOISE.at(stream=1).randn((*SHAPE[:2], 1, 1)), NOISE.at(stream=2).randn(SHAPE)
    z = NOISE.randn(SHAPE, dtype=dtype).double() + 0.1 * offset.double()
    tolerance = {"rtol": 0, "atol": 8 * max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)}
    torch.testing.assert_close(noised.noise.double(), z, **tolerance)
    torch.testing.assert_close(
        noisy.double(), scheduler.add_noise(x0.double(), z + 0.2 * further.double(), TIMES), **tolerance
    )
    half, _ = add_noise(scheduler, x0[3:], NOISE.shard(first_sample=3), TIMES[3:], **options)
    assert_equal(half, noisy[3:])


def test_sums_of_each_sample():
    x0, pred = normal(*SHAPE), normal(*SHAPE, seed=1)
    _, noised = add_noise(schedule(), x0, NOISE, TIMES)
    each = loss(pred, noised, reduction="sample") / x0[0].numel()
    torch.testing.assert_close(each.mean(), loss(pred, noised))


def test_bad_input():
    x0 = normal(*SHAPE)
    with pytest.raises(
        TypeError, match=r"scheduler must have an add_noise.* got FlowMatchEulerDiscreteScheduler"
    ):
        add_noise(diffusers.FlowMatchEulerDiscreteScheduler(), x0, NOISE, TIMES)
    _, noised = add_noise(schedule(), x0, NOISE, TIMES)
    with pytest.raises(
        ValueError, match="prediction_type must be one of 'epsilon', 'v_prediction', 'sample', got 'flow'"
    ):
        loss(x0, noised, "flow")
    with pytest.raises(ValueError, match="snr_gamma must be > 0 and finite, got 0"):
        loss(x0, noised, snr_gamma=0)
    with pytest.raises(ValueError, match="loss: model_pred must have the shape of the samples"):
        loss(x0[:, :2], add_noise(schedule(), x0, normal(*SHAPE), TIMES)[1])


def test_weights_against_column():
    """The weights at every timestep, against the definition in float64."""
    scheduler = diffusers.DDPMScheduler()
    abar = scheduler.alphas_cumprod.double()
    times, snr = torch.arange(1000), abar / (1 - abar)
    pred = normal(1000, 1)
    z = NOISE.randn((1000, 1))
    _, noised = add_noise(scheduler, torch.zeros(1000, 1), NOISE, times)
    got = loss(pred, noised, snr_gamma=5.0, reduction="sample")
    want = column(snr.clamp(max=5.0) / snr, pred) * (pred.double() - z.double()) ** 2
    torch.testing.assert_close(got.double(), want.flatten(), rtol=1e-5, atol=1e-7)
