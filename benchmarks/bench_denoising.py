"""The diffusion losses and their gradients in the prediction: epsilon, v with min-SNR weights, and
EDM's, each with its noising.

The timed work of every side includes everything that follows from the noise level: the look-up of
the timesteps and the weights.
"""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

import pyebm

from .bench_losses import LOSS, with_gradient
from .bench_noise import IMAGES
from .case import BFLOAT, NOISE, TOLERANCE, Setting, Work, benchmark, grid
from .rivals import get
from .timing import Run

DATA, GAMMA = 0.5, 5.0  # EDM's sigma_data, min-SNR's gamma
SETTINGS = [
    setting
    for form in ("epsilon", "v, min-SNR", "EDM")
    for setting in (
        *grid((64, 2), variant=form, quick=form != "epsilon"),
        *grid(
            (16, 4, 64, 64),
            variant=form,
            threads=(2,),
            quick=form == "v, min-SNR",
            headline=form == "v, min-SNR",
        ),
        *grid(IMAGES, variant=form, threads=(2,), compiled=form == "v, min-SNR"),
        *grid(IMAGES, variant=form, threads=(2,), dtypes=(BFLOAT,)),
    )
]


@benchmark(
    "denoising",
    "noise added, and the loss of a prediction with its gradient: epsilon, v with min-SNR, EDM",
    SETTINGS,
)
def denoising(at: Setting) -> Work:
    x0, pred = at.randn(0), at.randn(1).requires_grad_()
    reads = 2 if at.variant == "epsilon" else 3
    work = Work(
        x0.numel(),
        (2 + reads) * x0.nbytes,
        (2 * at.normal + 3 + LOSS) * x0.numel(),
        tolerance=TOLERANCE[at.dtype],
    )
    if at.variant == "EDM":
        return _edm(at, work, x0, pred)
    table = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0).to(at.device)  # DDPM's alpha bar
    times = torch.randint(1000, at.shape[:1], generator=torch.Generator().manual_seed(2)).to(at.device)
    velocity = at.variant != "epsilon"

    def ours(backend: str | None) -> Run:
        def loss() -> tuple[Tensor, Tensor]:
            abar = table[times]
            root, std = abar.sqrt(), (1 - abar).sqrt()
            noisy = pyebm.perturb(x0, std, NOISE, alpha=root, backend=backend)
            if not velocity:
                value = pyebm.denoising_loss(pred, NOISE, backend=backend)
            else:
                snr = abar / (1 - abar)
                weight = snr.clamp(max=GAMMA) / (snr + 1)
                value = pyebm.denoising_loss(
                    pred, NOISE, lam=-root, mu=std, x0=x0, weight=weight, backend=backend
                )
            return noisy, value

        return with_gradient(loss, pred)

    def formula(pred: Tensor, x0: Tensor) -> tuple[Tensor, Tensor]:
        z = torch.randn_like(x0)
        abar = table.to(x0.dtype)[times].view(-1, *[1] * (x0.dim() - 1))
        root, std = abar.sqrt(), (1 - abar).sqrt()
        noisy = root * x0 + std * z
        if not velocity:
            value = mse_loss(pred.float(), z.float())
        else:
            target = root * z - std * x0
            snr = table[times] / (1 - table[times])
            each = mse_loss(pred.float(), target.float(), reduction="none").flatten(1).mean(1)
            value = (each * snr.clamp(max=GAMMA) / (snr + 1)).mean()
        return noisy, value

    def diffusers(package: ModuleType) -> Run:
        scheduler = package.DDPMScheduler(
            beta_schedule="linear", prediction_type="v_prediction" if velocity else "epsilon"
        )
        compute_snr = get("diffusers", "training_utils").compute_snr

        def loss() -> tuple[Tensor, Tensor]:
            z = torch.randn_like(x0)
            noisy = scheduler.add_noise(x0, z, times)
            if not velocity:
                return noisy, mse_loss(pred.float(), z.float())
            target, snr = scheduler.get_velocity(x0, z, times), compute_snr(scheduler, times)
            weight = torch.stack([snr, GAMMA * torch.ones_like(times)], dim=1).min(dim=1)[0] / (snr + 1)
            each = mse_loss(pred.float(), target.float(), reduction="none").mean(
                dim=list(range(1, pred.dim()))
            )
            return noisy, (each * weight).mean()

        return with_gradient(loss, pred)

    work.ours(ours, at.device)
    work.eager(formula, lambda formula: with_gradient(lambda: formula(pred, x0), pred), compiled=at.compiled)
    return work.rival("diffusers", diffusers)


def _edm(at: Setting, work: Work, x0: Tensor, pred: Tensor) -> Work:
    """The preconditioned loss of Karras et al. (2022) as k-diffusion writes it: ``pred`` is the raw
    network's output F."""
    sigma = at.rows(0.05, 3.0)
    work.tolerance *= 4  # their target divides by c_out, which is small where sigma is

    def ours(backend: str | None) -> Run:
        def loss() -> tuple[Tensor, Tensor]:
            variance = sigma**2 + DATA**2
            skip, out = DATA**2 / variance, sigma * DATA / variance.sqrt()
            scale = variance.rsqrt()  # the same pass also scales the network's input
            noisy = pyebm.perturb(x0, scale * sigma, NOISE, alpha=scale, backend=backend)
            value = pyebm.denoising_loss(
                pred, NOISE, lam=skip * sigma / out, mu=-(1 - skip) / out, x0=x0, backend=backend
            )
            return noisy, value

        return with_gradient(loss, pred)

    def formula(pred: Tensor, x0: Tensor) -> tuple[Tensor, Tensor]:
        z = torch.randn_like(x0)
        column = sigma.view(-1, *[1] * (x0.dim() - 1)).to(x0.dtype)
        skip = DATA**2 / (column**2 + DATA**2)
        out = column * DATA / (column**2 + DATA**2).sqrt()
        noisy = x0 + column * z
        scaled = noisy / (column**2 + DATA**2).sqrt()
        return scaled, mse_loss(pred.float(), ((x0 - skip * noisy) / out).float())

    def k_diffusion(_: ModuleType) -> Run:
        made = []  # their loss shows noisy samples to the network alone: it keeps them

        def network(scaled: Tensor, _: Tensor) -> Tensor:
            made[:] = [scaled]
            return pred

        denoiser = get("k-diffusion", "layers").Denoiser(network, sigma_data=DATA)
        levels = sigma.to(x0.dtype)

        def loss() -> tuple[Tensor, Tensor]:
            value = denoiser.loss(x0, torch.randn_like(x0), levels).mean()
            return made.pop(), value

        return with_gradient(loss, pred)

    work.ours(ours, at.device)
    work.eager(formula, lambda formula: with_gradient(lambda: formula(pred, x0), pred), compiled=at.compiled)
    return work.rival("k-diffusion", k_diffusion)
