"""ncsnv2's samples between samples: chains that share their noise, turned by an angle."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .._checks import checked_number
from .._modes import without_grad
from .._options import check_callable, checked_count, checked_flag
from ..noise import Noise
from ._draws import Draws, Source, step
from ._fits import norms
from ._ncsn import check_images, levels_of


@without_grad
def anneal_Langevin_dynamics_interpolation(
    x_mod: Tensor,
    scorenet: Callable[[Tensor, Tensor], Tensor],
    sigmas: Sequence[float] | Tensor,
    n_interpolations: int,
    n_steps_each: int = 200,
    step_lr: float = 0.000008,
    final_only: bool = False,
    verbose: bool = False,
    *,
    noise: Source = None,
) -> list[Tensor]:
    """Annealed Langevin dynamics of n chains for each row of x_mod, whose noise is
    ``cos(a) p + sin(a) q`` with the row's own normals p and q, and an angle a from 0 to pi / 2.

    Args:
        x_mod: the initial states (R, ...), left as they are.
        n_interpolations: n, the chains for each row.
        scorenet, sigmas, n_steps_each, step_lr, final_only, verbose: as in ncsnv2.
        noise: a :class:`pyebm.Noise` (regenerated; p and q are its steps 2 k and 2 k + 1 at the
            k-th step), a function like ``torch.randn_like``, or None, where torch.manual_seed
            governs it.

    Returns:
        The states as CPU tensors (R n, ...): one per step, or the last alone.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.ncsnv2 import anneal_Langevin_dynamics_interpolation
        >>> x, noise = torch.zeros(2, 1, 4, 4), pyebm.Noise(0)
        >>> images = anneal_Langevin_dynamics_interpolation(
        ...     x, lambda x, labels: -x, [1.0, 0.1], 5, 3, noise=noise
        ... )
        >>> len(images), images[0].shape
        (6, torch.Size([10, 1, 4, 4]))
    """
    call = "anneal_Langevin_dynamics_interpolation"
    check_images(call, "x_mod", x_mod)
    check_callable(call, "scorenet", scorenet)
    n, steps = (
        checked_count(call, "n_interpolations", n_interpolations, 1),
        checked_count(call, "n_steps_each", n_steps_each),
    )
    step_lr = checked_number(call, "step_lr", step_lr, 0.0)
    final_only, verbose = checked_flag(call, "final_only", final_only), checked_flag(call, "verbose", verbose)
    draws, levels = Draws(noise), levels_of(call, sigmas)
    # Normals of each row, drawn in float32 at least.
    row = torch.empty(x_mod.shape, dtype=torch.promote_types(x_mod.dtype, torch.float32), device=x_mod.device)
    angles = torch.linspace(0, math.pi / 2, n, dtype=torch.float64, device=x_mod.device).repeat(len(x_mod))
    x, images = x_mod.repeat_interleave(n, dim=0), []
    for c, sigma in enumerate(levels):
        labels = torch.full((len(x),), c, device=x.device)
        step_size = step_lr * (sigma / levels[-1]) ** 2
        eta = float(step_size)
        for _ in range(steps):
            grad, before = scorenet(x, labels), x
            x = x.to(row.dtype)
            p, q = (_for_chains(draws(row), len(x_mod), n) for _ in range(2))
            scale = math.sqrt(2 * eta)
            x = step(x, grad, 1.0, eta, scale * angles.cos(), p)
            x = step(x, x, 1.0, 0.0, scale * angles.sin(), q)
            if not final_only:
                images.append(x.to("cpu"))
            if verbose:
                noise_norm = norms((x - before - eta * grad) / scale).mean().item() if eta else 0.0
                grad_norm, image_norm = norms(grad).mean().item(), norms(before).mean().item()
                snr = math.sqrt(eta / 2) * grad_norm / noise_norm if eta else 0.0
                print(
                    f"level: {c}, step_size: {step_size}, image_norm: {image_norm}, grad_norm: {grad_norm},"
                    f" snr: {snr}"
                )
    return [x.to("cpu")] if final_only else images


def _for_chains(drawn: Noise | Tensor, rows: int, n: int) -> Noise | Tensor:
    """The normals of each row for its n chains."""
    if isinstance(drawn, Tensor):
        return drawn.repeat_interleave(n, dim=0)
    seed, ids = drawn.seed, drawn.sample_ids
    if ids is None:
        ids = drawn.first_sample + torch.arange(rows, device="cpu")
    return Noise(
        seed.repeat_interleave(n) if isinstance(seed, Tensor) else seed,
        sample_ids=ids.repeat_interleave(n),
        step=drawn.step,
        stream=drawn.stream,
    )
