"""The plainest code that is right: every op of :mod:`pyebm._ops` in pure PyTorch, in the order of operations that the
noise contract (docs/noise.md) promises, on any device. The kernels are held to it with ``torch.equal``.

The functions of arithmetic come first (Philox, normals, the update, the residual), then the ops, which have the
signatures of the compiled ones and write into the tensors they are given. ``backend="reference"`` on any public call
runs them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_M0, _M1 = 0xD2511F53, 0xCD9E8D57  # Philox4x32's multipliers and key increments (Salmon et al. 2011)
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_MASK = 0xFFFFFFFF

# Minimax polynomials, coefficients rounded to float32, lowest power first. csrc/common/normal.h holds the same.
LOG = "0x1p+1 0x1.ffffd6p-1 0x1.5554fcp-1 0x1.00144ep-1 0x1.99d3b0p-2 0x1.5038e0p-2 0x1.1ea89ap-2 0x1.3b0c5ep-2 0x1.1f2802p-2"
SIN = "0x1p+0 -0x1.555546p-3 0x1.110778p-7 -0x1.995408p-13"
COS = "0x1p+0 -0x1.ffffb2p-2 0x1.553e5ep-5 -0x1.6447c6p-10"
_LOG, _SIN, _COS = ([float.fromhex(c) for c in p.split()] for p in (LOG, SIN, COS))
_TWO_THIRDS = 0x3F2AAAAB  # the float32 bits of 2/3
_MINUS_2_LN2 = -float.fromhex("0x1.62e430p-23")  # -2 ln 2 * 2^-23, for an exponent that still sits above the mantissa
_ANGLE = float.fromhex("0x1.921fb6p-32")  # pi/4 * 2^-31


def philox4x32_10(counter: tuple[Tensor, ...], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Philox4x32 with ten rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011) on 32-bit words in int64."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = _M0 * c0, _M1 * c2  # wraps around at 2^64, which the masks undo
        c0, c1, c2, c3 = ((p1 >> 32) & _MASK) ^ c1 ^ k0, p1 & _MASK, ((p0 >> 32) & _MASK) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    return c0, c1, c2, c3


def _horner(coefficients: list[float], x: Tensor) -> Tensor:
    value = torch.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        value = value * x + c
    return value


def _sqrt(x: Tensor) -> Tensor:
    """The correctly rounded float32 root, which torch.sqrt on the CPU is not always.

    Through float64 it is, though that root may be off by an ulp too: the root of a 24-bit number is never within 2^-50 of the
    middle between two others.
    """
    return x.double().sqrt().float()


def _sqrt64(x: Tensor) -> Tensor:
    """The correctly rounded float64 root of a few coefficients."""
    if not x.is_cpu or torch.compiler.is_compiling():
        return x.sqrt()  # CUDA rounds it correctly; compiled code may not
    return torch.tensor([math.sqrt(value) for value in x.flatten().tolist()], dtype=torch.float64).reshape(x.shape)


def box_muller(radius: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Two words (int64 in [0, 2^32)) to two float32 normals: R cos and R sin with R = sqrt(-2 log u).

    u = radius 2^-32 + 2^-33, the angle is 2 pi angle / 2^32.
    """
    # u 2^32 = 2^32 m 2^e with m in [2/3, 4/3): split in the bits, then -2 log u = -2 e ln 2 + f q(f) at f = 1 - m.
    bits = (radius.float() + 0.5).view(torch.int32) - (32 << 23)
    exponent = (bits - _TWO_THIRDS) & -(1 << 23)
    f = 1.0 - (bits - exponent).view(torch.float32)
    r = _sqrt(exponent.float() * _MINUS_2_LN2 + f * _horner(_LOG, f))

    # The quadrant is the nearest multiple of a quarter turn; what remains of the angle is in [-pi/4, pi/4).
    quadrant = ((angle + (1 << 29)) >> 30) & 3
    remainder = angle << 2 & _MASK
    a = torch.where(remainder >= 1 << 31, remainder - (1 << 32), remainder).float() * _ANGLE
    y = a * a
    sin, cos = a * _horner(_SIN, y), _horner(_COS, y)
    swap = quadrant & 1 == 1
    even, odd = torch.where(swap, sin, cos), torch.where(swap, cos, sin)
    even = torch.where((quadrant == 1) | (quadrant == 2), -even, even)
    odd = torch.where(quadrant >= 2, -odd, odd)
    return r * even, r * odd


def uniform(word: Tensor) -> Tensor:
    """A word (int64 in [0, 2^32)) to a float32 uniform in (0, 1]: word 2^-32 + 2^-33."""
    return (word.float() + 0.5) * 2.0**-32


