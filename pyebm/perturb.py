"""The perturbation kernel of score matching: x~ = alpha x + sigma z."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import _composed, _ops
from ._checks import Coefficient, check_samples, coefficient
from ._derivatives import COMPOSED, REVERSE, wanted
from ._dtensor import by_samples
from ._memory import empty_like
from ._small_calls import in_one_step
from .noise import Noise, named


@in_one_step
@by_samples
def perturb(
    x: Tensor, sigma: Coefficient, noise: Noise, *, alpha: Coefficient = 1.0, backend: str | None = None
) -> Tensor:
    """``alpha x + sigma z`` with ``z = noise.randn(x.shape)``, which is never stored.

    The perturbation of denoising score matching (Vincent 2011; ``alpha = 1``) and of
    variance-preserving diffusions (``alpha = sqrt(abar)``, ``sigma = sqrt(1 - abar)``). Equivalent
    to ``alpha * x + sigma * noise.randn(x.shape)``.

    Args:
        x: samples (B, ...), float16, bfloat16, float32 or float64; any strides, which the result
            keeps.
        sigma: the noise's standard deviation >= 0, in x's units: a number, a tensor of one value
            per sample, (B,) or (B, 1, ...), or one that broadcasts to x, such as (B, T, 1) for a
            noise level per token.
        noise: names the normals; the loss that is given the same Noise regenerates them.
        alpha: the factor of x, like sigma but of any sign. Tensors are checked on the CPU, but not
            on a GPU, since the check would wait for it.
        backend: None lets the device decide; or a name from :func:`pyebm.backends`.

    Returns:
        A new tensor like x; differentiable in x, sigma and alpha, in both modes and to any order.

    Raises:
        TypeError: x is not a dense real floating-point tensor, or a coefficient is not a number or
            such a tensor.
        ValueError: a coefficient out of range, of another shape or on another device; a Noise that
            does not fit the batch; an unknown backend.
        RuntimeError: the backend is not available here.

    Example:
        >>> import torch, pyebm
        >>> x = torch.zeros(4, 2)
        >>> noise = pyebm.Noise(0)
        >>> torch.equal(pyebm.perturb(x, 0.5, noise), 0.5 * noise.randn((4, 2)))
        True
    """
    check_samples("perturb", "x", x)
    sigma, sigma_rows = coefficient("perturb", "sigma", sigma, x, low=0.0)
    alpha, alpha_rows = coefficient("perturb", "alpha", alpha, x)
    name, seeds, ids = named("perturb", noise, x)
    kernel = _ops.kernels(backend, x)["perturb"]
    head, tail = (alpha, sigma, name), (alpha_rows, sigma_rows, seeds, ids)
    follows = wanted(x, alpha_rows, sigma_rows, seeds, ids)
    if follows == COMPOSED:
        z = noise.randn(x.shape, device=x.device, backend=backend)
        return _composed.perturbed(x, z, alpha, sigma, alpha_rows, sigma_rows).to(x.dtype)
    if follows == REVERSE:
        result: Tensor = _Perturb.apply(x, kernel, head, tail)  # type: ignore[no-untyped-call]
        return result
    out = empty_like(x)
    _ops.call(kernel, (out, x, *head), tail)
    return out


class _Perturb(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Any, head: tuple[Any, ...], tail: tuple[Any, ...]) -> Tensor:
        ctx.alpha = head[0]
        ctx.save_for_backward(tail[0])
        out = empty_like(x)
        _ops.call(kernel, (out, x, *head), tail)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (rows,) = ctx.saved_tensors
        if rows is None:
            return grad if ctx.alpha == 1.0 else grad * ctx.alpha, None, None, None
        work = grad if grad.dtype == torch.float64 else grad.float()  # half precisions are rounded once
        return (work * _composed.column(0.0, rows, grad).to(work.dtype)).to(grad.dtype), None, None, None
