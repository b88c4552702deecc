"""For repositories built like ncsnv2 (Song & Ermon 2019, 2020): its loss and its samplers, by their
names and arguments.

``from pyebm.integrations.ncsnv2 import anneal_dsm_score_estimation, anneal_Langevin_dynamics`` in
place of their own. Written from the published formulas. Each function takes one more argument after
theirs, ``noise``: a :class:`pyebm.Noise` (regenerated; draw k is its step + k), a function like
``torch.randn_like`` (then the run has the bits it had), or None, where torch.manual_seed governs
it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .._checks import check_like, check_samples, checked_number
from .._modes import without_grad
from .._options import check_callable, checked_count, checked_flag
from ..losses import dsm_loss
from ._draws import Draws, Normals, Source, add_noise, noise_norms, step
from ._fits import fitted, norms, output_like, widened
from ._ncsn import check_images, check_labels, check_levels, levels_of
from ._ncsn_interpolation import anneal_Langevin_dynamics_interpolation

__all__ = [
    "anneal_Langevin_dynamics",
    "anneal_Langevin_dynamics_inpainting",
    "anneal_Langevin_dynamics_interpolation",
    "anneal_dsm_score_estimation",
]

ScoreNet = Callable[[Tensor, Tensor], Tensor]


def anneal_dsm_score_estimation(
    scorenet: ScoreNet,
    samples: Tensor,
    sigmas: Tensor,
    labels: Tensor | None = None,
    anneal_power: float = 2.0,
    hook: Callable[[Tensor, Tensor], Any] | None = None,
    *,
    noise: Source | Tensor = None,
) -> Tensor:
    """Denoising score matching over noise levels:
    ``mean_b sigma_b^p 1/2 sum_i (s(x + sigma z, label) + z / sigma)^2``.

    Args:
        scorenet: ``scorenet(x, labels)``, the score.
        samples: (B, ...).
        sigmas: the noise levels (L,).
        labels: the level of each sample, (B,) in int64 or int32; None draws them from torch's
            default generator.
        anneal_power: p.
        hook: called as ``hook(losses, labels)`` with the loss of each sample, (B,).
        noise: as in the module's docstring; or the normals themselves, like samples. A Noise is
            used as it is: give each training step its own, ``noise.at(step=k)``.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.ncsnv2 import anneal_dsm_score_estimation
        >>> x, sigmas = torch.randn(8, 1, 4, 4), torch.tensor([1.0, 0.1])
        >>> anneal_dsm_score_estimation(lambda x, labels: -x, x, sigmas, noise=pyebm.Noise(0)).shape
        torch.Size([])
    """
    call = "anneal_dsm_score_estimation"
    check_callable(call, "scorenet", scorenet)
    batch = check_samples(call, "samples", samples)
    check_levels(call, sigmas, samples)
    anneal_power = checked_number(call, "anneal_power", anneal_power)
    if hook is not None:
        check_callable(call, "hook", hook, "a function or None")
    if labels is None:
        labels = torch.randint(0, len(sigmas), (batch,), device=samples.device)
    else:
        check_labels(call, labels, batch, len(sigmas))
    sigma = sigmas[labels]
    drawn: Normals = noise if isinstance(noise, Tensor) else Draws(noise)(samples)
    wide = widened(samples, sigma)
    drawn = fitted(call, drawn, wide) if isinstance(drawn, Tensor) else drawn
    scores = output_like(call, "scorenet's output", scorenet(add_noise(wide, sigma, drawn), labels), wide)
    losses = dsm_loss(scores, sigma, drawn, weight=sigma**anneal_power, reduction="sample")
    if hook is not None:
        hook(losses, labels)
    return losses.mean()


@without_grad
def anneal_Langevin_dynamics(
    x_mod: Tensor,
    scorenet: ScoreNet,
    sigmas: Sequence[float] | Tensor,
    n_steps_each: int = 200,
    step_lr: float = 0.000008,
    final_only: bool = False,
    verbose: bool = False,
    denoise: bool = True,
    *,
    noise: Source = None,
) -> list[Tensor]:
    """Annealed Langevin dynamics: n steps ``x + eta s + sqrt(2 eta) z`` at each sigma, with eta =
    step_lr (sigma / sigma_L)^2.

    Args:
        x_mod: the initial state (B, ...), left as it is.
        sigmas: the noise levels, an array or a tensor, largest first.
        n_steps_each: n.
        final_only: return the last state only.
        verbose: print ncsnv2's line at each step; that waits for the device, as it does there.
        denoise: end with ``x + sigma_L^2 s(x)``, without noise.
        noise: as in the module's docstring.

    Returns:
        The states as CPU tensors: one per step and the denoised one, or the last alone.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.ncsnv2 import anneal_Langevin_dynamics
        >>> x, noise = torch.zeros(4, 2), pyebm.Noise(0)
        >>> images = anneal_Langevin_dynamics(x, lambda x, labels: -x, [1.0, 0.1], 5, noise=noise)
        >>> len(images)
        11
    """
    call = "anneal_Langevin_dynamics"
    check_images(call, "x_mod", x_mod)
    check_callable(call, "scorenet", scorenet)
    n_steps_each = checked_count(call, "n_steps_each", n_steps_each)
    step_lr = checked_number(call, "step_lr", step_lr, 0.0)
    flags = {"final_only": final_only, "verbose": verbose, "denoise": denoise}
    final_only, verbose, denoise = (checked_flag(call, name, value) for name, value in flags.items())
    draws, levels = Draws(noise), levels_of(call, sigmas)
    x, images = x_mod, []
    for c, sigma in enumerate(levels):
        labels = torch.full((x.shape[0],), c, device=x.device)
        step_size = step_lr * (sigma / levels[-1]) ** 2
        eta = float(step_size)
        for _ in range(n_steps_each):
            grad, drawn = scorenet(x, labels), draws(x)
            before = x
            x = step(x, grad, 1.0, eta, (2 * eta) ** 0.5, drawn)
            if not final_only:
                images.append(x.to("cpu"))
            if verbose:
                grad_norm, noise_norm = norms(grad).mean().item(), noise_norms(drawn, before).mean().item()
                print(
                    f"level: {c}, step_size: {step_size}, grad_norm: {grad_norm}, image_norm:"
                    f" {norms(x).mean().item()}, snr: {math.sqrt(eta / 2) * grad_norm / noise_norm},"
                    f" grad_mean_norm: {(norms(grad.mean(0)[None])[0] * float(sigma)).item() ** 2}"
                )
    if denoise:
        x = x + float(levels[-1]) ** 2 * scorenet(
            x, torch.full((x.shape[0],), len(levels) - 1, device=x.device)
        )
        images.append(x.to("cpu"))
    return [x.to("cpu")] if final_only else images


@without_grad
def anneal_Langevin_dynamics_inpainting(
    x_mod: Tensor,
    refer_image: Tensor,
    scorenet: ScoreNet,
    sigmas: Sequence[float] | Tensor,
    image_size: int,
    n_steps_each: int = 100,
    step_lr: float = 0.000008,
    *,
    noise: Source = None,
    verbose: bool = True,
) -> list[Tensor]:
    """:func:`anneal_Langevin_dynamics` with the left half of every image known: before each step
    that half is set to the reference, perturbed at the level's sigma.

    Args:
        x_mod: (R, N, C, image_size, image_size), N images to complete for each of R references;
            overwritten, as in ncsnv2.
        refer_image: (R, C, image_size, image_size).
        noise: as in the module's docstring; the known half takes one draw and the step the next.
        verbose: print ncsnv2's line at each step, as ncsnv2 always does; that waits for the device.

    Returns:
        The states before each step, CPU tensors (R N, C, image_size, image_size).

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.ncsnv2 import anneal_Langevin_dynamics_inpainting
        >>> x, known = torch.rand(2, 3, 1, 8, 8), torch.rand(2, 1, 8, 8)
        >>> images = anneal_Langevin_dynamics_inpainting(
        ...     x,
        ...     known,
        ...     lambda x, labels: -x,
        ...     [1.0, 0.1],
        ...     8,
        ...     5,
        ...     noise=pyebm.Noise(0),
        ...     verbose=False,
        ... )
        >>> len(images), images[0].shape
        (10, torch.Size([6, 1, 8, 8]))
    """
    call = "anneal_Langevin_dynamics_inpainting"
    check_callable(call, "scorenet", scorenet)
    n_steps_each, image_size = (
        checked_count(call, "n_steps_each", n_steps_each),
        checked_count(call, "image_size", image_size),
    )
    references = check_images(call, "refer_image", refer_image)
    check_images(call, "x_mod", x_mod)
    if refer_image.dim() != 4 or refer_image.shape[3] != image_size:
        raise ValueError(
            f"{call}: refer_image must be (R, C, image_size, image_size), image_size being {image_size}, "
            f"got {tuple(refer_image.shape)}"
        )
    if x_mod.dim() != 5 or (references, *refer_image.shape[1:]) != (x_mod.shape[0], *x_mod.shape[2:]):
        raise ValueError(
            f"{call}: x_mod must be (R, N, ...) for a refer_image (R, ...), got {tuple(x_mod.shape)}"
        )
    check_like(call, "x_mod", x_mod[:, 0], "refer_image", refer_image)
    step_lr = checked_number(call, "step_lr", step_lr, 0.0)
    verbose = checked_flag(call, "verbose", verbose)
    draws, levels, columns = Draws(noise), levels_of(call, sigmas), image_size // 2
    known = refer_image.repeat_interleave(x_mod.shape[1], dim=0)[..., :columns].contiguous()
    x, images = x_mod.view(-1, *refer_image.shape[1:]), []
    for c, sigma in enumerate(levels):
        labels = torch.full((x.shape[0],), c, device=x.device)
        step_size = step_lr * (sigma / levels[-1]) ** 2
        eta = float(step_size)
        for _ in range(n_steps_each):
            images.append(x.to("cpu", copy=True))
            x[..., :columns] = add_noise(known, float(sigma), draws(known))
            drawn, grad = draws(x), scorenet(x, labels)
            x = step(x, grad, 1.0, eta, (2 * eta) ** 0.5, drawn)
            if verbose:
                size = grad.abs()
                print(f"class: {c}, step_size: {step_size}, mean {size.mean()}, max {size.max()}")
    return images