def words(shape: torch.Size, name: Tensor, seeds: Tensor | None, ids: Tensor | None) -> list[Tensor]:
    """The four words of every Philox call (samples, calls a sample) behind a tensor of this shape, samples first."""
    batch, elements = shape[0], math.prod(shape[1:])
    seed, first_sample, step, stream = name.unbind()
    seeds = (seed if seeds is None else seeds).reshape(-1, 1)
    samples = torch.arange(batch, device=name.device) + first_sample if ids is None else ids
    groups = torch.arange((elements + 3) // 4, device=name.device)
    drawn = philox4x32_10((groups, samples.reshape(-1, 1), step, stream), (seeds & _MASK, (seeds >> 32) & _MASK))
    return [word.expand(batch, groups.shape[0]) for word in drawn]


def _laid_out(lanes: tuple[Tensor, ...], shape: torch.Size) -> Tensor:
    batch, groups = lanes[0].shape
    return torch.stack(lanes, dim=-1).reshape(batch, groups * 4)[:, : math.prod(shape[1:])].reshape(shape)


def normals(shape: torch.Size, name: Tensor, seeds: Tensor | None, ids: Tensor | None) -> Tensor:
    """The contract's float32 normals for a tensor of this shape, whose first dimension counts samples."""
    w0, w1, w2, w3 = words(shape, name, seeds, ids)
    return _laid_out((*box_muller(w0, w1), *box_muller(w2, w3)), shape)


def uniforms(shape: torch.Size, name: Tensor, seeds: Tensor | None, ids: Tensor | None) -> Tensor:
    """The contract's float32 uniforms in (0, 1], one a word."""
    return _laid_out(tuple(uniform(word) for word in words(shape, name, seeds, ids)), shape)


def _work(x: Tensor) -> Tensor:
    """Half precisions are computed in float32 and rounded once, at the store."""
    return x if x.dtype == torch.float64 else x.float()


def _column(number: float, rows: Tensor | None, like: Tensor) -> Tensor:
    """A coefficient in float64, one row per sample (or one for all), shaped to go with ``like``."""
    if rows is None:
        rows = torch.tensor([number], dtype=torch.float64, device=like.device)
    return rows.double().reshape(-1, *[1] * (like.dim() - 1))


def _require(op: str, name: str, value: Tensor, positive: bool) -> None:
    """The kernels check coefficients before they write; so does their twin (on the CPU: no wait for a device)."""
    if value.device.type == "cpu" and not torch.compiler.is_compiling():
        ok = torch.isfinite(value) & ((value > 0) if positive else (value >= 0))
        if not ok.all():
            worst = int((~ok.flatten()).nonzero()[0])
            bound = ">" if positive else ">="
            raise ValueError(f"{op}: {name} must be {bound} 0 and finite, got {float(value.flatten()[worst]):g} for sample {worst}")


def _clamp(x: Tensor, low: float | None, high: float | None) -> Tensor:
    return x if low is None and high is None else x.clamp(low, high)


def affine_update(
    x: Tensor,
    g: Tensor,
    z: Tensor,
    numbers: tuple[float, float, float],
    a_rows: Tensor | None = None,
    b_rows: Tensor | None = None,
    c_rows: Tensor | None = None,
    mask: Tensor | None = None,
    low: float | None = None,
    high: float | None = None,
    clip: float | None = None,
) -> tuple[Tensor, Tensor]:
    """(mean, value) = (a x + b g, clamp((a x + b g) + c z)), every product and sum rounded by itself; differentiable."""
    work = _work(x)
    a, b, c = (_column(number, rows, x).to(work.dtype) for number, rows in zip(numbers, (a_rows, b_rows, c_rows), strict=True))
    g = _clamp(_work(g).to(work.dtype), None if clip is None else -clip, clip)
    mean = a * work + b * g
    value = _clamp(mean + c * z.to(work.dtype), low, high)
    return (mean, value) if mask is None else (torch.where(mask, mean, work), torch.where(mask, value, work))


def langevin_update(
    x: Tensor,
    score: Tensor,
    z: Tensor,
    numbers: tuple[float, float],
    step_size_rows: Tensor | None = None,
    temperature_rows: Tensor | None = None,
    *rest: Any,
) -> tuple[Tensor, Tensor]:
    """The affine update with a = 1, b = eta, c = sqrt(2 eta T)."""
    eta, t = numbers
    if step_size_rows is None and temperature_rows is None:
        return affine_update(x, score, z, (1.0, eta, math.sqrt(2.0 * eta * t)), None, None, None, *rest)
    eta_rows, t_rows = _column(eta, step_size_rows, x), _column(t, temperature_rows, x)
    _require("langevin_step", "step_size", eta_rows, positive=True)
    _require("langevin_step", "temperature", t_rows, positive=False)
    c_rows = _sqrt64(2.0 * eta_rows * t_rows)
    return affine_update(x, score, z, (1.0, math.nan, math.nan), None, eta_rows.flatten(), c_rows.flatten(), *rest)


UPDATES: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {"affine_step": affine_update, "langevin_step": langevin_update}


def residual(pred: Tensor, z: Tensor, x0: Tensor | None, kappa: Tensor, lam: Tensor, mu: Tensor) -> Tensor:
    """(kappa pred + lam z) + mu x0."""
    r = kappa * pred + lam * z
    return r if x0 is None else r + mu * x0


# --- the ops ---


def normal_(out: Tensor, name: Tensor, seeds: Tensor | None = None, ids: Tensor | None = None) -> None:
    out.copy_(normals(out.shape, name, seeds, ids))


def uniform_(out: Tensor, name: Tensor, seeds: Tensor | None = None, ids: Tensor | None = None) -> None:
    out.copy_(uniforms(out.shape, name, seeds, ids))


def perturb(
    out: Tensor,
    x: Tensor,
    alpha: float,
    sigma: float,
    name: Tensor,
    alpha_rows: Tensor | None = None,
    sigma_rows: Tensor | None = None,
    seeds: Tensor | None = None,
    ids: Tensor | None = None,
) -> None:
    work = _work(x)
    a, c = _column(alpha, alpha_rows, x), _column(sigma, sigma_rows, x)
    _require("perturb", "sigma", c, positive=True)
    z = normals(x.shape, name, seeds, ids).to(work.dtype)
    out.copy_(a.to(work.dtype) * work + c.to(work.dtype) * z)


def affine_step(out: Tensor, x: Tensor | None, g: Tensor, a: float, b: float, c: float, name: Tensor, *tail: Any) -> None:
    _step(affine_update, out, x, g, (a, b, c), name, *(tail or (None,) * 10))


def langevin_step(
    out: Tensor, x: Tensor | None, score: Tensor, step_size: float, temperature: float, name: Tensor, *tail: Any
) -> None:
    _step(langevin_update, out, x, score, (step_size, temperature), name, *(tail or (None,) * 9))


def _step(
    update: Callable[..., tuple[Tensor, Tensor]],
    out: Tensor,
    x: Tensor | None,
    g: Tensor,
    numbers: tuple[float, ...],
    name: Tensor,
    *tail: Any,
) -> None:
    *rows, mean, mask, low, high, clip, seeds, ids = tail
    x = out if x is None else x
    new_mean, value = update(x, g, normals(x.shape, name, seeds, ids), numbers, *rows, mask, low, high, clip)
    if mean is not None:
        mean.copy_(new_mean)
    out.copy_(value)


def loss_terms(
    pred: Tensor,
    kappa: float,
    lam: float,
    mu: float,
    weight: float,
    factor: float,
    over_kappa2: bool,
    reduction: int,
    name: Tensor | None,
    kappa_rows: Tensor | None = None,
    lam_rows: Tensor | None = None,
    mu_rows: Tensor | None = None,
    weight_rows: Tensor | None = None,
    z: Tensor | None = None,
    x0: Tensor | None = None,
    seeds: Tensor | None = None,
    ids: Tensor | None = None,
    kappa_positive: bool | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """(residual, loss weight per sample, gradient coefficient per sample), the last two in float64."""
    p = _work(pred)
    k, la, m, w = (
        _column(number, rows, pred) for number, rows in ((kappa, kappa_rows), (lam, lam_rows), (mu, mu_rows), (weight, weight_rows))
    )
    if over_kappa2 or kappa_positive:
        _require("dsm_loss", "sigma", k, positive=True)
    if over_kappa2:
        w = w / (k * k)
    w = factor * w
    if z is None:
        assert name is not None
        z = normals(pred.shape, name, seeds, ids)
    x0 = None if x0 is None else x0.to(p.dtype)
    r = residual(p, z.to(p.dtype), x0, k.to(p.dtype), la.to(p.dtype), m.to(p.dtype))
    return r, w, ((2.0 * w) * k) * (1.0 / max(_divisor(pred, reduction), 1))


def _divisor(pred: Tensor, reduction: int) -> int:
    """What the reduction divides the sum by: nothing, all elements (mean) or the samples (batchmean)."""
    return {3: pred.numel(), 4: pred.shape[0]}.get(reduction, 1)


def denoising_loss(loss: Tensor, grad: Tensor | None, pred: Tensor, *rest: Any) -> None:
    r, w, g = loss_terms(pred, *rest)
    reduction = rest[6]
    if reduction == 0:
        loss.copy_(w.to(r.dtype) * (r * r))
        return
    sums = (r.double() ** 2).reshape(pred.shape[0], math.prod(pred.shape[1:])).sum(1) * w.flatten()
    loss.copy_(sums if reduction == 1 else sums.sum() / _divisor(pred, reduction))
    if grad is not None:
        grad.copy_(g.to(r.dtype) * r)


def denoising_grad(grad: Tensor, grad_output: Tensor, pred: Tensor, *rest: Any) -> None:
    r, _, g = loss_terms(pred, *rest)
    grad.copy_((g.to(r.dtype) * r) * spread(grad_output, r))


def scale_(grad: Tensor, grad_output: Tensor) -> None:
    grad.mul_(spread(grad_output, grad))


def spread(grad_output: Tensor, r: Tensor) -> Tensor:
    """A loss of shape () or (B,) has a gradient per batch or per sample; an elementwise one has one per element."""
    g = grad_output.to(r.dtype)
    return g if g.shape == r.shape else g.reshape(-1, *[1] * (r.dim() - 1))


OPS: dict[str, Callable[..., None]] = {
    op.__name__: op for op in (normal_, uniform_, perturb, langevin_step, affine_step, denoising_loss, denoising_grad, scale_)
}
