"""One Langevin step with any score, x' = x + eta s(x) + sqrt(2 eta T) z, and the affine step, its
general form."""

from __future__ import annotations

import torch
from torch import Tensor

from . import _composed, _ops
from ._checks import Coefficient, apart, check_like, check_samples, coefficient
from ._clamps import Clamp, by_element, changing, element_bounds
from ._derivatives import wanted
from ._dtensor import by_samples
from ._memory import empty_like
from ._options import checked_flag
from ._small_calls import in_one_step
from ._step_options import expanded_mask, step_options
from .noise import Noise, named

# A step's coefficients: numbers, and tensors of values that take their place.
_Coefficients = tuple[tuple[float, ...], tuple[Tensor | None, ...]]


@in_one_step
@by_samples
def langevin_step(
    x: Tensor,
    score: Tensor,
    step_size: Coefficient,
    noise: Noise,
    *,
    temperature: Coefficient = 1.0,
    clamp: Clamp | None = None,
    score_clip: float | None = None,
    mask: Tensor | None = None,
    return_mean: bool = False,
    backend: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """One step of unadjusted Langevin dynamics,
    ``x + step_size * score + sqrt(2 * step_size * temperature) * z``.

    The convention is that of Roberts & Tweedie (1996) and Song & Ermon (2019, with step_size =
    alpha/2): for small steps the chain's law is p(x)^(1/temperature), normalised. Equivalent to
    that expression with ``z = noise.randn(x.shape)``; the noise is made inside the kernel. In half
    precisions the arithmetic is float32, rounded once.

    Args:
        x: state (B, ...), float16, bfloat16, float32 or float64; any strides, which the result
            keeps.
        score: grad log p at x, same shape; x's dtype or a narrower one (widened, exactly).
        step_size: eta > 0: a number, a tensor of one value per sample, (B,) or (B, 1, ...), or one
            that broadcasts to x, such as (B, T, 1).
        noise: names z; give each step its own, ``noise.at(step=k)``.
        temperature: T >= 0, like step_size. 0 is gradient ascent on log p.
        clamp: (low, high), applied to x': numbers, None for an open side, or tensors that broadcast
            to x, one bound an element; those cost another pass over x.
        score_clip: clip the score elementwise to [-score_clip, score_clip] first.
        mask: bool, broadcastable to x: where False, x stays as it is (inpainting).
        return_mean: also return ``x + step_size * score``, without noise and clamp (but masked).
        backend: None lets the device decide; or a name from :func:`pyebm.backends`.

    Returns:
        x', or (x', mean). Differentiable in x, score, step_size, temperature and a clamp's tensors,
        in both modes and to any order; then z is stored and the step is composed of torch
        operations. At a temperature of 0 its derivative, which is infinite, is 0 by convention.

    Raises:
        TypeError: tensors that are not dense real floating point, or a score wider than x.
        ValueError: shapes, devices, bounds or coefficients that don't fit; a Noise that does not
            fit the batch.
        RuntimeError: the backend is not available here.

    Example:
        >>> import torch, pyebm
        >>> x = torch.zeros(512, 2)
        >>> for k in range(100):  # a standard normal: its score is -x
        ...     x = pyebm.langevin_step(x, -x, 0.1, pyebm.Noise(0, step=k))
        >>> bool(0.9 < x.std() < 1.15)
        True
    """
    check_samples("langevin_step", "x", x)
    coefficients = _langevin_coefficients(step_size, temperature, x)
    return _step(
        "langevin_step", x, score, coefficients, noise, clamp, score_clip, mask, return_mean, backend
    )


@in_one_step
@by_samples
def langevin_step_(
    x: Tensor,
    score: Tensor,
    step_size: Coefficient,
    noise: Noise,
    *,
    temperature: Coefficient = 1.0,
    clamp: Clamp | None = None,
    score_clip: float | None = None,
    mask: Tensor | None = None,
    return_mean: bool = False,
    backend: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """:func:`langevin_step` in place: x is overwritten and returned (with the mean, a new tensor,
    where asked for).

    A step size, a temperature or a mask that shares memory with x is read before any of x is
    written.

    Raises, besides what langevin_step raises, ValueError for an x that is expanded, overlaps itself
    or the score, or that requires grad (as any in-place operation on a leaf).

    Example:
        >>> import torch, pyebm
        >>> x = torch.zeros(8, 2)
        >>> pyebm.langevin_step_(x, -x, 0.1, pyebm.Noise(0)) is x
        True
    """
    check_samples("langevin_step_", "x", x)
    coefficients = _langevin_coefficients(step_size, temperature, x)
    _check_in_place(x, score, coefficients[1])
    return _step(
        "langevin_step",
        x,
        score,
        coefficients,
        noise,
        clamp,
        score_clip,
        mask,
        return_mean,
        backend,
        in_place=True,
    )


@in_one_step
@by_samples
def affine_step(
    x: Tensor,
    g: Tensor,
    a: Coefficient,
    b: Coefficient,
    c: Coefficient,
    noise: Noise,
    *,
    clamp: Clamp | None = None,
    mask: Tensor | None = None,
    return_mean: bool = False,
    backend: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """``clamp((a x + b g) + c z)``: the form behind every predictor and corrector of the
    score-based samplers.

    With (a, b, c): (1, eta, sqrt(2 eta)) Langevin; (1, eps/2, sqrt(eps)) its half-step convention;
    (1, lr, std) JEM; (1, G^2, G) the reverse-diffusion predictor of the VE SDE (Song et al. 2021);
    and so on.

    Args:
        x, g: (B, ...) as in :func:`langevin_step`; g plays the score's part.
        a, b, c: numbers, or tensors as step_size is of :func:`langevin_step`, finite (tensors are
            checked on the CPU); rounded once to float32 unless x is float64.
        noise, clamp, mask, return_mean, backend: as in :func:`langevin_step`; the mean is
            ``a x + b g``.

    Returns and raises as :func:`langevin_step`.

    Example:
        >>> import torch, pyebm
        >>> x, g, noise = torch.ones(4, 2), torch.ones(4, 2), pyebm.Noise(0)
        >>> torch.equal(pyebm.affine_step(x, g, 0.5, 0.25, 0.0, noise), torch.full((4, 2), 0.75))
        True
    """
    check_samples("affine_step", "x", x)
    a, a_rows = coefficient("affine_step", "a", a, x)
    b, b_rows = coefficient("affine_step", "b", b, x)
    c, c_rows = coefficient("affine_step", "c", c, x)
    return _step(
        "affine_step",
        x,
        g,
        ((a, b, c), (a_rows, b_rows, c_rows)),
        noise,
        clamp,
        None,
        mask,
        return_mean,
        backend,
        g_name="g",
    )


def _langevin_coefficients(step_size: Coefficient, temperature: Coefficient, x: Tensor) -> _Coefficients:
    eta, eta_rows = coefficient("langevin_step", "step_size", step_size, x, low=0.0, open_low=True)
    t, t_rows = coefficient("langevin_step", "temperature", temperature, x, low=0.0)
    return (eta, t), (eta_rows, t_rows)


def _check_in_place(x: Tensor, score: Tensor, rows: tuple[Tensor | None, ...]) -> None:
    if x.requires_grad and torch.is_grad_enabled():
        if x.is_leaf:
            raise ValueError(
                "langevin_step_: x must not be a leaf that requires grad; detach it, or use torch.no_grad()"
            )
        raise ValueError(
            "langevin_step_: x must not require grad; use langevin_step, which is differentiable"
        )
    for name, value in (("score", score), ("step_size", rows[0]), ("temperature", rows[1])):
        if isinstance(value, Tensor) and value.requires_grad and torch.is_grad_enabled():
            raise ValueError(
                f"langevin_step_: {name} must not require grad; detach it, or use langevin_step, which is"
                " differentiable"
            )
    if x.is_contiguous() or torch.compiler.is_compiling():
        return
    # No two elements share memory if each dimension, sorted by stride, steps over all that the
    # smaller ones reach.
    reach = 0
    for stride, size in sorted(
        (stride, size) for size, stride in zip(x.shape, x.stride(), strict=True) if size > 1
    ):
        if stride <= reach:
            raise ValueError(
                f"langevin_step_: x must not be expanded or overlap itself, got strides {x.stride()};"
                " clone it"
            )
        reach += stride * (size - 1)


def _step(
    op: str,
    x: Tensor,
    score: Tensor,
    coefficients: _Coefficients,
    noise: Noise,
    clamp: Clamp | None,
    score_clip: float | None,
    mask: Tensor | None,
    return_mean: bool,
    backend: str | None,
    in_place: bool = False,
    g_name: str = "score",
) -> Tensor | tuple[Tensor, Tensor]:
    if clamp is not None and by_element(clamp):
        sides = element_bounds(op, clamp, x, None if mask is None else expanded_mask(op, mask, x))
        if in_place:
            sides = (sides[0].clone(), sides[1].clone())  # copies, since the bounds may lie in x
        made = _step(
            op, x, score, coefficients, noise, None, score_clip, mask, return_mean, backend, in_place, g_name
        )
        value, mean = made if isinstance(made, tuple) else (made, None)
        value = value.clamp_(*sides) if in_place else value.clamp(*sides)
        return value if mean is None else (value, mean)
    score = check_like(op, g_name, score, "x", x)
    mask, low, high, score_clip = step_options(op, x, clamp, score_clip, mask)
    return_mean = checked_flag(op, "return_mean", return_mean)
    name, seeds, ids = named(op, noise, x)
    kernel = _ops.kernels(backend, x)[op]
    numbers, rows = coefficients
    limits = changing(x, low, high, score_clip)
    if limits is not None or wanted(x, score, *rows, mask, seeds, ids):
        # Derivatives are wanted: torch operations give the same bits, and only the noise comes from
        # a kernel.
        z = noise.randn(x.shape, device=x.device, backend=backend)
        exact_mean, exact = _composed.UPDATES[op](
            x, score, z, numbers, *rows, mask, *(limits or (low, high, score_clip))
        )
        value = x.copy_(exact) if in_place else exact.to(x.dtype)
        return (value, exact_mean.to(x.dtype)) if return_mean else value
    if in_place:
        rows, mask = tuple(apart(row, x) for row in rows), apart(mask, x)
    out = x if in_place else empty_like(x)
    mean = empty_like(x) if return_mean else None
    head = (out, None if in_place else x, score, *numbers, name)
    _ops.call(kernel, head, (*rows, mean, mask, low, high, score_clip, seeds, ids))
    if in_place and not torch.compiler.is_compiling():
        torch.autograd.graph.increment_version(x)  # so that autograd notices if it had saved x
    return out if mean is None else (out, mean)
